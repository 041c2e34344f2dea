"""What was plain is sealed with the age that it has, in its place; what the SDK's class sealed keeps its own."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import Key
from encrypted_sessions.maintenance import discard, encrypt_plaintext, inventory, purge, reencrypt, verify
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.envelopes import kid_of, timestamp_of
from encrypted_sessions_tests.sealed_rows import MALFORMED, SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

HOUR = 3600


async def aged(place: StoreLocation, row_id_from_newest: int, hours: int) -> None:
    """Move a row's created time back, as the store's own clock reckons."""
    table = place.messages_table
    newest = f"(SELECT max(id) - {row_id_from_newest} FROM {table})"  # noqa: S608 - names of this test's own
    if place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection:
            await connection.execute(
                f"UPDATE {table} SET created_at = created_at - interval '{hours} hours' WHERE id = {newest}"  # noqa: S608
            )
    else:
        with stores._sqlite(place) as connection:
            connection.execute(
                f"UPDATE {table} SET created_at = datetime(created_at, '-{hours} hours') WHERE id = {newest}"  # noqa: S608
            )


async def test_plaintext_is_sealed_in_its_place_and_counts_from_when_it_was_written(
    place: StoreLocation, sealer: Sealer
):
    plain = [json.dumps(message(str(n))) for n in range(10)]
    rows = [plain[0], sealer.row(message("sealed"), sealer.older, age=9), *plain[1:]]
    began = int(time.time())
    await fill(place, {SESSION: rows})
    if place.kind != "redis":
        await aged(place, 0, 5)
    async with whole(place) as store:
        report = await encrypt_plaintext(store, sealer.ring, batch=3)
    assert report.ok
    assert (report.changed, report.plaintext, report.upstream, report.to_kid) == (10, 10, 0, sealer.active.kid)
    after = await raw_rows(place, SESSION)
    if place.kind == "sqlalchemy-postgres":  # which reads in the order of time
        assert timestamp_of(after.pop(0)) == pytest.approx(began - 5 * HOUR, abs=60)
    elif place.kind == "sqlite":
        assert timestamp_of(after.pop()) == pytest.approx(began - 5 * HOUR, abs=60)
    else:
        assert timestamp_of(after.pop()) == pytest.approx(began, abs=60)
        assert ["does not keep times" in notice for notice in report.notices] == [True]
    sealed = after.pop(1)
    assert sealed == rows[1], "what is sealed is left to reencrypt"
    for row in after:
        assert kid_of(row) == sealer.active.kid
        assert timestamp_of(row) == pytest.approx(began, abs=60)
    async with sealer.session(place, ttl=10 * HOUR) as session:
        expected = ["0", "sealed", *map(str, range(1, 10))]
        if place.kind == "sqlalchemy-postgres":
            expected = [expected.pop(), *expected]
        assert texts(await session.get_items()) == expected


async def test_a_row_that_claims_to_come_from_the_future_is_sealed_as_of_now(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [json.dumps(message("a"))]})
    await aged(file, 0, -100)
    async with whole(file) as store:
        assert (await encrypt_plaintext(store, sealer.ring)).ok
    assert timestamp_of((await raw_rows(file, SESSION))[0]) <= time.time()


async def test_rows_of_the_sdks_class_keep_their_tokens_time_and_are_left_without_the_string(
    place: StoreLocation, sealer: Sealer
):
    string = Key.generate("string")
    theirs = json.dumps({**sealer.envelope(message("theirs"), string, age=77), "kid": "hkdf-v1"})
    await fill(place, {SESSION: [theirs, json.dumps(message("plain"))]})
    async with whole(place) as store:
        without = await encrypt_plaintext(store, sealer.ring)
        assert (without.ok, without.plaintext, without.upstream) == (True, 1, 0)
        assert (await raw_rows(place, SESSION))[0] == theirs
        wrong = await encrypt_plaintext(store, sealer.ring, upstream_key=Key.generate("x").reveal_base64())
        assert (wrong.ok, wrong.changed, wrong.left) == (False, 0, {"unauthentic": 1})
        report = await encrypt_plaintext(store, sealer.ring, upstream_key=string.reveal_base64())
    assert (report.ok, report.plaintext, report.upstream) == (True, 0, 1)
    after = await raw_rows(place, SESSION)
    assert [kid_of(row) for row in after] == [sealer.active.kid] * 2
    assert timestamp_of(after[0]) == sealer.now - 77
    async with sealer.session(place, ttl=None) as session:
        assert texts(await session.get_items()) == ["theirs", "plain"]


async def test_rows_of_the_sdks_class_stamped_after_upstream_until_are_never_blessed(
    place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    string = Key.generate("string")
    old, forged = (
        json.dumps({**sealer.envelope(message("theirs"), string, age=age), "kid": "hkdf-v1"}) for age in (2 * HOUR, 0)
    )
    await fill(place, {SESSION: [old, forged]})
    ended = datetime.fromtimestamp(sealer.now - HOUR, timezone.utc)
    options: dict[str, Any] = {"upstream_key": string.reveal_base64(), "upstream_until": ended}
    async with whole(place) as store:
        assert (await verify(store, sealer.ring, **options)).left == {"unauthentic": 1}
        told = await inventory(store, sealer.ring, **options)
        assert (told.ok, told.left) == (False, {"unauthentic": 1})
        report = await encrypt_plaintext(store, sealer.ring, **options)
        assert (report.ok, report.upstream, report.left) == (False, 1, {"unauthentic": 1})
        assert [kid_of(row) for row in await raw_rows(place, SESSION)] == [sealer.active.kid, "hkdf-v1"]
        report = await reencrypt(store, sealer.ring, **options)
        assert (report.changed, report.left) == (0, {"unauthentic": 1})
        assert (await purge(store, sealer.ring, ttl=60, dry_run=True, **options)).left["unauthentic"] == 1
        gone = await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "forged.jsonl", **options)
        assert gone.changed == 1
        assert (await verify(store, sealer.ring)).ok


async def test_a_dry_run_counts_what_it_would_seal_and_is_not_well_until_there_is_nothing(
    place: StoreLocation, sealer: Sealer
):
    rows = [json.dumps(message("a")), sealer.ok("sealed"), '{"n": NaN}']
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await encrypt_plaintext(store, sealer.ring, dry_run=True)
        assert (report.ok, report.changed, report.plaintext, report.left) == (False, 1, 1, {"not_exact": 1})
        assert await raw_rows(place, SESSION) == rows
        await encrypt_plaintext(store, sealer.ring)
        again = await encrypt_plaintext(store, sealer.ring, dry_run=True)
        assert (again.ok, again.changed, again.left) == (False, 0, {"not_exact": 1})


async def test_a_second_run_changes_nothing(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [json.dumps(message("a"))]})
    async with whole(file) as store:
        await encrypt_plaintext(store, sealer.ring)
        before = await raw_rows(file, SESSION)
        again = await encrypt_plaintext(store, sealer.ring)
    assert (again.ok, again.changed) == (True, 0)
    assert await raw_rows(file, SESSION) == before


@pytest.mark.parametrize("row", ['{"n": NaN}', '{"n": -Infinity}', '{"n": 1e999}'])
async def test_plaintext_that_json_cannot_give_back_is_left_and_named(file: StoreLocation, sealer: Sealer, row: str):
    await fill(file, {SESSION: [row]})
    async with whole(file) as store:
        report = await encrypt_plaintext(store, sealer.ring)
    assert (report.ok, report.changed, report.left) == (False, 0, {"not_exact": 1})
    assert await raw_rows(file, SESSION) == [row]


@pytest.mark.parametrize("kind", [kind for kind in MALFORMED if "sealed" not in kind])
async def test_what_is_no_item_is_never_blessed(file: StoreLocation, sealer: Sealer, kind: str):
    row = sealer.of(kind)
    await fill(file, {SESSION: [row]})
    async with whole(file) as store:
        report = await encrypt_plaintext(store, sealer.ring)
    assert report.changed == 0
    assert await raw_rows(file, SESSION) == [row]


async def test_no_key_is_asked_for_but_the_active_one(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.of("unknown_key"), sealer.of("key_disabled"), json.dumps(message("a"))]})
    async with whole(file) as store:
        report = await encrypt_plaintext(store, sealer.ring)
    assert report.ok
    assert set(sealer.provider.asked) == {"active()"}


async def test_exactly_what_was_plain_opens(file: StoreLocation, sealer: Sealer):
    item = {"text": "é 😀 \u2028", "n": [1, 2.5, -0.0, None, True, 10**400], "nested": {"": {}}, "half": "\ud800"}
    await fill(file, {SESSION: [json.dumps(item), json.dumps(item, ensure_ascii=True, indent=2)]})
    async with whole(file) as store:
        assert (await encrypt_plaintext(store, sealer.ring)).changed == 2
    async with sealer.session(file) as session:
        assert await session.get_items() == [item, item]


async def test_a_row_of_bytes_that_are_no_text_is_malformed_and_left(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.ok("a")]})
    with contextlib.suppress(NotImplementedError):
        await stores.write_raw_row(file, SESSION, b'{"a": "\xff"}')
    async with whole(file) as store:
        report = await encrypt_plaintext(store, sealer.ring)
    assert report.left == {"malformed": 1}

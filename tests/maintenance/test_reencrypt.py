"""Everything that opens comes under the active key, with the age that it has, and nothing else changes."""

from __future__ import annotations

import json

import pytest

from encrypted_sessions import Key
from encrypted_sessions.maintenance import reencrypt
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.envelopes import kid_of, timestamp_of
from encrypted_sessions_tests.keyring_fakes import impatient_ring
from encrypted_sessions_tests.sealed_rows import AGE, MALFORMED, OUTCOMES, SESSION, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, raw_rows, replace_raw_row
from encrypted_sessions_tests.whole_stores import fill, whole


async def test_rows_of_older_keys_come_under_the_active_one_in_their_place_with_their_timestamps(
    place: StoreLocation, sealer: Sealer
):
    other = Sealer("user-2")
    other.active, other.older = sealer.active, sealer.older
    mine = [sealer.row(message(str(n)), (sealer.older, sealer.active)[n % 2], age=1000 * n) for n in range(40)]
    theirs = [other.row(message(f"other {n}"), sealer.older, age=n) for n in range(30)]
    await fill(place, {SESSION: mine, "user-2": theirs})
    async with whole(place) as store:
        report = await reencrypt(store, sealer.ring, batch=7)
    assert report.ok
    assert (report.changed, report.already, report.to_kid) == (50, 20, sealer.active.kid)
    assert report.found == {"ok": 50, "not_opened": 20}
    for session_id, before in ((SESSION, mine), ("user-2", theirs)):
        after = await raw_rows(place, session_id)
        assert [timestamp_of(row) for row in after] == [timestamp_of(row) for row in before]
        assert {kid_of(row) for row in after} == {sealer.active.kid}
    async with sealer.session(place, ttl=None) as session:
        assert texts(await session.get_items()) == [str(n) for n in range(40)]
    other.ring.close()
    # The older key is needed by nothing: a ring without it reads everything.
    alone = Sealer()
    alone.ring.close()
    alone.ring = impatient_ring(type(sealer.provider)(sealer.active))
    async with alone.session(place, ttl=None) as session:
        assert texts(await session.get_items()) == [str(n) for n in range(40)]
    alone.ring.close()


async def test_what_expired_or_lies_in_the_future_needs_the_new_key_too(place: StoreLocation, sealer: Sealer):
    await fill(
        place, {SESSION: [sealer.row(message("old"), sealer.older, age=AGE), sealer.row(message("new"), age=-AGE)]}
    )
    async with whole(place) as store:
        report = await reencrypt(store, sealer.ring)
    assert report.ok
    assert report.changed == 1
    rows = await raw_rows(place, SESSION)
    assert timestamp_of(rows[0]) == sealer.now - AGE


async def test_a_second_run_changes_nothing_and_opens_nothing(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: [sealer.row(message("a"), sealer.older)] * 20})
    async with whole(place) as store:
        await reencrypt(store, sealer.ring)
        before = await raw_rows(place, SESSION)
        again = await reencrypt(store, sealer.ring)
    assert again.ok
    assert (again.changed, again.already) == (0, 20)
    assert again.found == {"not_opened": 20}
    assert await raw_rows(place, SESSION) == before


@pytest.mark.parametrize(
    "kind", [kind for kind in OUTCOMES if outcome_of(kind) not in ("ok", "expired", "not_yet_valid")]
)
async def test_what_does_not_open_is_left_as_it_is(file: StoreLocation, sealer: Sealer, kind: str):
    active, sealer.active = sealer.active, sealer.older  # a row that names the active key is not looked into
    row = sealer.of(kind)
    sealer.active = active
    await fill(file, {SESSION: [row, sealer.row(message("a"), sealer.older)]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring)
    rows = await raw_rows(file, SESSION)
    assert rows[0] == row
    assert kid_of(rows[1]) == sealer.active.kid
    assert report.changed == 1
    # Plaintext has a command of its own, and of what is erased nothing can be expected.
    outcome = {"expired_unverified": "unknown_key"}.get(outcome_of(kind), outcome_of(kind))
    expected = {} if outcome in ("plaintext", "erased") else {outcome: 1}
    assert report.left == expected
    assert report.ok is not bool(expected)
    assert [(finding.session_id, finding.outcome) for finding in report.findings] == [
        (SESSION, name) for name in expected
    ]


def test_every_way_to_be_malformed_is_among_them():
    assert {kind for kind in OUTCOMES if outcome_of(kind) == "malformed"} == set(MALFORMED)


async def test_from_a_kid_leaves_the_rows_of_others_and_asks_for_no_other_key(file: StoreLocation, sealer: Sealer):
    third = Key.generate("third")
    sealer.provider._keys["third"] = third
    rows = [sealer.row(message("a"), sealer.older), sealer.row(message("b"), third), sealer.of("unknown_key")]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring, from_kid=third.kid)
    after = await raw_rows(file, SESSION)
    assert [kid_of(row) for row in after] == [sealer.older.kid, sealer.active.kid, sealer.unknown.kid]
    assert report.ok
    assert report.from_kid == third.kid
    assert "older" not in sealer.provider.asked
    assert "unknown" not in sealer.provider.asked


async def test_rows_of_the_sdks_class_move_when_their_string_is_given(file: StoreLocation, sealer: Sealer):
    string = Key.generate("string")
    row = json.dumps({**sealer.envelope(message("theirs"), string, age=77), "kid": "hkdf-v1"})
    await fill(file, {SESSION: [row]})
    async with whole(file) as store:
        without = await reencrypt(store, sealer.ring)
        assert (without.changed, without.left) == (0, {"unknown_key": 1})
        report = await reencrypt(store, sealer.ring, upstream_key=string.reveal_base64())
    assert report.ok
    (after,) = await raw_rows(file, SESSION)
    assert kid_of(after) == sealer.active.kid
    assert timestamp_of(after) == sealer.now - 77
    async with sealer.session(file, ttl=None) as session:
        assert texts(await session.get_items()) == ["theirs"]


async def test_a_kid_that_only_looks_like_the_active_one_is_moved(file: StoreLocation, sealer: Sealer):
    """The same key under another name: what is compared is the whole kid."""
    envelope = {**sealer.envelope(message("a")), "kid": f"~{sealer.active.fingerprint}"}
    await fill(file, {SESSION: [json.dumps(envelope)]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring)
    assert report.changed == 1
    (after,) = await raw_rows(file, SESSION)
    assert kid_of(after) == sealer.active.kid


async def test_a_text_of_another_form_counts_as_what_it_says(file: StoreLocation, sealer: Sealer):
    envelope = sealer.envelope(message("a"))
    await fill(file, {SESSION: [json.dumps({"kid": envelope.pop("kid"), **envelope}, indent=1)]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring)
    assert (report.changed, report.already) == (0, 1)


async def test_a_limit_ends_the_run_and_the_next_one_goes_on(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: [sealer.row(message(str(n)), sealer.older) for n in range(25)]})
    async with whole(place) as store:
        first = await reencrypt(store, sealer.ring, limit=10, batch=4)
        assert (first.changed, first.stopped, first.ok) == (10, "limit", False)
        second = await reencrypt(store, sealer.ring, limit=15)
        assert (second.changed, second.stopped, second.ok) == (15, None, True)
    async with sealer.session(place) as session:
        assert texts(await session.get_items()) == [str(n) for n in range(25)]


async def test_a_key_that_becomes_active_during_the_run_is_the_one_to_seal_with(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.row(message(str(n)), sealer.older) for n in range(20)]})
    fresh = Key.generate("fresh")

    async def rotate() -> None:
        sealer.provider._keys["fresh"] = sealer.provider._active = fresh
        await sealer.ring.refresh()

    async with whole(file) as store:
        calls = 0
        read = store.rows

        async def rows(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 3:
                await rotate()
            return await read(*arguments)  # type: ignore[arg-type]

        store.rows = rows  # type: ignore[assignment, method-assign]
        first = await reencrypt(store, sealer.ring, batch=5)
        assert first.to_kid == fresh.kid
        del store.rows  # type: ignore[attr-defined]
        second = await reencrypt(store, sealer.ring)
    assert (first.ok, first.left) == (False, {"former_key": 10}), "what was sealed before needs another run"
    assert second.ok
    assert {kid_of(row) for row in await raw_rows(file, SESSION)} == {fresh.kid}


async def test_a_row_that_somebody_changes_meanwhile_keeps_its_new_state(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.row(message(str(n)), sealer.older) for n in range(5)]})
    newer = sealer.row(message("newer"), sealer.older)
    async with whole(file) as store:
        replace = store.replace

        async def replace_late(changes: object) -> list[bool]:
            store.replace = replace  # type: ignore[method-assign]
            await replace_raw_row(file, SESSION, 2, newer)
            return await replace(changes)  # type: ignore[arg-type]

        store.replace = replace_late  # type: ignore[assignment, method-assign]
        report = await reencrypt(store, sealer.ring)
    assert report.ok, "the block was walked once more, and the new state moved too"
    assert report.changed == 5
    async with sealer.session(file) as session:
        assert texts(await session.get_items()) == ["0", "1", "newer", "3", "4"]

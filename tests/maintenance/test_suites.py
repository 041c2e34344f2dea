"""Rows go to suite 2 and back while agents go on, each with its time; realms are told by what opens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Key, UnreadableItemsError
from encrypted_sessions._support.session_names import logged_session
from encrypted_sessions.core import envelope
from encrypted_sessions.core.cipher import SessionCipher
from encrypted_sessions.maintenance import (
    discard,
    encrypt_plaintext,
    inventory,
    purge,
    put_back,
    reencrypt,
    verify,
)
from encrypted_sessions.maintenance import keys as keys_of_runs
from encrypted_sessions.maintenance.realms import session_opener
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.maintenance_command import report_of, run
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, open_store, raw_rows, replace_raw_row
from encrypted_sessions_tests.suite_2_rows import RealmSealer, altered, opened, told_by
from encrypted_sessions_tests.whole_stores import fill, whole

DAY = 86_400


@pytest.fixture
def second(sealer: Sealer) -> RealmSealer:
    """The same keys, and rows of suite 2."""
    return RealmSealer(like=sealer)


def of_realm(sealer: Sealer, realm: str) -> RealmSealer:
    found = RealmSealer(like=sealer)
    found.realm = realm
    return found


# -- There and back ------------------------------------------------------------------------------------


async def test_rows_come_into_suite_2_with_the_end_that_was_said_and_the_time_that_they_have(
    place: StoreLocation, sealer: Sealer, second: RealmSealer
):
    before = [
        sealer.row(message("a"), sealer.older, age=2 * DAY),
        sealer.row(message("b"), age=5),
        second.row(message("c"), sealer.older, age=7, lives_s=100),
        second.row(message("d"), age=9, lives_s=100),
    ]
    await fill(place, {SESSION: before})
    async with whole(place) as store:
        dry = await reencrypt(store, sealer.ring, suite=2, ttl=DAY, dry_run=True)
        assert await raw_rows(place, SESSION) == before
        report = await reencrypt(store, sealer.ring, suite=2, ttl=DAY)
        again = await reencrypt(store, sealer.ring, suite=2, ttl=DAY)
    for one in (dry, report):
        assert one.ok
        assert (one.changed, one.already, one.suite, one.suites) == (3, 1, 2, {1: 2, 2: 1})
        assert one.moved == {sealer.older.kid: 2, sealer.active.kid: 1}
    assert (again.changed, again.already, again.found) == (0, 4, {"not_opened": 4})
    after = await raw_rows(place, SESSION)
    told = [told_by(row) for row in after]
    now = sealer.now
    assert {(one.suite, one.kid) for one in told} == {(2, sealer.active.kid)}
    assert [one.created for one in told] == [now - 2 * DAY, now - 5, now - 7, now - 9]
    assert [one.expires for one in told] == [now - DAY, now - 5 + DAY, now - 7 + 100, now - 9 + 100]
    assert [opened(sealer.active, SESSION, row) for row in after] == [message(text) for text in "abcd"]
    assert told[2].id == told_by(before[2]).id, "under another key a row keeps its id"
    assert after[3] == before[3]


async def test_what_comes_from_suite_2_keeps_its_id_through_any_number_of_keys(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.row(message("a"), sealer.older)]})
    async with whole(file) as store:
        await reencrypt(store, sealer.ring, suite=2, ttl=None)
        (moved,) = await raw_rows(file, SESSION)
        for name in ("third", "fourth"):
            sealer.provider._keys[name] = sealer.provider._active = Key.generate(name)
            await sealer.ring.refresh()
            report = await reencrypt(store, sealer.ring)
            assert (report.changed, report.suite, report.suites) == (1, None, {2: 1})
            (row,) = await raw_rows(file, SESSION)
            assert told_by(row) == told_by(moved)._replace(kid=sealer.provider._active.kid)
            assert row != moved
    assert told_by(moved).expires is None, "and so says ttl=None"


async def test_back_in_suite_1_a_row_has_its_time_and_no_end_which_is_said(
    place: StoreLocation, sealer: Sealer, second: RealmSealer
):
    rows = [
        second.row(message("a"), sealer.older, age=50, lives_s=DAY),
        second.row(message("b"), age=40),
        sealer.row(message("c"), age=30),
    ]
    await fill(place, {SESSION: rows})
    lost = "1 of these rows {} one, and without it only a reader's ttl decides when they expire"
    async with whole(place) as store:
        dry = await reencrypt(store, sealer.ring, suite=1, dry_run=True)
        assert lost.format("have") in dry.notices[0]
        report = await reencrypt(store, sealer.ring, suite=1)
    assert report.ok
    assert (report.changed, report.already, report.suites) == (2, 1, {2: 2})
    assert lost.format("had") in report.notices[0]
    after = await raw_rows(place, SESSION)
    told = [told_by(row) for row in after]
    assert [(one.suite, one.kid, one.created) for one in told] == [
        (1, sealer.active.kid, sealer.now - age) for age in (50, 40, 30)
    ]
    async with sealer.session(place, ttl=None) as session:
        assert await session.get_items() == [message(text) for text in "abc"]


async def test_each_row_stays_in_its_suite_unless_it_is_said(file: StoreLocation, sealer: Sealer, second: RealmSealer):
    rows = [sealer.row(message("a"), sealer.older), second.row(message("b"), sealer.older), second.ok("c")]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring)
        assert (report.changed, report.already, report.suites, report.notices) == (2, 1, {1: 1, 2: 1}, ())
        only = await reencrypt(store, sealer.ring, suite=2, ttl=DAY, kids=[sealer.active.kid])
        assert (only.changed, only.suites, only.notices) == (1, {1: 1}, ()), "also of the active key alone"
    assert [told_by(row).suite for row in await raw_rows(file, SESSION)] == [2, 2, 2]


async def test_rows_of_the_sdks_class_come_into_suite_2(file: StoreLocation, sealer: Sealer):
    string = Key.generate("string")
    row = json.dumps({**sealer.envelope(message("theirs"), string, age=77), "kid": "hkdf-v1"})
    await fill(file, {SESSION: [row]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring, suite=2, ttl=DAY, upstream_key=string.reveal_base64())
    assert (report.ok, report.suites) == (True, {1: 1})
    (after,) = await raw_rows(file, SESSION)
    assert opened(sealer.active, SESSION, after) == message("theirs")
    assert told_by(after).expires == sealer.now - 77 + DAY


async def test_a_text_of_another_form_moves_too(file: StoreLocation, sealer: Sealer):
    envelope = sealer.envelope(message("a"))
    await fill(file, {SESSION: [json.dumps({"kid": envelope.pop("kid"), **envelope}, indent=1)]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring, suite=2, ttl=DAY)
        assert (report.changed, report.already) == (1, 0)
    (after,) = await raw_rows(file, SESSION)
    assert opened(sealer.active, SESSION, after) == message("a")


async def test_a_time_that_suite_2_has_no_bytes_for_stays_and_is_named(file: StoreLocation, sealer: Sealer):
    row = sealer.row(message("a"), age=sealer.now - 2**40)
    await fill(file, {SESSION: [row, sealer.row(message("b"), age=-DAY)]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring, suite=2, ttl=DAY)
    assert (report.changed, report.left) == (1, {"not_yet_valid": 1})
    rows = await raw_rows(file, SESSION)
    assert (rows[0], told_by(rows[1]).created) == (row, sealer.now + DAY)


async def test_what_does_not_open_stays_whatever_its_suite(file: StoreLocation, sealer: Sealer, second: RealmSealer):
    rows = [altered(second.ok("a")), sealer.of("unauthentic"), second.row(message("b"), sealer.unknown)]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        for there in ({"suite": 2, "ttl": DAY}, {"suite": 1}):
            report = await reencrypt(store, sealer.ring, **there)  # type: ignore[arg-type]
            assert report.changed == 0
            assert report.left["unknown_key"] == 1
    assert await raw_rows(file, SESSION) == rows


async def test_sessions_read_and_pop_what_was_moved_and_nothing_of_it_opens_elsewhere(
    place: StoreLocation, sealer: Sealer
):
    items = [message(text) for text in "abc"]
    new: dict[str, Any] = {"suite": 2, "oldest_suite": 2, "realm": "prod", "ttl": DAY}
    async with sealer.session(place, ttl=DAY) as session:
        await session.add_items(items[:2])  # type: ignore[arg-type]
    async with sealer.session(place, **new) as session:
        await session.add_items(items[2:])  # type: ignore[arg-type]
        assert (await session.read()).outcomes == {"ok": 1, "outdated": 2}
        async with whole(place) as store:
            assert (await reencrypt(store, sealer.ring, suite=2, ttl=DAY, realm="prod")).changed == 2
        assert await session.get_items() == items
        sealer.provider._keys["third"] = sealer.provider._active = Key.generate("third")
        await sealer.ring.refresh()
        async with whole(place) as store:
            assert (await reencrypt(store, sealer.ring, realm=["", "prod"])).changed == 3
            assert (await verify(store, sealer.ring, ttl=DAY, realm="prod")).found == {"ok": 3}
        assert await session.pop_item() == items[2]
        assert await session.get_items() == items[:2]
    async with sealer.session(place, **{**new, "realm": "staging"}) as session:
        assert (await session.read()).outcomes == {"ok": 0, "unauthentic": 2}


@pytest.fixture
def _suites_of_0_1_0(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The table of suites as 0.1.0 had it, with suite 1 alone."""
    forms = tuple(form for form in envelope._COMMON_FORMS if form[-1].version == 1)
    monkeypatch.setattr(envelope, "_COMMON_FORMS", forms)
    monkeypatch.setattr(envelope, "SUITES", {1: envelope.SUITES[1]})
    envelope.read_label.cache_clear()
    yield
    envelope.read_label.cache_clear()


@pytest.mark.usefixtures("_suites_of_0_1_0")
async def test_where_only_suite_1_is_known_a_row_of_suite_2_is_unsupported_and_nothing_deletes_it(
    place: StoreLocation, sealer: Sealer, second: RealmSealer, tmp_path: Path
):
    row = second.row(message("b"), sealer.older, age=DAY, lives_s=60)
    await fill(place, {SESSION: [sealer.expired(), sealer.row(message("a"), sealer.older), row]})
    async with sealer.session(place) as session:
        assert (await session.read()).outcomes == {"ok": 1, "expired": 1, "unsupported": 1}
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
        assert await session.purge_expired() == 1
    async with whole(place) as store:
        for report in (
            await purge(store, sealer.ring, ttl=60),
            await reencrypt(store, sealer.ring),
            await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "gone"),
            await encrypt_plaintext(store, sealer.ring),
            await verify(store, sealer.ring),
        ):
            assert report.found.get("unsupported", 0) + report.found.get("not_opened", 0) > 0
    assert (await raw_rows(place, SESSION))[-1] == row


# -- Realms --------------------------------------------------------------------------------------------


async def test_each_given_realm_is_tried_and_every_row_keeps_its_own(place: StoreLocation, sealer: Sealer):
    realms = ("", "prod", "staging")
    of = [of_realm(sealer, realms[n % 3]) for n in range(12)]
    rows = [one.row(message(str(n)), sealer.older) for n, one in enumerate(of)]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        two = await verify(store, sealer.ring, realm=["prod", ""])
        assert (two.found, two.left) == ({"ok": 8, "unauthentic": 4}, {"unauthentic": 4})
        report = await reencrypt(store, sealer.ring, realm=realms)
        assert (report.ok, report.changed) == (True, 12)
    after = await raw_rows(place, SESSION)
    for n, row in enumerate(after):
        assert [opened(sealer.active, SESSION, row, realm) for realm in realms if realm == realms[n % 3]] == [
            message(str(n))
        ]


async def test_the_realm_may_depend_on_the_session(file: StoreLocation, sealer: Sealer):
    tenants = {f"{name}/1": RealmSealer(f"{name}/1", name) for name in ("one", "two")}
    for one in tenants.values():
        one.ring.close()
        one.active, one.older = sealer.active, sealer.older
    plain = {name: Sealer(name) for name in tenants}
    for older in plain.values():
        older.ring.close()
        older.older = sealer.older
    await fill(
        file,
        {
            name: [one.row(message("a"), sealer.older), plain[name].row(message("b"), sealer.older)]
            for name, one in tenants.items()
        },
    )
    asked: list[str] = []

    def realm_of(session_id: str) -> str:
        asked.append(session_id)
        return session_id.partition("/")[0]

    async with whole(file) as store:
        assert (await verify(store, sealer.ring, realm=realm_of)).ok
        report = await reencrypt(store, sealer.ring, realm=realm_of, suite=2, ttl=None)
    assert (report.ok, report.changed) == (True, 4)
    assert set(asked) == set(tenants)
    for name, one in tenants.items():
        assert [opened(sealer.active, name, row, one.realm) for row in await raw_rows(file, name)] == [
            message("a"),
            message("b"),
        ]


@pytest.mark.parametrize("wrong", [LookupError("the tenants of zoe cannot be looked up"), 7, ["one", "two"]])
async def test_where_the_realm_of_a_session_cannot_be_told_the_run_ends_and_says_what_was_done(
    wrong: object, file: StoreLocation, sealer: Sealer
):
    answers: dict[str, object] = {"anna": "one", "ben": "two", "zoe": wrong}
    sealers = {name: Sealer(name) for name in answers}
    for one in sealers.values():
        one.ring.close()
    await fill(file, {name: [one.row(message("a"), sealer.older)] for name, one in sealers.items()})

    def realm_of(session_id: str) -> Any:
        answer = answers[session_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with whole(file) as store:
        first = await reencrypt(store, sealer.ring, realm=realm_of, suite=2, ttl=TTL, batch=1)
        assert (first.stopped, first.ok, first.changed) == ("realm", False, 2)
        told = str(first.stopped_because)
        assert logged_session("zoe") in told
        assert "zoe" not in told, "nor the error's own words"
        assert "what was done so far stays done" in told
        answers["zoe"] = "three"
        second = await reencrypt(store, sealer.ring, realm=realm_of, suite=2, ttl=TTL)
        assert (second.stopped, second.ok, second.changed) == (None, True, 1)
        assert (await verify(store, sealer.ring, realm=realm_of)).ok


async def test_a_session_of_several_realms_has_none_to_come_into(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        with pytest.raises(ValueError, match="it must give one"):
            await reencrypt(store, sealer.ring, realm=lambda _: ["one", "two"], suite=2, ttl=None)
        with pytest.raises(TypeError, match="what realm gives for a session must be a str"):
            await reencrypt(store, sealer.ring, realm=lambda _: 7, suite=2, ttl=None)  # type: ignore[arg-type, return-value]


async def test_a_row_of_another_realm_is_never_removed_as_unauthentic_but_by_who_says_that_there_is_none(
    place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    rows = [of_realm(sealer, "prod").ok("a"), altered(of_realm(sealer, "").ok("b")), sealer.of("unauthentic")]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "one")
        assert (report.changed, report.left, report.ok) == (1, {"in_another_realm": 2}, False)
        assert await raw_rows(place, SESSION) == rows[:2]
        sure = await discard(
            store,
            sealer.ring,
            outcome="unauthentic",
            export=tmp_path / "two",
            realm=["", "prod"],
            all_realms_given=True,
        )
        assert (sure.changed, sure.ok) == (1, True)
        assert await raw_rows(place, SESSION) == rows[:1]


# -- What else reads rows -------------------------------------------------------------------------------


async def test_inventory_counts_by_suite_and_knows_from_when_on_a_key_is_free(
    place: StoreLocation, sealer: Sealer, second: RealmSealer
):
    now = sealer.now
    rows = [
        sealer.row(message("a"), sealer.older, age=100),
        second.row(message("b"), sealer.older, age=90, lives_s=500),
        second.row(message("c"), sealer.older, age=80, lives_s=DAY),
    ]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await inventory(store, sealer.ring, ttl=600)
        assert report.suites == {1: 1, 2: 2}
        assert {(one.version, one.items, one.end) for one in report.groups} == {
            (1, 1, now - 100 + 600),
            (2, 2, now - 80 + 600),
        }
        (use,) = [use for use in report.keys if use.kid == sealer.older.kid]
        assert use.free_from == now - 80 + 600 + 1
        without = await inventory(store, sealer.ring)
        assert [use.free_from for use in without.keys] == [None, None]
        await reencrypt(store, sealer.ring, suite=2, ttl=DAY, kids=[sealer.older.kid])
        moved = await inventory(store, sealer.ring)
    assert moved.suites == {2: 3}
    (use,) = [use for use in moved.keys if use.kid == sealer.active.kid]
    assert use.free_from == now - 80 + DAY + 1, "without a ttl of the reader's the writer's end counts alone"


async def test_a_row_of_suite_2_that_names_another_key_is_told_by_the_one_that_opens_it(
    file: StoreLocation, sealer: Sealer
):
    stored = json.loads(of_realm(sealer, "prod").row(message("a"), sealer.older, lives_s=DAY))
    await fill(file, {SESSION: [json.dumps({**stored, "kid": sealer.active.kid}), sealer.ok("b")]})
    async with whole(file) as store:
        await sealer.ring.get(sealer.older.kid)
        report = await inventory(store, sealer.ring, realm=["", "prod"])
        assert report.left == {"mislabelled": 1}
        (use,) = [use for use in report.keys if use.kid == sealer.older.kid]
        assert (use.mislabelled, use.free_from) == (1, sealer.now + DAY + 1)
        without = await inventory(store, sealer.ring)
    assert without.left == {"unauthentic": 1}
    assert "or, of suite 2, in a realm that was not given" in without.conclusion


async def test_purge_goes_by_the_writers_end_and_by_the_readers(
    place: StoreLocation, sealer: Sealer, second: RealmSealer
):
    rows = [
        second.row(message("by the writer"), age=100, lives_s=99),
        second.row(message("in time"), age=100, lives_s=DAY),
        second.row(message("by the reader"), age=700, lives_s=DAY),
        second.row(message("without an end"), age=100),
    ]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        assert (await verify(store, sealer.ring)).found == {"expired": 1, "ok": 3}
        report = await purge(store, sealer.ring, ttl=600)
    assert (report.ok, report.changed) == (True, 2)
    assert await raw_rows(place, SESSION) == [rows[1], rows[3]]


async def test_a_call_that_its_writer_let_expire_stays_while_its_output_is_in_time(
    file: StoreLocation, sealer: Sealer, second: RealmSealer
):
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "done"}
    rows = [second.row(call, age=100, lives_s=50), second.row(output, age=90, lives_s=500)]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        kept = await purge(store, sealer.ring, ttl=DAY)
        assert (kept.changed, "1 expired tool call stays" in kept.notices[0]) == (0, True)
        await replace_raw_row(file, SESSION, 1, second.row(output, age=90, lives_s=60))
        assert (await purge(store, sealer.ring, ttl=DAY)).changed == 2


async def test_rows_of_destroyed_keys_are_counted_by_key_and_time(file: StoreLocation, sealer: Sealer):
    rows = [sealer.row(message(str(age)), sealer.destroyed, age=age) for age in (10, 500, 30)]
    rows.append(RealmSealer(like=sealer).row(message("2"), sealer.destroyed, age=20))
    await fill(file, {SESSION: [*rows, sealer.ok("a")]})
    async with whole(file) as store:
        report = await verify(store, sealer.ring)
    assert report.ok
    assert [(one.kid, one.version, one.items, one.oldest, one.newest) for one in report.erased] == [
        (sealer.destroyed.kid, 1, 3, sealer.now - 500, sealer.now - 10),
        (sealer.destroyed.kid, 2, 1, sealer.now - 20, sealer.now - 20),
    ]


async def test_what_was_exported_goes_back_if_it_opens_in_a_given_realm(
    file: StoreLocation, sealer: Sealer, tmp_path: Path
):
    prod = of_realm(sealer, "prod")
    rows = [prod.row(message("a"), age=1000), prod.row(message("b"), age=900)]
    await fill(file, {SESSION: rows})
    path = tmp_path / "gone"
    async with whole(file) as store:
        assert (await purge(store, sealer.ring, ttl=60, realm="prod", export=path)).changed == 2
        without = await put_back(store, sealer.ring, export=path)
        assert (without.changed, without.left) == (0, {"unverified": 2})
        assert (await put_back(store, sealer.ring, export=path, realm=["", "prod"])).changed == 2
    assert await raw_rows(file, SESSION) == rows


async def test_encrypt_leaves_rows_of_suite_2_in_peace(file: StoreLocation, sealer: Sealer, second: RealmSealer):
    rows = [second.ok("a"), json.dumps(message("b"))]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await encrypt_plaintext(store, sealer.ring, realm="prod")
    assert (report.ok, report.changed, report.found) == (True, 1, {"not_opened": 1, "plaintext": 1})
    after = await raw_rows(file, SESSION)
    assert (after[0], told_by(after[1]).suite) == (rows[0], 1)


# -- Bad input ------------------------------------------------------------------------------------------

TOO_LONG = "é" * 513


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"suite": True}, TypeError, "suite must be 1 or 2, not bool"),
        ({"suite": "2"}, TypeError, "suite must be 1 or 2, not str"),
        ({"suite": 3, "ttl": 1}, ValueError, "suite must be 1 or 2, not 3"),
        ({"suite": 0}, ValueError, "suite must be 1 or 2, not 0"),
        ({"suite": 2}, ValueError, "needs ttl="),
        ({"suite": 2, "ttl": True}, TypeError, "ttl must be"),
        ({"suite": 2, "ttl": 0}, ValueError, "ttl must be"),
        ({"ttl": 60}, ValueError, "ttl goes with suite=2"),
        ({"ttl": None}, ValueError, "ttl goes with suite=2"),
        ({"suite": 1, "ttl": 60}, ValueError, "ttl goes with suite=2"),
        ({"suite": 1, "realm": "prod"}, ValueError, "does not allow a realm"),
        ({"suite": 1, "realm": ["", "prod"]}, ValueError, "does not allow a realm"),
        ({"suite": 1, "realm": str.lower}, ValueError, "does not allow a realm"),
        ({"suite": 2, "ttl": 1, "realm": ["one", "two"]}, ValueError, "allows one realm"),
        ({"realm": None}, TypeError, "realm must be a str, a list of them, or a function"),
        ({"realm": b"prod"}, TypeError, "realm must be a str, a list of them, or a function"),
        ({"realm": []}, ValueError, "realm is empty"),
        ({"realm": [None]}, TypeError, "realm must be"),
        ({"realm": "a\0"}, ValueError, "realm"),
        ({"realm": "\ud800"}, ValueError, "realm"),
        ({"realm": ["", TOO_LONG]}, ValueError, "realm"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_changed(
    file: StoreLocation, sealer: Sealer, given: dict[str, Any], error: type[Exception], words: str
):
    rows = [sealer.row(message("a"), sealer.older)]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        with pytest.raises(error, match=words):
            await reencrypt(store, sealer.ring, **given)
    assert await raw_rows(file, SESSION) == rows


async def test_that_all_realms_are_given_goes_with_one_outcome(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: []})
    async with whole(file) as store:
        with pytest.raises(ValueError, match="goes only with the outcome 'unauthentic'"):
            await discard(store, sealer.ring, outcome="malformed", export="x", all_realms_given=True)
        with pytest.raises(TypeError, match="all_realms_given must be"):
            await discard(store, sealer.ring, outcome="unauthentic", export="x", all_realms_given=1)  # type: ignore[arg-type]


# -- The commands ---------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_commands_move_a_store_there_and_back(place: StoreLocation, sealer: Sealer, second: RealmSealer):
    rows = [sealer.row(message("a"), sealer.older), sealer.ok("b"), second.row(message("c"), lives_s=60)]
    asyncio.run(fill(place, {SESSION: rows}))
    counted = run(place, sealer, "inventory")
    assert "Of suite 1: 2 rows. Of suite 2: 1 row." in one_line(counted.stdout)
    said = one_line(run(place, sealer, "reencrypt", "--suite", "2", "--ttl", "1d").stdout)
    assert f"changed 1 {sealer.active.kid} sealed again under {sealer.active.kid}" in said
    assert "by suite 2 suite 1 now of suite 2" in said
    report = report_of(run(place, sealer, "inventory", "--json"))
    assert (report["suites"], report["exit_code"]) == ({"2": 3}, 0)
    assert run(place, sealer, "verify").exit_code == 0
    back = run(place, sealer, "reencrypt", "--suite", "1", "--realm", "")
    assert back.exit_code == 0, back.output
    assert "3 of these rows had one" in one_line(back.stdout)
    report = report_of(run(place, sealer, "reencrypt", "--suite", "2", "--ttl", "none", "--limit", "1", "--json"))
    assert (report["suite"], report["suites"], report["stopped"]) == (2, {"1": 1}, "limit")
    assert [told_by(row).expires for row in asyncio.run(raw_rows(place, SESSION))] == [None] * 3


def test_with_several_places_a_move_runs_dry_first_and_shows_the_suites(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTHER_KEYS", Key.generate("other").reveal_base64())
    rows = [sealer.ok("a"), sealer.row(message("b"), sealer.older)]
    asyncio.run(fill(file, {SESSION: rows}))
    places = ("--keys", "env:KEYS_OF_THE_TEST", "--keys", "env:OTHER_KEYS", "--all-sessions")
    dry = one_line(run(file, sealer, "reencrypt", "--suite", "2", "--ttl", "1d", *places).stdout)
    assert "by suite 2 suite 1 would be of suite 2" in dry
    assert "Dry run: nothing was sealed. With --yes 2 rows would be." in dry
    assert asyncio.run(raw_rows(file, SESSION)) == rows
    run(file, sealer, "reencrypt", "--suite", "2", "--ttl", "1d", *places, "--yes")
    assert [told_by(row).suite for row in asyncio.run(raw_rows(file, SESSION))] == [2, 2]


def test_every_command_that_opens_rows_takes_realms(place: StoreLocation, sealer: Sealer, tmp_path: Path):
    prod = of_realm(sealer, "prod")
    rows = [
        prod.row(message("old"), age=DAY),
        prod.row(message("a"), sealer.older),
        prod.ok("b"),
        of_realm(sealer, "").ok("c"),
    ]
    asyncio.run(fill(place, {SESSION: rows}))
    both = ("--realm", "prod", "--realm", "", "--json")
    alone = run(place, sealer, "verify", "--realm", "prod")
    assert alone.exit_code == 1
    assert "of suite 2, or of another realm" in one_line(alone.stdout)
    assert report_of(run(place, sealer, "verify", *both))["found"] == {"ok": 4}
    assert report_of(run(place, sealer, "inventory", *both))["found"] == {"ok": 4}
    export = ("--export", str(tmp_path / "purged"))
    assert report_of(run(place, sealer, "purge", "--ttl", "3600", "--yes", *export, *both))["changed"] == 1
    if place.kind != "redis":
        back = run(place, sealer, "put-back", "--from", export[1], "--yes", *both)
        assert report_of(back)["changed"] == 1
    assert report_of(run(place, sealer, "encrypt", "--yes", *both))["changed"] == 0
    assert report_of(run(place, sealer, "reencrypt", *both))["changed"] == 1
    left = report_of(run(place, sealer, "discard", "--outcome", "unauthentic", "--json"))
    assert list(left["left"]) == ["in_another_realm"]
    assert (
        report_of(run(place, sealer, "discard", "--outcome", "unauthentic", "--all-realms-given", *both))["changed"]
        == 0
    )
    assert report_of(run(place, sealer, "verify", *both))["exit_code"] == 0


def test_verify_shows_the_rows_of_destroyed_keys(file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    from encrypted_sessions.maintenance import keys as keys_module

    async def destroyed(*_: object) -> str:
        return "erased"

    monkeypatch.setattr(keys_module, "answer_for", destroyed)
    asyncio.run(fill(file, {SESSION: [sealer.row(message("a"), sealer.older)]}))
    shown = run(file, sealer, "verify")
    assert shown.exit_code == 0
    assert "destroyed key suite rows sessions oldest (UTC) newest (UTC)" in one_line(shown.stdout)
    assert f"{sealer.older.kid} 1 1 1 20" in one_line(shown.stdout)


def test_inspect_shows_the_end_that_a_writer_set(file: StoreLocation, sealer: Sealer, second: RealmSealer):
    rows = [sealer.ok("a"), second.row(message("b"), lives_s=60), second.ok("c")]
    asyncio.run(fill(file, {SESSION: rows}))
    told = json.loads(run(file, None, "inspect", "--session", SESSION, "--json").stdout)["rows"]
    assert [(row["form"], row["expires"]) for row in told] == [
        ("version 1", None),
        ("version 2", sealer.now + 60),
        ("version 2", None),
    ]
    assert "expires (UTC)" in run(file, None, "inspect", "--session", SESSION).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reencrypt", "--suite", "2"], "needs ttl= (--ttl)"),
        (["reencrypt", "--suite", "2", "--ttl", "soon"], "--ttl"),
        (["reencrypt", "--suite", "3", "--ttl", "1d"], "suite must be 1 or 2"),
        (["reencrypt", "--suite", "two", "--ttl", "1d"], "--suite"),
        (["reencrypt", "--ttl", "1d"], "goes with suite=2 (--suite 2)"),
        (["reencrypt", "--suite", "1", "--realm", "prod"], "does not allow a realm"),
        (["reencrypt", "--suite", "2", "--ttl", "1d", "--realm", "a", "--realm", "b"], "allows one realm"),
        (["verify", "--realm", "a\0"], "realm"),
        (["verify", "--realm", TOO_LONG], "realm"),
        (["discard", "--outcome", "malformed", "--all-realms-given"], "goes only with the outcome 'unauthentic'"),
    ],
)
def test_wrong_use_ends_with_2_and_changes_nothing(file: StoreLocation, sealer: Sealer, words: list[str], said: str):
    rows = [sealer.row(message("a"), sealer.older)]
    asyncio.run(fill(file, {SESSION: rows}))
    result = run(file, sealer, *words)
    assert result.exit_code == 2, result.output
    assert said in one_line(result.output)
    assert asyncio.run(raw_rows(file, SESSION)) == rows


# -- Keys with another name, other realms, limits ------------------------------------------------------


@pytest.mark.parametrize("suite", [1, 2])
async def test_no_key_is_called_free_that_a_row_needs_under_its_former_name(suite: int, sealer: Sealer):
    former = Key.generate("former")
    renamed, row = Key("renamed", former.secret), SessionCipher(former.secret, SESSION, former.kid, suite=suite)
    ring = impatient_ring(ScriptedKeys(sealer.active, renamed))
    store = MemoryStore(SESSION, [row.seal_row(message("a"), sealer.now)])
    report = await inventory(store, ring, require_free=[renamed.kid], replica_wait_s=0)
    ring.close()
    assert (dict(report.left), report.free, report.ok) == ({"mislabelled": 1}, (), False)
    assert list(report.not_free) == [renamed.kid]


async def test_a_call_stays_that_an_output_of_another_realm_may_answer(file: StoreLocation, sealer: Sealer):
    call = {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "paid"}
    rows = [sealer.row(call, age=4000), of_realm(sealer, "prod").row(output, age=10, lives_s=3600)]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        assert (await purge(store, sealer.ring, ttl=3600)).changed == 0
    async with open_store(file, SESSION) as bare:
        elsewhere = EncryptedSession(SESSION, bare, sealer.ring, 3600, suite=2, realm="staging")
        assert await elsewhere.purge_expired() == 0
    assert await raw_rows(file, SESSION) == rows


async def test_a_row_that_would_become_larger_than_sessions_read_stays_as_it_is(file: StoreLocation, sealer: Sealer):
    row = sealer.row(message("x" * 2000), age=5)
    await fill(file, {SESSION: [row]})
    async with whole(file) as store:
        report = await reencrypt(store, sealer.ring, suite=2, ttl=DAY, max_row_bytes=len(row))
    assert (report.ok, report.changed, dict(report.left)) == (False, 0, {"too_large": 1})
    assert await raw_rows(file, SESSION) == [row]


async def test_what_opens_rows_of_many_days_holds_keys_of_few(sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []

    def noted(*arguments: Any) -> Any:
        made.append(session_opener(*arguments))
        return made[-1]

    monkeypatch.setattr(keys_of_runs, "session_opener", noted)
    cipher = SessionCipher(sealer.active.secret, SESSION, sealer.active.kid, suite=2)
    rows = [cipher.seal_row(message("a"), sealer.now - days * DAY) for days in range(60)]
    assert (await verify(MemoryStore(SESSION, rows), sealer.ring)).found == {"ok": 60}
    assert len(made) > 1
    assert max(opener._key.cache_info().currsize for one in made for _, opener in one._openers) <= 16

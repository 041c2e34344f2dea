"""Sessions over suite 2: each outcome, whose end it is, what is outdated, realms, and keys that were destroyed."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest
from agents.extensions.memory import EncryptedSession as SdkEncryptedSession

from encrypted_sessions import EncryptedSession, Finding, UnreadableItemsError
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import OUTCOMES, SESSION, TTL, UNREADABLE, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.suite_2 import NEVER, Sealer2, open_row

KINDS_2 = tuple(kind for kind in OUTCOMES if not kind.startswith("malformed") or "sealed" in kind)


@pytest.fixture
def sealer2(sealer: Sealer) -> Sealer2:
    """With the keys of `sealer`."""
    other = Sealer2()
    other.__dict__.update(sealer.__dict__)
    return other


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("sqlite", request)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, sealer: Sealer) -> Any:
    """What time it is to sessions, which can be set."""

    class Clock:
        now = sealer.now

    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(Clock.now))
    return Clock


async def written(place: StoreLocation, sealer: Sealer, *rows: str) -> list[str]:
    async with sealer.session(place):  # so that the tables are there
        await write_rows(place, SESSION, list(rows))
    return list(rows)


@pytest.mark.parametrize("kind", KINDS_2)
async def test_a_row_ends_as_the_same_outcome_as_one_of_suite_1(
    place: StoreLocation, sealer2: Sealer2, kind: str
) -> None:
    rows = await written(place, sealer2, sealer2.ok("first"), sealer2.of(kind, "odd"), sealer2.ok("last"))
    outcome = outcome_of(kind)
    async with sealer2.session(place, suite=2, oldest_suite=2) as session:
        history = await session.read()
        assert texts(history.items) == (["first", "odd", "last"] if kind == "ok" else ["first", "last"])
        assert history.outcomes == ({"ok": 3} if kind == "ok" else {"ok": 2, outcome: 1})
        if kind in UNREADABLE:
            with pytest.raises(UnreadableItemsError) as raised:
                await session.get_items()
            assert raised.value.findings == (Finding(1, outcome, sealer2.kid_of(kind)),)
        assert await session.purge_expired() == (outcome == "expired")
        left = [row for row in rows if row is not rows[1] or outcome != "expired"]
        assert await raw_rows(place, SESSION) == left
        assert texts([await session.pop_item()]) == ["last"]
        if kind in UNREADABLE:
            with pytest.raises(UnreadableItemsError):
                await session.pop_item()
            assert await raw_rows(place, SESSION) == left[:-1]
        else:
            assert texts([await session.pop_item()]) == (["odd"] if kind == "ok" else ["first"])


async def test_it_writes_what_the_second_implementation_opens(place: StoreLocation, sealer: Sealer, clock: Any) -> None:
    async with sealer.session(place, suite=2, realm="prod") as session:
        await session.add_items([message("one"), message("two")])
        session.ttl = None
        await session.add_items([message("three")])
        assert texts(await session.get_items()) == ["one", "two", "three"]
    rows = [open_row(row, sealer.active.secret, SESSION, "prod") for row in await raw_rows(place, SESSION)]
    assert [row.item for row in rows] == [message("one"), message("two"), message("three")]
    assert [(row.flags, row.created, row.expires) for row in rows] == [
        (2, clock.now, clock.now + TTL),
        (2, clock.now, clock.now + TTL),
        (2, clock.now, NEVER),
    ]


async def test_padded_rows_of_short_items_have_one_length_in_either_suite(place: StoreLocation, sealer: Sealer) -> None:
    for suite in (1, 2):
        async with sealer.session(place, suite=suite, pad=True) as session:
            await session.add_items([message(text) for text in ("", "a", "b" * 200)])
            assert texts(await session.get_items()) == ["", "a", "b" * 200]
            assert len({len(row) for row in await raw_rows(place, SESSION)}) == 1
            await session.clear_session()


async def test_the_sooner_one_of_the_writers_end_and_the_readers_ttl_decides(
    place: StoreLocation, sealer2: Sealer2, clock: Any
) -> None:
    rows = [sealer2.around(json.dumps(message(text)).encode(), ttl=ttl) for text, ttl in (("a", 50), ("b", None))]
    await written(place, sealer2, *map(json.dumps, rows))
    start = sealer2.now
    for ttl, after, expected in (
        (100, 50, ["a", "b"]),
        (100, 51, ["b"]),
        (100, 100, ["b"]),
        (100, 101, []),
        (20, 20, ["a", "b"]),
        (20, 21, []),
        (None, 50, ["a", "b"]),
        (None, 51, ["b"]),
        (None, 10**9, ["b"]),
    ):
        clock.now = start + after
        async with sealer2.session(place, ttl=ttl) as session:
            assert texts(await session.get_items()) == expected, (ttl, after)


async def test_an_end_before_the_beginning_is_allowed_and_has_expired(
    place: StoreLocation, sealer2: Sealer2, clock: Any
) -> None:
    await written(place, sealer2, json.dumps(sealer2.around(b"{}", age=-10_000, ttl=-20_000)))
    async with sealer2.session(place, ttl=None) as session:
        assert (await session.read()).outcomes == {"ok": 0, "expired": 1}


@pytest.mark.parametrize("ttl", [None, 10**9])
async def test_purging_goes_by_the_writers_end_too(
    place: StoreLocation, sealer2: Sealer2, clock: Any, ttl: int | None
) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    ended, open_end, answered, answer = (
        json.dumps(sealer2.around(json.dumps(item).encode(), ttl=end))
        for item, end in ((message("a"), 5), (message("b"), None), (call, 5), (output, 500))
    )
    await written(place, sealer2, ended, open_end, answered, answer)
    clock.now += 6
    async with sealer2.session(place, ttl=ttl, purge_on_add=8, suite=2) as session:
        assert await session.purge_expired() == 1
        assert await raw_rows(place, SESSION) == [open_end, answered, answer]
        clock.now += 500
        await session.add_items([message("new")])
        assert (await raw_rows(place, SESSION))[:-1] == [open_end]


async def test_a_row_of_a_key_that_is_gone_claims_its_own_end(
    place: StoreLocation, sealer2: Sealer2, clock: Any
) -> None:
    rows = [sealer2.around(b"{}", sealer2.unknown, ttl=ttl) for ttl in (5, None)]
    await written(place, sealer2, *map(json.dumps, rows))
    clock.now += 6
    async with sealer2.session(place) as session:
        assert (await session.read()).outcomes == {"ok": 0, "expired_unverified": 1, "unknown_key": 1}


async def test_a_heap_of_rows_that_ended_by_their_writers_word_ends_no_search(
    place: StoreLocation, sealer2: Sealer2, clock: Any
) -> None:
    heap = [json.dumps(sealer2.around(b"{}", ttl=5))] * 64
    await written(place, sealer2, sealer2.row(message("old")), *heap)
    async with sealer2.session(place) as session:
        clock.now = sealer2.now + 5 + 121
        assert texts(await session.get_items(1)) == ["old"], "it has an end of its own"


# -- outdated -------------------------------------------------------------------------------------


async def test_a_row_of_suite_1_is_outdated_and_no_place_is_asked_for_its_key(
    place: StoreLocation, sealer: Sealer, sealer2: Sealer2
) -> None:
    rows = await written(
        place,
        sealer,
        sealer.expired(),
        sealer.of("unknown_key"),
        sealer.of("unauthentic"),
        json.dumps({**sealer.envelope(message("upstream")), "kid": "hkdf-v1"}),
        sealer.ok("good"),
        sealer2.ok("new"),
    )
    async with sealer.session(place, suite=2, oldest_suite=2) as session:
        history = await session.read()
        assert (texts(history.items), history.outcomes) == (["new"], {"ok": 1, "outdated": 5})
        assert sealer.unknown.name not in sealer.provider.asked
        with pytest.raises(UnreadableItemsError, match="oldest_suite=1"):
            await session.get_items()
        assert await session.purge_expired() == 0
        assert texts([await session.pop_item()]) == ["new"]
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
    assert await raw_rows(place, SESSION) == rows[:-1]


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"pad": "x" * 9_000}, "too_large"),
        ({"payload": "AAAA"}, "malformed"),
        ({"v": 3}, "unsupported"),
        ({}, "outdated"),
        ({"__enc__": ...}, "plaintext"),
    ],
)
async def test_the_order_of_questions_with_an_oldest_suite(
    place: StoreLocation, sealer: Sealer, change: dict[str, Any], outcome: str
) -> None:
    stored = {**sealer.envelope(message("x"), sealer.unknown, age=10_000), **change}
    stored = {name: value for name, value in stored.items() if value is not ...}
    await written(place, sealer, json.dumps(stored))
    async with sealer.session(place, suite=2, oldest_suite=2, max_row_bytes=8_192) as session:
        assert (await session.read()).outcomes == {"ok": 0, outcome: 1}


async def test_both_suites_are_read_side_by_side(place: StoreLocation, sealer: Sealer) -> None:
    async with sealer.session(place) as first, sealer.session(place, suite=2) as second:
        for number, session in enumerate((first, second, first, second)):
            await session.add_items([message(str(number))])
        for session in (first, second):
            assert texts(await session.get_items()) == ["0", "1", "2", "3"]
        assert [json.loads(row)["v"] for row in await raw_rows(place, SESSION)] == [1, 2, 1, 2]
        assert texts([await first.pop_item(), await second.pop_item()]) == ["3", "2"]


# -- Realms ---------------------------------------------------------------------------------------


async def test_a_row_of_another_realm_is_unauthentic_and_suite_1_knows_no_realm(
    place: StoreLocation, sealer: Sealer
) -> None:
    async with sealer.session(place, suite=2, realm="staging") as staging:
        await staging.add_items([message("tried out")])
    async with sealer.session(place, suite=1, realm="staging") as staging:
        await staging.add_items([message("either")])
    for realm, expected in (("staging", {"ok": 2}), ("prod", {"ok": 1, "unauthentic": 1})):
        async with sealer.session(place, realm=realm) as session:
            assert (await session.read()).outcomes == expected


async def test_a_string_reads_what_its_own_bytes_sealed_and_writes_suite_1_beside_it(
    place: StoreLocation, sealer: Sealer, sealer2: Sealer2
) -> None:
    await written(place, sealer, sealer2.ok("one"))
    async with sealer.session(place) as session:
        for key, expected in ((sealer.older, {"ok": 0, "unauthentic": 1}), (sealer.active, {"ok": 1})):
            string = base64.urlsafe_b64encode(key.secret).decode("ascii")
            other = EncryptedSession(SESSION, session.underlying_session, string, realm="")
            assert (await other.read()).outcomes == expected
        await other.add_items([message("two")])
    assert [json.loads(row)["v"] for row in await raw_rows(place, SESSION)] == [2, 1]


async def test_no_byte_of_the_kid_can_be_changed(place: StoreLocation, sealer: Sealer, sealer2: Sealer2) -> None:
    row = sealer2.envelope(message("one"))
    kid = row["kid"]
    kids = {kid[:at] + one + kid[at + 1 :] for at in range(len(kid)) for one in "~aZ0"} - {kid}
    kids |= {f"~{sealer.active.fingerprint}", sealer.older.kid, "hkdf-v1", "", kid + "0", "\u00e9"}
    await written(place, sealer, *(json.dumps({**row, "kid": one}) for one in sorted(kids)))
    async with sealer.session(place) as session:
        outcomes = dict((await session.read()).outcomes)
    assert outcomes.pop("ok") == 0
    assert set(outcomes) <= {"unauthentic", "unknown_key", "key_not_asked"}
    assert sum(outcomes.values()) == len(kids)


# -- Keys that were destroyed ---------------------------------------------------------------------


@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
async def test_rows_of_destroyed_keys_raise_where_that_is_wished(
    place: StoreLocation, sealer: Sealer, on_unreadable: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = await written(place, sealer, sealer.ok("one"), sealer.of("erased"))
    async with sealer.session(place, on_unreadable=on_unreadable) as session:
        assert texts(await session.get_items()) == ["one"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        async with sealer.session(place, on_unreadable=on_unreadable, on_erased="raise") as session:
            with pytest.raises(UnreadableItemsError, match="on_erased='skip'") as raised:
                await session.get_items()
            assert raised.value.outcomes == {"ok": 1, "erased": 1}
            assert raised.value.findings == (Finding(0, "erased", sealer.destroyed.kid),)
            assert (await session.read()).outcomes == {"ok": 1, "erased": 1}
            with pytest.raises(UnreadableItemsError, match="next to pop"):
                await session.pop_item()
    assert {record.getMessage() for record in caplog.records} == {"cannot be read: 1 erased"}
    assert await raw_rows(place, SESSION) == rows


async def test_the_sdks_class_skips_a_row_and_its_pop_destroys_it(place: StoreLocation, sealer: Sealer) -> None:
    """Why every process has this release before one writes suite 2."""
    async with sealer.session(place, suite=2) as session:
        await session.add_items([message("a")])
        of_the_sdk = SdkEncryptedSession(SESSION, session.underlying_session, sealer.active.reveal_base64())
        assert await of_the_sdk.get_items() == []
        assert len(await raw_rows(place, SESSION)) == 1
        assert await of_the_sdk.pop_item() is None
        assert await raw_rows(place, SESSION) == []

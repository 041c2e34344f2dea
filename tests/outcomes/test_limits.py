"""How many items come back, how far back the search goes, and what it costs the store."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from agents.memory import SessionSettings

from encrypted_sessions import EncryptedSession, EncryptedSessionError, UnreadableItemsError
from encrypted_sessions_tests.bulk_rows import counting, texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import KINDS, StoreLocation, new_place, open_store

HEAP = 100_000


@pytest.fixture(params=["sqlite", "redis", "plain"])
def some_place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def write_numbered(place: StoreLocation, sealer: Sealer, count: int) -> None:
    async with sealer.session(place):
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(count)])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 5), (0, 0), (1, 1), (3, 3), (5, 5), (6, 5), (10**6, 5), (2**63, 5), (10**30, 5)],
)
async def test_a_limit_gives_the_latest_in_order(
    place: StoreLocation, sealer: Sealer, limit: int | None, expected: int
):
    await write_numbered(place, sealer, 5)
    latest = ["0", "1", "2", "3", "4"][5 - expected :]
    async with sealer.session(place) as session:
        assert texts(await session.get_items(limit)) == latest
        history = await session.read(limit)
    assert (texts(history.items), history.outcomes) == (latest, {"ok": expected})


@pytest.mark.parametrize("limit", [255, 256, 257, 600, 1000, None])
async def test_a_history_of_many_pages_comes_back_whole_and_in_order(
    place: StoreLocation, sealer: Sealer, limit: int | None
):
    await write_numbered(place, sealer, 700)
    async with sealer.session(place) as session:
        found = texts(await session.get_items(limit))
    assert found == [str(number) for number in range(max(0, 700 - (limit or 700)), 700)]


@pytest.mark.parametrize("limit", [-1, -(10**30)])
async def test_a_negative_limit_is_refused(some_place: StoreLocation, sealer: Sealer, limit: int):
    async with sealer.session(some_place) as session:
        for ask in (session.get_items, session.read):
            with pytest.raises(ValueError, match=f"limit must be 0 or more, not {limit}"):
                await ask(limit)


@pytest.mark.parametrize("limit", [True, False, 1.0, "1", [1], object()])
async def test_a_limit_that_is_no_int_is_refused(some_place: StoreLocation, sealer: Sealer, limit: Any):
    async with sealer.session(some_place) as session:
        for ask in (session.get_items, session.read):
            with pytest.raises(TypeError, match="limit must be an int or None"):
                await ask(limit)


async def test_a_limit_of_zero_asks_neither_store_nor_provider(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.ok("one"), sealer.of("unauthentic")])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        async with counting(place, store) as fetched:
            assert await session.get_items(0) == []
            assert (await session.read(0)).outcomes == {"ok": 0}
        assert fetched.rows == 0
    assert sealer.provider.asked == []


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "plain"], indirect=True)
async def test_the_limit_of_the_settings_counts_unless_another_is_given(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION, session_settings=SessionSettings(limit=2)) as store:
        await write_rows(place, SESSION, [sealer.of("unauthentic"), *[sealer.ok(str(i)) for i in range(4)]])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        assert texts(await session.get_items()) == ["2", "3"]
        assert texts((await session.read()).items) == ["2", "3"]
        assert texts(await session.get_items(3)) == ["1", "2", "3"]
        session.session_settings = SessionSettings(limit=1)
        assert store.session_settings.limit == 1
        assert texts(await session.get_items()) == ["3"]
        session.session_settings = SessionSettings(limit=0)
        assert await session.get_items() == []
        session.session_settings = None
        with pytest.raises(UnreadableItemsError):
            await session.get_items()


@pytest.mark.parametrize("settings", [{"limit": 2}, SessionSettings(limit=2)])
async def test_a_structural_session_may_have_settings(sealer: Sealer, request: pytest.FixtureRequest, settings: Any):
    place = new_place("plain", request)
    await write_numbered(place, sealer, 4)
    async with open_store(place, SESSION) as store:
        store.session_settings = settings
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        assert texts(await session.get_items()) == ["2", "3"]


async def test_rows_left_out_do_not_count_against_the_limit(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok("a"), sealer.expired(), sealer.ok("b"), sealer.of("erased"), *[sealer.expired()] * 30]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [*rows, sealer.ok("c"), sealer.expired()])
        assert texts(await session.get_items(3)) == ["a", "b", "c"]
        assert texts(await session.get_items(2)) == ["b", "c"]


# -- The 64-row rule ----------------------------------------------------------------------------


async def found_beyond(place: StoreLocation, sealer: Sealer, rows: list[str], limit: int | None) -> list[str]:
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok("beyond"), *rows, sealer.ok("near")])
        return texts(await session.get_items(limit))


async def test_a_search_ends_after_64_rows_that_expired_long_ago(place: StoreLocation, sealer: Sealer):
    assert await found_beyond(place, sealer, [sealer.expired()] * 64, 5) == ["near"]


async def test_a_search_goes_on_after_63_of_them(place: StoreLocation, sealer: Sealer):
    assert await found_beyond(place, sealer, [sealer.expired()] * 63, 5) == ["beyond", "near"]


async def test_without_a_limit_all_rows_are_read(place: StoreLocation, sealer: Sealer):
    assert await found_beyond(place, sealer, [sealer.expired()] * 200, None) == ["beyond", "near"]


@pytest.mark.parametrize("kind", ["ok", "erased", "expired_unverified"])
async def test_only_consecutive_rows_count(some_place: StoreLocation, sealer: Sealer, kind: str):
    rows = [*[sealer.expired()] * 63, sealer.of(kind, "between"), *[sealer.expired()] * 63]
    between = ["between"] if kind == "ok" else []
    assert await found_beyond(some_place, sealer, rows, 9) == ["beyond", *between, "near"]


@pytest.mark.parametrize(("over", "ends"), [(120, False), (121, True)])
async def test_rows_that_expired_less_than_two_minutes_ago_do_not_count(
    some_place: StoreLocation, sealer: Sealer, over: int, ends: bool, monkeypatch: pytest.MonkeyPatch
):
    """Clocks and long batches differ by less."""
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(sealer.now))
    rows = [sealer.row(message("old"), age=TTL + over)] * 80
    assert await found_beyond(some_place, sealer, rows, 9) == (["near"] if ends else ["beyond", "near"])


async def test_an_unreadable_row_behind_the_64_is_not_reached(some_place: StoreLocation, sealer: Sealer):
    rows = [sealer.of("unauthentic"), *[sealer.expired()] * 64, sealer.ok("near")]
    async with sealer.session(some_place) as session:
        await write_rows(some_place, SESSION, rows)
        assert texts(await session.get_items(5)) == ["near"]
        with pytest.raises(UnreadableItemsError):
            await session.get_items()


async def test_an_output_whose_call_lies_beyond_the_64_is_left_out_with_it(some_place: StoreLocation, sealer: Sealer):
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    rows = [sealer.row(call), *[sealer.expired()] * 64, sealer.row(output), sealer.ok("near")]
    async with sealer.session(some_place) as session:
        await write_rows(some_place, SESSION, rows)
        history = await session.read(9)
    assert texts(history.items) == ["near"]
    assert history.outcomes == {"ok": 1, "expired": 64, "unpaired": 1}


# -- What it costs ------------------------------------------------------------------------------


async def test_a_heap_of_expired_rows_costs_next_to_nothing(place: StoreLocation, sealer: Sealer):
    limit = 50
    async with open_store(place, SESSION) as store:
        rows = [sealer.expired()] * HEAP + [sealer.ok(str(number)) for number in range(10)]
        await write_rows(place, SESSION, rows)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        async with counting(place, store) as fetched:
            found = texts(await session.get_items(limit=limit))
            asked_for = fetched.rows
        await store.clear_session()
    assert found == [str(number) for number in range(10)]
    assert 10 <= asked_for <= 2 * (limit + 64)


async def test_a_history_without_gaps_costs_no_row_more_than_it_gives(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(100)])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        async with counting(place, store) as fetched:
            assert len(await session.get_items(10)) == 10
            assert fetched.rows == 10


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the sessions logged: rings of other tests may have something to say at any time."""
    return [record.message for record in caplog.records if record.name == "encrypted_sessions"]


async def test_more_than_a_thousand_expired_rows_are_worth_one_warning(
    place: StoreLocation, sealer: Sealer, caplog: pytest.LogCaptureFixture
):
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [*[sealer.expired()] * 1000, sealer.ok("one")])
        with caplog.at_level(logging.WARNING, logger="encrypted_sessions"):
            await session.get_items()
            assert told(caplog) == []
            await write_rows(place, SESSION, [sealer.expired()])
            await session.get_items(100)
            assert told(caplog) == []
            for _ in range(3):
                assert texts(await session.get_items()) == ["one"]
    (warning,) = told(caplog)
    assert warning == "1001 expired items were read and left out; purge_expired() removes them"


# -- max_scan_items: a budget of rows for one call, as in the SDK's class -----------------------


def budgeted(store: Any, sealer: Sealer, budget: int | None) -> EncryptedSession:
    return EncryptedSession(SESSION, store, sealer.ring, TTL, budget)


@pytest.mark.parametrize("limit", [None, 6])
async def test_a_budget_that_suffices_changes_nothing(place: StoreLocation, sealer: Sealer, limit: int | None):
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(5)])
        assert len(await budgeted(store, sealer, 6).get_items(limit)) == 5
        assert len(await budgeted(store, sealer, 3).get_items(3)) == 3


@pytest.mark.parametrize("budget", [1, 4, 5])
async def test_a_budget_that_does_not_prove_the_end_is_an_error(place: StoreLocation, sealer: Sealer, budget: int):
    """Also when it is exactly the number of rows: nothing says then that there are no more."""
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(5)])
        with pytest.raises(RuntimeError, match="max_scan_items") as raised:
            await budgeted(store, sealer, budget).get_items()
        assert isinstance(raised.value, EncryptedSessionError)


@pytest.mark.parametrize("expired", [5, 30, 63])
@pytest.mark.parametrize("budget", [10, 60, 100, 500])
async def test_no_more_rows_than_the_budget_are_fetched(
    place: StoreLocation, sealer: Sealer, expired: int, budget: int
):
    """Rows that a store hands over a second time count again."""
    async with open_store(place, SESSION) as store:
        rows = [*[sealer.ok("beyond")] * 400, *[sealer.expired()] * expired, sealer.ok("near")]
        await write_rows(place, SESSION, rows)
        session = budgeted(store, sealer, budget)
        async with counting(place, store) as fetched:
            try:
                found = await session.get_items(50)
            except RuntimeError:
                found = None
            overlap = 0 if place.kind in ("plain", "advanced-sqlite") else 2  # where a page is joined to the last
            assert fetched.rows <= budget + overlap
    if budget == 500:
        assert texts(found or []) == [*["beyond"] * 49, "near"]
    if budget <= expired:
        assert found is None


async def test_a_budget_goes_with_the_64_row_rule(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [*[sealer.expired()] * 1000, sealer.ok("near")])
        assert texts(await budgeted(store, sealer, 250).get_items(10)) == ["near"]


async def test_a_budget_does_not_bind_read(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(5)])
        assert (await budgeted(store, sealer, 2).read()).outcomes == {"ok": 5}

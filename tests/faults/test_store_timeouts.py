"""Each call of a store ends within `store_timeout_s`, and what was begun then leaves an orderly history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, StoreTimeoutError
from encrypted_sessions.history.guarded import GuardedRows
from encrypted_sessions.stores import RowStore
from encrypted_sessions_tests import store_failures
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.store_failures import until_it_works
from encrypted_sessions_tests.stores import (
    REDIS_WITHOUT_EVAL,
    PlainSession,
    StoreLocation,
    new_place,
    open_store,
    raw_rows,
)

TIMEOUT_S = 0.3
SHIELD_S = 0.2

#: Far more than a call that is let go waits.
PATIENCE_S = 20.0


class HangingSession(PlainSession):
    """A structural session, some of whose methods hang until the test lets them go on."""

    def __init__(self, rows: list[Any], *hanging: str, shielded: bool = False) -> None:
        super().__init__(SESSION, rows)
        self.hanging = set(hanging)
        self.shielded = shielded
        self.goes_on = asyncio.Event()
        self.asked: list[str] = []

    async def _hang(self, name: str) -> None:
        self.asked.append(name)
        while name in self.hanging and not self.goes_on.is_set():
            try:
                await self.goes_on.wait()
            except asyncio.CancelledError:
                if not self.shielded:
                    raise

    async def get_items(self, limit: int | None = None) -> Any:
        await self._hang("get_items")
        return await super().get_items(limit)

    async def add_items(self, items: Any) -> None:
        await self._hang("add_items")
        await super().add_items(items)

    async def pop_item(self) -> Any:
        await self._hang("pop_item")
        return await super().pop_item()

    async def clear_session(self) -> None:
        await self._hang("clear_session")
        await super().clear_session()


def operations(session: EncryptedSession) -> dict[str, Callable[[], Awaitable[Any]]]:
    snapshot = {"snapshot": lambda: session._read_compaction_items(5)}
    return store_failures.operations(session, new="three") | snapshot


async def out_of_time(operation: Callable[[], Awaitable[Any]]) -> StoreTimeoutError:
    """The error of an operation whose store hangs."""
    began = time.monotonic()
    with pytest.raises(StoreTimeoutError) as caught:
        await asyncio.wait_for(operation(), PATIENCE_S)
    assert TIMEOUT_S / 2 < time.monotonic() - began < PATIENCE_S / 2
    assert SESSION not in str(caught.value)
    return caught.value


READS = ["get_items", "read", "pop_item", "purge_expired", "compaction", "snapshot"]


@pytest.mark.parametrize("shielded", [False, True], ids=["heeds", "ignores"])
@pytest.mark.parametrize("operation", READS)
async def test_a_read_that_hangs_ends_in_time_and_changes_nothing(sealer: Sealer, operation: str, shielded: bool):
    rows = [sealer.ok("one"), sealer.ok("two")]
    memory: list[Any] = list(rows)
    store = HangingSession(memory, "get_items", shielded=shielded)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=TIMEOUT_S)
    error = await out_of_time(operations(session)[operation])
    assert not error.in_doubt
    assert "HangingSession" in str(error)
    store.goes_on.set()
    assert texts(await session.get_items()) == ["one", "two"]
    assert memory == rows


@pytest.mark.parametrize(
    ("operation", "hanging", "left"),
    [
        ("add_items", "add_items", ["one", "two", "three"]),
        ("pop_item", "pop_item", ["one", "two"]),
        ("clear_session", "clear_session", []),
        ("compaction", "clear_session", ["both"]),
        ("compaction", "add_items", ["both"]),
    ],
)
@pytest.mark.parametrize("shielded", [False, True], ids=["heeds", "ignores"])
async def test_a_change_that_hangs_ends_in_time_and_goes_on(
    sealer: Sealer, operation: str, hanging: str, left: list[str], shielded: bool, caplog: pytest.LogCaptureFixture
):
    memory: list[Any] = [sealer.ok("one"), sealer.ok("two")]
    store = HangingSession(memory, hanging, shielded=shielded)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=TIMEOUT_S)
    error = await out_of_time(operations(session)[operation])
    assert error.in_doubt
    assert operation in str(error)
    assert not (await out_of_time(session.get_items)).in_doubt, "the next call waits, and no longer than it may"
    waiting = asyncio.ensure_future(session.get_items())
    await asyncio.sleep(TIMEOUT_S / 4)
    assert not waiting.done()
    store.goes_on.set()
    assert texts(await waiting) == left
    assert store.asked.count(hanging) == 1
    (record,) = (record for record in caplog.records if record.name == "encrypted_sessions")
    assert record.levelno == logging.WARNING
    assert f"{operation}, which was abandoned" in record.getMessage()


@pytest.mark.parametrize("operation", ["get_items", "add_items", "clear_session", "pop_item"])
async def test_a_cancelled_call_ends_though_the_store_shields_what_it_does(sealer: Sealer, operation: str):
    memory: list[Any] = [sealer.ok("one"), sealer.ok("two")]
    store = HangingSession(memory, operation, shielded=True)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    task = asyncio.ensure_future(operations(session)[operation]())
    await asyncio.sleep(0.05)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
    assert done
    assert task.cancelled()
    store.goes_on.set()
    left = {"add_items": ["one", "two", "three"], "clear_session": []}.get(operation, ["one", "two"])
    assert texts(await session.get_items()) == left


async def test_an_add_that_is_cancelled_and_heeds_it_adds_nothing(sealer: Sealer):
    memory: list[Any] = []
    store = HangingSession(memory, "add_items")
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    began = time.monotonic()
    with pytest.raises((TimeoutError, asyncio.TimeoutError)) as caught:
        await asyncio.wait_for(session.add_items([message("one")]), 0.05)
    assert not isinstance(caught.value, StoreTimeoutError)
    assert time.monotonic() - began < PATIENCE_S / 2
    store.goes_on.set()
    assert await session.get_items() == []


async def test_a_time_limit_of_the_caller_is_the_callers(sealer: Sealer):
    store = HangingSession([sealer.ok("one")], "get_items")
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    with pytest.raises((TimeoutError, asyncio.TimeoutError)) as caught:
        await asyncio.wait_for(session.get_items(), 0.05)
    assert not isinstance(caught.value, StoreTimeoutError)


@pytest.mark.parametrize("operation", ["get_items", "add_items", "pop_item"])
async def test_without_a_bound_a_call_waits_for_its_store(sealer: Sealer, operation: str):
    store = HangingSession([sealer.ok("one")], operation)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=None)
    task = asyncio.ensure_future(operations(session)[operation]())
    await asyncio.sleep(2 * TIMEOUT_S)
    assert not task.done()
    store.goes_on.set()
    await task


async def test_a_change_that_asks_its_own_session_does_not_wait_for_itself(sealer: Sealer):
    class AskingSession(HangingSession):
        async def add_items(self, items: Any) -> None:
            await self._hang("add_items")
            seen.append(texts(await session.get_items()))
            await PlainSession.add_items(self, items)

    seen: list[list[str]] = []
    store = AskingSession([sealer.ok("one")], "add_items")
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=TIMEOUT_S)
    await out_of_time(lambda: session.add_items([message("two")]))
    store.goes_on.set()
    assert texts(await session.get_items()) == ["one", "two"]
    assert seen == [["one"]]


async def test_each_call_has_its_time_and_not_all_of_them_together(sealer: Sealer):
    class SlowSession(HangingSession):
        async def _hang(self, name: str) -> None:
            await asyncio.sleep(TIMEOUT_S * 0.7)

    session = EncryptedSession.wrap(SlowSession([sealer.ok("one")]), sealer.ring, ttl=TTL, store_timeout_s=TIMEOUT_S)
    await session._atomic_replace_items([message("both")])
    assert await session.pop_item() == message("both")


@pytest.mark.parametrize("wrong", [0, -1, 0.0, float("nan"), float("inf"), True, False, "10", b"1"])
def test_store_timeout_s_is_a_positive_number_of_seconds_or_none(sealer: Sealer, wrong: Any):
    for make in (
        lambda: EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=TTL, store_timeout_s=wrong),
        lambda: EncryptedSession(SESSION, PlainSession(SESSION, []), sealer.ring, store_timeout_s=wrong),
    ):
        with pytest.raises((TypeError, ValueError), match="store_timeout_s must be"):
            make()


# -- Files that somebody else holds ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"])
@pytest.mark.parametrize("operation", ["add_items", "pop_item", "clear_session", "compaction"])
async def test_a_file_that_is_locked_for_longer(
    kind: str, operation: str, sealer: Sealer, request: pytest.FixtureRequest
):
    place = new_place(kind, request)
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.ok("one"), sealer.ok("two")])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=TIMEOUT_S)
        assert texts(await session.get_items()) == ["one", "two"]
        with contextlib.closing(sqlite3.connect(place.where, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert (await out_of_time(operations(session)[operation])).in_doubt
            other.execute("ROLLBACK")
        left = {"add_items": ["one", "two", "three"], "clear_session": [], "compaction": ["both"]}
        assert texts(await session.get_items()) == left.get(operation, ["one", "two"])


# -- Real servers that stop in the middle of a statement -------------------------------------------


@pytest.fixture(params=["redis", "asyncpg", "psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(driver: str, request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("redis" if driver == "redis" else "sqlalchemy-postgres", request)


@pytest.fixture
def server(driver: str, request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server = request.getfixturevalue("redis_server" if driver == "redis" else "postgres_server")
    yield server
    server.resume()


@contextlib.asynccontextmanager
async def session_over(place: StoreLocation, driver: str, sealer: Sealer) -> AsyncIterator[EncryptedSession]:
    """A session that has worked, with two items and an expired row."""
    reached = replace(place, where=place.where.replace("+asyncpg", f"+{driver}"))
    async with open_store(reached, SESSION) as store:
        await write_rows(place, SESSION, [sealer.expired(), sealer.ok("one"), sealer.ok("two")])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=TIMEOUT_S, shield_s=SHIELD_S)
        assert texts(await session.get_items()) == ["one", "two"]
        yield session


@pytest.mark.private_servers
@pytest.mark.parametrize("operation", ["get_items", "read", "add_items", "pop_item", "purge_expired", "clear_session"])
async def test_a_server_that_stands_still_ends_no_later_than_the_bound(
    place: StoreLocation, driver: str, server: Server, sealer: Sealer, operation: str
):
    async with session_over(place, driver, sealer) as session:
        server.pause()
        error = await out_of_time(operations(session)[operation])
        assert error.in_doubt == (operation in {"add_items", "clear_session"})
        server.resume()
        left = {"add_items": [["one", "two", "three"]], "clear_session": [[]]}.get(operation, [["one", "two"]])
        assert texts(await until_it_works(session.get_items)) in left
        if operation not in {"add_items", "clear_session"}:
            assert await until_it_works(session.pop_item) == message("two")


@pytest.mark.private_servers
@pytest.mark.parametrize("operation", ["pop_item", "purge_expired", "compaction"])
async def test_a_server_that_stops_before_a_change_leaves_it_in_doubt_and_in_order(
    place: StoreLocation,
    driver: str,
    server: Server,
    sealer: Sealer,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
):
    async with session_over(place, driver, sealer) as session:
        rows = session._sealed.rows
        for name in ("remove", "remove_any", "replace_tail"):
            change = getattr(rows, name)

            async def stop_and_change(*arguments: Any, change: Any = change) -> Any:
                server.pause()
                return await change(*arguments)

            monkeypatch.setattr(rows, name, stop_and_change)
        assert (await out_of_time(operations(session)[operation])).in_doubt
        assert not (await out_of_time(session.get_items)).in_doubt
        server.resume()
        left = ["both"] if operation == "compaction" else ["one", "two"]
        assert texts(await until_it_works(session.get_items)) == left
        if operation == "purge_expired":
            assert len(await raw_rows(place, SESSION)) == 2


@pytest.mark.private_servers
@pytest.mark.parametrize(
    ("operation", "stops_at"),
    [("get_items", "execute"), ("pop_item", "execute"), ("pop_item", "multi"), ("purge_expired", "multi")],
)
async def test_a_redis_without_scripts_that_stops_within_a_transaction_leaves_it_in_order(
    redis_server: Server,
    sealer: Sealer,
    operation: str,
    stops_at: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
):
    """In the middle of a read, and between the look at what is watched and the change."""
    import redis.asyncio.client

    place = new_place(REDIS_WITHOUT_EVAL, request)
    go_on = getattr(redis.asyncio.client.Pipeline, stops_at)

    def stop_and_go_on(*arguments: Any, **keywords: Any) -> Any:
        redis_server.pause()
        return go_on(*arguments, **keywords)

    try:
        async with session_over(place, "redis", sealer) as session:
            with monkeypatch.context() as patched:
                patched.setattr(redis.asyncio.client.Pipeline, stops_at, stop_and_go_on)
                error = await out_of_time(operations(session)[operation])
            assert error.in_doubt == (stops_at == "multi")
            redis_server.resume()
            assert texts(await until_it_works(session.get_items)) == ["one", "two"]
            assert await session.pop_item() == message("two")
    finally:
        redis_server.resume()


@pytest.mark.private_servers
@pytest.mark.parametrize("operation", ["get_items", "add_items", "pop_item", "clear_session"])
async def test_a_cancelled_call_of_a_server_that_stands_still_is_let_go(
    place: StoreLocation, driver: str, server: Server, sealer: Sealer, operation: str
):
    async with session_over(place, driver, sealer) as session:
        server.pause()
        task = asyncio.ensure_future(operations(session)[operation]())
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S / 2)
        assert done, "nobody can end this call"
        assert task.cancelled()
        server.resume()
        found = texts(await until_it_works(session.get_items))
        possible = {"add_items": (["one", "two"], ["one", "two", "three"]), "clear_session": ([], ["one", "two"])}
        assert found in possible.get(operation, (["one", "two"],))


def test_whatever_a_store_of_rows_can_be_asked_passes_the_door():
    asked = {name for name in vars(RowStore) if not name.startswith("_") and callable(getattr(RowStore, name))}
    # Asked of the class before there is an object; made of `page`; asked by the door itself; asks nothing of the store,
    # and what it gives stands behind the door of sessions.
    asked -= {"only_to_purge", "cursor", "reads_end_when_cancelled", "writer"}
    assert asked <= set(vars(GuardedRows))

"""A store that hangs holds no caller: whoever is cancelled is let go, and nothing is lost or taken twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, PutBackError, StoreTimeoutError
from encrypted_sessions.stores import Row, RowStore
from encrypted_sessions_tests.bulk_rows import as_json, texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.stores import PlainSession, StoreLocation, new_place, open_store, raw_rows

SHIELD_S = 0.2

#: Far more than a caller that is let go waits.
PATIENCE_S = 20.0


class HangingSession(PlainSession):
    """A structural session whose changes begin, and end when the test lets them."""

    def __init__(self, session_id: str, rows: list[Any]) -> None:
        super().__init__(session_id, rows)
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.takes_back = True

    async def pop_item(self) -> Any:
        item = await super().pop_item()
        self.begun.set()
        await self.goes_on.wait()
        return item

    async def add_items(self, items: Any) -> None:
        if not self.takes_back:
            raise OSError("no room")
        await super().add_items(items)

    async def clear_session(self) -> None:
        self.begun.set()
        await self.goes_on.wait()
        await super().clear_session()


async def let_go(operation: Awaitable[Any], begun: asyncio.Event) -> asyncio.CancelledError:
    """Cancel it once its change has begun; the CancelledError that ends it, soon after `SHIELD_S`."""
    caught: list[asyncio.CancelledError] = []

    async def run() -> None:
        try:
            await operation
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    task = asyncio.ensure_future(run())
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    await asyncio.sleep(SHIELD_S / 4)
    task.cancel()  # who is impatient gains nothing, and loses nothing
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
    assert done, "nobody can end this call"
    assert task.cancelled()
    return caught[0]


async def test_a_cancelled_pop_is_let_go_while_its_store_hangs(sealer: Sealer, caplog: pytest.LogCaptureFixture):
    rows = [sealer.ok("one"), sealer.ok("two")]
    memory: list[Any] = list(rows)
    store = HangingSession(SESSION, memory)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    error = await let_go(session.pop_item(), store.begun)
    assert isinstance(error.__cause__, StoreTimeoutError)
    assert error.__cause__.in_doubt
    assert len(memory) == 1  # the store has popped, and has not said so
    waiting = asyncio.ensure_future(session.get_items())
    await asyncio.sleep(0.05)
    assert not waiting.done(), "the next call has to wait for what was given up"
    store.goes_on.set()
    assert texts(await waiting) == ["one", "two"]
    assert memory == rows
    (record,) = (record for record in caplog.records if record.name == "encrypted_sessions")
    assert "pop_item, which was abandoned" in record.getMessage()
    assert record.levelno == logging.WARNING
    assert SESSION not in str(vars(record))


async def test_wait_for_around_a_pop_ends_in_time(sealer: Sealer):
    store = HangingSession(SESSION, [sealer.ok("one")])
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    began = time.monotonic()
    with pytest.raises((asyncio.TimeoutError, TimeoutError)):
        await asyncio.wait_for(session.pop_item(), 0.1)
    assert time.monotonic() - began < PATIENCE_S / 2
    store.goes_on.set()
    assert texts(await session.get_items()) == ["one"]


async def test_a_call_that_waits_for_what_was_given_up_is_cancelled_at_once(sealer: Sealer):
    rows = [sealer.ok("one")]
    memory: list[Any] = list(rows)
    store = HangingSession(SESSION, memory)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    await let_go(session.pop_item(), store.begun)
    calls: list[Callable[[], Awaitable[Any]]] = [
        session.get_items,
        session.read,
        session.pop_item,
        session.purge_expired,
        session.clear_session,
        lambda: session.add_items([message("two")]),
        lambda: session._atomic_replace_items([message("two")]),
    ]
    for operation in calls:
        task = asyncio.ensure_future(operation())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task}, timeout=SHIELD_S / 2)
        assert task.cancelled()
    store.goes_on.set()
    await session.read()
    assert memory == rows


async def test_a_compaction_that_was_given_up_ends_whole(sealer: Sealer):
    memory: list[Any] = [sealer.ok("one"), sealer.ok("two")]
    store = HangingSession(SESSION, memory)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    error = await let_go(session._atomic_replace_items([message("both")]), store.begun)
    assert isinstance(error.__cause__, StoreTimeoutError)
    store.goes_on.set()
    assert texts(await session.get_items()) == ["both"]


async def test_an_item_that_a_store_did_not_take_back_is_handed_to_the_next_call(sealer: Sealer):
    memory: list[Any] = [sealer.ok("one")]
    store = HangingSession(SESSION, memory)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    await let_go(session.pop_item(), store.begun)
    store.takes_back = False
    store.goes_on.set()
    with pytest.raises(PutBackError) as caught:
        await session.get_items()
    store.takes_back = True
    await store.add_items([caught.value.stored])
    assert texts(await session.get_items()) == ["one"]


async def test_what_was_given_up_goes_on_when_its_session_is_gone(sealer: Sealer):
    rows = [sealer.ok("one")]
    memory: list[Any] = list(rows)
    store = HangingSession(SESSION, memory)
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
    await let_go(session.pop_item(), store.begun)
    del session
    store.goes_on.set()
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if memory == rows:
            break
    assert memory == rows


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "10", None])
def test_shield_s_is_a_number_of_seconds(sealer: Sealer, wrong: Any):
    with pytest.raises((TypeError, ValueError), match="shield_s"):
        EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=TTL, shield_s=wrong)


# -- Real servers that stop while a change is on its way ------------------------------------------


@pytest.fixture(params=["redis", "sqlalchemy-postgres"])
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def server(place: StoreLocation, request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("redis_server" if place.kind == "redis" else "postgres_server")
    return server


@pytest.fixture
async def stopped(
    place: StoreLocation, server: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[EncryptedSession], asyncio.Event]]:
    """Stops the server (SIGSTOP) as soon as the session sends a change; the event says that it does."""
    begun = asyncio.Event()

    def stop_before_changes(session: EncryptedSession) -> asyncio.Event:
        rows = session._sealed.rows
        assert isinstance(rows, RowStore)
        for name in ("remove", "remove_any", "replace_tail"):
            change = getattr(rows, name)

            async def stop_and_change(*arguments: Any, change: Any = change) -> Any:
                server.pause()
                begun.set()
                return await change(*arguments)

            monkeypatch.setattr(rows, name, stop_and_change)
        return begun

    yield stop_before_changes
    server.resume()


@pytest.mark.private_servers
@pytest.mark.parametrize("operation", ["pop_item", "purge_expired", "compaction"])
async def test_a_server_that_stands_still_holds_no_caller(
    place: StoreLocation,
    server: Server,
    sealer: Sealer,
    stopped: Callable[[EncryptedSession], asyncio.Event],
    operation: str,
):
    rows = [sealer.expired(), sealer.ok("one"), sealer.ok("two")]
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, rows)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, shield_s=SHIELD_S)
        assert texts(await session.get_items()) == ["one", "two"]
        begun = stopped(session)
        change = {
            "pop_item": session.pop_item,
            "purge_expired": session.purge_expired,
            "compaction": lambda: session._atomic_replace_items([message("both")]),
        }[operation]
        error = await let_go(change(), begun)
        assert isinstance(error.__cause__, StoreTimeoutError)
        assert error.__cause__.in_doubt
        server.resume()
        left = {"pop_item": ["one", "two"], "purge_expired": ["one", "two"], "compaction": ["both"]}[operation]
        assert texts(await asyncio.wait_for(session.get_items(), PATIENCE_S)) == left
        stored = await raw_rows(place, SESSION)
        if operation == "pop_item" and place.kind != "redis":
            assert as_json(stored) == as_json(rows)  # rolled back before its commit, where there is one
        elif operation == "purge_expired":
            assert as_json(stored) == as_json(rows[1:])


async def test_a_pop_of_a_file_whose_caller_is_gone_is_rolled_back(
    sealer: Sealer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is put back where nothing was taken: the row keeps its number, so no other one comes between."""
    for kind in ("sqlite", "async-sqlite", "sqlalchemy-sqlite"):
        place = new_place(kind, request)
        rows = [sealer.ok("one"), sealer.ok("two")]
        async with open_store(place, SESSION) as store:
            await write_rows(place, SESSION, rows)
            session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
            access = session._sealed.rows
            assert isinstance(access, RowStore)
            before = await access.page(None, 5)
            begun, goes_on = asyncio.Event(), asyncio.Event()
            remove = access.remove

            async def slow_remove(
                due: Any, newest: Row, *, remove: Any = remove, begun: Any = begun, goes_on: Any = goes_on
            ) -> bool:
                begun.set()
                await goes_on.wait()
                return bool(await remove(due, newest))

            monkeypatch.setattr(access, "remove", slow_remove)
            task = asyncio.ensure_future(session.pop_item())
            await begun.wait()
            task.cancel()
            await asyncio.sleep(0)
            goes_on.set()
            await asyncio.wait({task})
            assert task.cancelled()
            assert await access.page(None, 5) == before

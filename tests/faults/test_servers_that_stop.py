"""A server that does not answer, or whose connections are cut: a clear error, and nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from encrypted_sessions import EncryptedSession
from encrypted_sessions_tests.bulk_rows import as_json, texts, write_rows
from encrypted_sessions_tests.cutting_proxy import CuttingProxy, Moment, proxy_to
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.stores import (
    REDIS_WITHOUT_EVAL,
    StoreLocation,
    new_place,
    open_store,
    raw_rows,
)

pytestmark = pytest.mark.private_servers

PATIENCE_S = 30.0
"""Far more than any operation takes: a test that waits so long has found a client that hangs."""


@pytest.fixture(params=["redis", REDIS_WITHOUT_EVAL, "sqlalchemy-postgres"])
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def server(place: StoreLocation, request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("redis_server" if place.kind == "redis" else "postgres_server")
    return server


def impatient(place: StoreLocation) -> dict[str, Any]:
    """Options with which the client gives up soon, and does not try again."""
    if place.kind == "redis":
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return {"redis_kwargs": {"socket_timeout": 0.3, "retry": Retry(NoBackoff(), 0)}}
    return {"engine_kwargs": {"connect_args": {"command_timeout": 0.3, "timeout": 1.0}, "pool_timeout": 2.0}}


def trying_again(place: StoreLocation) -> dict[str, Any]:
    """Options with which the client tries again, as Redis's does unless told otherwise."""
    if place.kind == "redis":
        from redis.asyncio.retry import Retry
        from redis.backoff import ConstantBackoff

        return {"redis_kwargs": {"retry": Retry(ConstantBackoff(0.01), 3)}}
    return {}


def errors_of_the_client(place: StoreLocation) -> tuple[type[Exception], ...]:
    if place.kind == "redis":
        from redis.exceptions import RedisError

        return (RedisError,)
    from sqlalchemy.exc import DBAPIError

    return (DBAPIError, asyncio.TimeoutError, TimeoutError, ConnectionError)


async def in_time(operation: Any) -> Any:
    return await asyncio.wait_for(operation, PATIENCE_S)


# -- A server that does not answer ----------------------------------------------------------------


async def test_a_server_that_does_not_answer_is_an_error_and_nothing_is_lost(
    place: StoreLocation, server: Server, sealer: Sealer
):
    rows = [sealer.ok("one"), sealer.ok("two")]
    async with open_store(place, SESSION, **impatient(place)) as store:
        await write_rows(place, SESSION, rows)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        assert texts(await session.get_items()) == ["one", "two"]
        for operation in (
            session.get_items,
            session.read,
            session.pop_item,
            lambda: session.add_items([message("three"), message("four")]),
        ):
            server.pause()
            try:
                with pytest.raises(errors_of_the_client(place)):
                    await in_time(operation())
            finally:
                server.resume()
            assert await in_time(wait_for_rows(place)) == rows
        assert texts(await in_time(until_it_works(session.get_items, place))) == ["one", "two"]
        assert await session.pop_item() == message("two")
    assert await raw_rows(place, SESSION) == rows[:1]


async def wait_for_rows(place: StoreLocation) -> list[Any]:
    """The rows that lie there once a server is back."""
    return list(await until_it_works(lambda: raw_rows(place, SESSION), place))


async def until_it_works(operation: Any, place: StoreLocation) -> Any:
    """A pool may hold connections that were broken meanwhile, and finds out one by one."""
    while True:
        with contextlib.suppress(*errors_of_the_client(place), OSError):
            return await operation()
        await asyncio.sleep(0.02)


async def test_a_server_that_stops_at_any_moment_of_popping_takes_at_most_what_was_asked_for(
    place: StoreLocation, server: Server, sealer: Sealer
):
    """A removal on its way to a server that stands still happens when it goes on, after its time-out.

    Then the client has said so with an error, and that one item is gone. No other one ever is.
    """
    rows = [sealer.ok(str(number)) for number in range(80)]
    popped: list[int] = []
    in_doubt = 0
    async with open_store(place, SESSION, **impatient(place)) as store:
        await write_rows(place, SESSION, rows)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.read(1)
        for moment in range(6):
            popping = asyncio.create_task(pop_until_it_fails(session, popped, errors_of_the_client(place)))
            await asyncio.sleep(0.003 * moment)
            server.pause()
            try:
                await in_time(popping)
            finally:
                server.resume()
            in_doubt += 1
            await in_time(until_it_works(session.get_items, place))
        left = [int(text) for text in texts(await session.get_items())]
    assert left == list(range(len(left)))
    assert popped == sorted(set(popped), reverse=True)
    assert len(left) + len(popped) >= len(rows) - in_doubt
    assert not set(left) & set(popped)
    assert as_json(await raw_rows(place, SESSION)) == as_json(rows[: len(left)])


async def pop_until_it_fails(session: EncryptedSession, popped: list[int], errors: tuple[type[Exception], ...]) -> None:
    with contextlib.suppress(*errors):
        while (item := await session.pop_item()) is not None:
            popped.append(int(texts([item])[0]))


# -- A connection that is cut ---------------------------------------------------------------------


MARKS = {
    # What a request of each operation holds, and no earlier one.
    ("redis", "get"): b"LRANGE",
    ("redis", "add"): b"RPUSH",
    ("redis", "pop"): b"RPOP",
    ("redis", "compact"): b"RPUSH",
    ("sqlalchemy-postgres", "get"): b"BEGIN",
    ("sqlalchemy-postgres", "add"): b"COMMIT",
    ("sqlalchemy-postgres", "pop"): b"COMMIT",
    ("sqlalchemy-postgres", "compact"): b"COMMIT",
}


class Line:
    """A session whose store is reached through a proxy."""

    def __init__(self, session: EncryptedSession, proxy: CuttingProxy) -> None:
        self.session = session
        self.proxy = proxy


@contextlib.asynccontextmanager
async def line_to(place: StoreLocation, sealer: Sealer, options: dict[str, Any]) -> AsyncIterator[Line]:
    port = urlsplit(place.where).port
    assert port is not None
    async with proxy_to(port) as proxy:
        reached = replace(place, where=place.where.replace(f":{port}/", f":{proxy.port}/"))
        async with open_store(reached, SESSION, **options) as store:
            session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
            await session.read(1)
            yield Line(session, proxy)


@pytest.mark.parametrize("retries", [False, True], ids=["once", "retries"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_cut_while_reading_loses_nothing(
    place: StoreLocation, sealer: Sealer, moment: Moment, retries: bool
):
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, [sealer.ok("one"), sealer.ok("two")])
    async with line_to(place, sealer, (trying_again if retries else impatient)(place)) as line:
        line.proxy.cut(moment, MARKS[place.kind, "get"])
        try:
            assert texts(await in_time(line.session.get_items())) == ["one", "two"]
        except errors_of_the_client(place):
            pass
        assert line.proxy.cuts == 1
        assert texts(await in_time(until_it_works(line.session.get_items, place))) == ["one", "two"]


@pytest.mark.parametrize("retries", [False, True], ids=["once", "retries"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_cut_while_adding_stores_the_batch_whole_or_not_at_all(
    place: StoreLocation, sealer: Sealer, moment: Moment, retries: bool
):
    """What the client does on its own, such as trying again, is the bare store's."""
    async with line_to(place, sealer, (trying_again if retries else impatient)(place)) as line:
        line.proxy.cut(moment, MARKS[place.kind, "add"])
        try:
            await in_time(line.session.add_items([message("one"), message("two")]))
            failed = False
        except errors_of_the_client(place):
            failed = True
        assert line.proxy.cuts == 1
        stored = texts(await in_time(until_it_works(line.session.get_items, place)))
        assert stored in ([[], ["one", "two"]] if failed else [["one", "two"]])
        if moment == "before" and failed:
            assert stored == []


@pytest.mark.parametrize("retries", [False, True], ids=["once", "retries"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_cut_while_popping_never_loses_an_item_in_silence(
    place: StoreLocation, sealer: Sealer, moment: Moment, retries: bool
):
    """If the answer is lost the item may be gone; then there is an error, and no other item instead."""
    rows = [sealer.ok(text) for text in ("one", "two", "three")]
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, rows)
    async with line_to(place, sealer, (trying_again if retries else impatient)(place)) as line:
        line.proxy.cut(moment, MARKS[place.kind, "pop"])
        item: Any = None
        with contextlib.suppress(*errors_of_the_client(place)):
            item = await in_time(line.session.pop_item())
        assert line.proxy.cuts == 1
        left = texts(await in_time(until_it_works(line.session.get_items, place)))
    assert item in (None, message("three"))
    if item is not None or moment == "after":
        assert left in (["one", "two"], ["one", "two", "three"])
        assert item is None or left == ["one", "two"]
    else:
        assert left == ["one", "two", "three"]


@pytest.mark.parametrize("retries", [False, True], ids=["once", "retries"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_cut_while_compacting_leaves_the_old_history_or_the_new_one(
    place: StoreLocation, sealer: Sealer, moment: Moment, retries: bool
):
    old, new = ["one", "two", "three"], ["summary"]
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, [sealer.ok(text) for text in old])
    async with line_to(place, sealer, (trying_again if retries else impatient)(place)) as line:
        snapshot = await line.session._get_compaction_snapshot(10)
        line.proxy.cut(moment, MARKS[place.kind, "compact"])
        replaced: Any = None
        with contextlib.suppress(*errors_of_the_client(place)):
            replaced = await in_time(snapshot.replace_suffix(0, [message("summary")]))
        assert line.proxy.cuts == 1
        stored = texts(await in_time(until_it_works(line.session.get_items, place)))
    assert stored in (old, new)
    if replaced:
        assert stored == new
    if moment == "before" and not replaced:
        assert stored == old

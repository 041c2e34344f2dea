"""A server that crashes in the middle of a batch or a pop: what was acknowledged is there once, in its order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from encrypted_sessions import EncryptedSession, StoreError, StoreTimeoutError, StoreUnavailableError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import TTL, Sealer, message
from encrypted_sessions_tests.servers import PostgresServer, RedisServer, Server
from encrypted_sessions_tests.store_failures import PATIENCE_S, SESSION, failure, operations, until_it_works
from encrypted_sessions_tests.stores import (
    REDIS_WITHOUT_EVAL,
    WITHOUT_EVAL,
    StoreLocation,
    new_place,
    open_store,
    set_redis_rights,
)

pytestmark = pytest.mark.private_servers

#: What each batch has; it is there whole, or not at all.
_PARTS = 3


@pytest.fixture(scope="module")
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One that keeps what is committed, as PostgreSQL is shipped."""
    request.getfixturevalue("_postgres")  # skips, or fails, where there is none
    with PostgresServer(as_shipped=True) as server:
        yield server


@pytest.fixture(scope="module")
def lasting_redis(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One that keeps what it has acknowledged."""
    request.getfixturevalue("_redis")
    with RedisServer({"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


class Way(NamedTuple):
    """To a server, by one driver."""

    store: str
    server: Server
    where: Callable[[], str]

    def place(self) -> StoreLocation:
        return StoreLocation(
            "redis" if self.store == "RedisSession" else "sqlalchemy-postgres",
            self.where(),
            f"t{uuid.uuid4().hex[:12]}",
        )


@pytest.fixture(params=["asyncpg", "psycopg", "redis", REDIS_WITHOUT_EVAL])
def way(request: pytest.FixtureRequest) -> Way:
    kind = request.param
    if "redis" not in kind:
        server: Server = request.getfixturevalue("postgres")
        return Way("SQLAlchemySession", server, lambda: server.url.replace("+asyncpg", f"+{kind}"))
    server = request.getfixturevalue("lasting_redis")

    def where() -> str:
        if kind == "redis":
            return server.url
        set_redis_rights(server.url, "app", *WITHOUT_EVAL)  # which it forgets when it ends
        return server.url.replace("redis://", "redis://app:app@")

    return Way("RedisSession", server, where)


@contextlib.asynccontextmanager
async def session_over(place: StoreLocation, sealer: Sealer) -> AsyncIterator[EncryptedSession]:
    async with open_store(place, SESSION) as store:
        yield EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=10)


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    ends = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < ends
        await asyncio.sleep(0.001)


async def add_until_it_fails(session: EncryptedSession, acknowledged: list[int]) -> None:
    for number in itertools.count(len(acknowledged)):
        await session.add_items([message(f"{number}/{part}") for part in range(_PARTS)])
        acknowledged.append(number)


async def pop_until_it_fails(session: EncryptedSession, popped: list[str]) -> None:
    while True:
        popped += texts([await session.pop_item()])


async def crash(work: asyncio.Task[None], way: Way, is_time: Callable[[], bool]) -> StoreError:
    """End the server at once when it is time; the error that the work then ends with, of a server that is back."""
    await until(is_time)
    way.server.kill()
    try:
        with pytest.raises(StoreUnavailableError) as caught:
            await asyncio.wait_for(work, PATIENCE_S)
    finally:
        way.server.start()
        way.where()
    assert not isinstance(caught.value, StoreTimeoutError), "it was noticed, and not waited for"
    assert "ry again when it answers" in str(caught.value)
    return caught.value


def batches_of(items: list[Any]) -> list[int]:
    """The numbers of the batches that are there, each of which is whole."""
    found = [int(text.split("/")[0]) for text in texts(items)[::_PARTS]]
    assert texts(items) == [f"{number}/{part}" for number in found for part in range(_PARTS)]
    return found


async def test_what_was_acknowledged_outlives_a_crash(way: Way, sealer: Sealer):
    acknowledged: list[int] = []
    popped: list[str] = []
    async with session_over(place := way.place(), sealer) as session:
        adding = asyncio.create_task(add_until_it_fails(session, acknowledged))
        error = await crash(adding, way, lambda: len(acknowledged) >= 4)
        assert "read the items again before you retry" in str(error)
        stored = batches_of(await until_it_works(session.get_items))
        assert stored in (acknowledged, [*acknowledged, len(acknowledged)])  # the last one is in doubt
        all_of_them = [f"{number}/{part}" for number in stored for part in range(_PARTS)]
        popping = asyncio.create_task(pop_until_it_fails(session, popped))
        await crash(popping, way, lambda: len(popped) >= 5)
        left = texts(await until_it_works(session.get_items))
        assert popped == all_of_them[::-1][: len(popped)]
        assert left in (all_of_them[: -len(popped)], all_of_them[: -len(popped) - 1])
        await session.add_items([message("and on")])
    async with session_over(place, sealer) as session:
        assert texts(await session.get_items()) == [*left, "and on"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("operation", ["add_items", "pop_item", "clear_session", "compaction"])
async def test_a_change_that_was_under_way_in_a_crash_has_not_happened(
    postgres: Server, driver: str, operation: str, sealer: Sealer
):
    """It waits for a lock when the server stops at once (`pg_ctl stop -m immediate`)."""
    way = Way("SQLAlchemySession", postgres, lambda: postgres.url.replace("+asyncpg", f"+{driver}"))
    place = way.place()
    async with (
        session_over(place, sealer) as session,
        stores._postgres(StoreLocation(place.kind, postgres.url, place.prefix)) as other,
    ):
        await write_rows(StoreLocation(place.kind, postgres.url, place.prefix), SESSION, list(map(sealer.ok, "ab")))
        assert texts(await session.get_items()) == ["a", "b"]
        await other.execute(f"BEGIN; LOCK TABLE {place.messages_table} IN SHARE ROW EXCLUSIVE MODE")
        working = asyncio.ensure_future(operations(session)[operation]())
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not await other.fetchval(waits):
            assert not working.done()
        await crash(working, way, lambda: True)
        assert texts(await until_it_works(session.get_items)) == ["a", "b"]
        assert await session.pop_item() == message("b")


async def test_a_redis_that_keeps_nothing_comes_back_empty(
    redis_server: Server, sealer: Sealer, request: pytest.FixtureRequest
):
    """That is told beforehand, by the doctor: nothing else can."""
    async with session_over(new_place("redis", request), sealer) as session:
        await session.add_items([message("one"), message("two")])
        redis_server.kill()
        for name, operation in operations(session).items():
            error = await failure(operation, StoreUnavailableError, store="RedisSession", cure="ry again when it")
            assert bool(re.search("read the items again", str(error))) == (name in {"add_items", "clear_session"})
        redis_server.start()
        assert await until_it_works(session.get_items) == []
        await session.add_items([message("three")])
        assert texts(await session.get_items()) == ["three"]
        assert await session.pop_item() == message("three")
        assert await session.pop_item() is None

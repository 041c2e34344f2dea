"""No connection is left, in a pool or at the server: the error names the cure, and with one it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, StoreUnavailableError
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.sealed_rows import TTL, Sealer, message
from encrypted_sessions_tests.servers import PostgresServer
from encrypted_sessions_tests.store_failures import SESSION, failure, operations
from encrypted_sessions_tests.stores import StoreLocation, new_place, open_store

_CURE = "All allowed connections are in use: allow more, or close some, and try again"


def wrapped(store: Any, sealer: Sealer) -> EncryptedSession:
    return EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=10)


@contextlib.asynccontextmanager
async def redis_session(place: StoreLocation, pool: Any, sealer: Sealer) -> AsyncIterator[EncryptedSession]:
    import redis.asyncio
    from agents.extensions.memory import RedisSession

    client = redis.asyncio.Redis(connection_pool=pool)
    try:
        yield wrapped(RedisSession(SESSION, redis_client=client, key_prefix=place.prefix), sealer)
    finally:
        await client.aclose()
        await pool.disconnect()


@pytest.mark.parametrize("waits", [True, False], ids=["BlockingConnectionPool", "ConnectionPool"])
@pytest.mark.parametrize("operation", ["get_items", "add_items", "pop_item", "clear_session"])
async def test_a_pool_of_redis(waits: bool, operation: str, sealer: Sealer, request: pytest.FixtureRequest):
    import redis.asyncio
    from redis.exceptions import ConnectionError as RedisConnectionError

    place = new_place("redis", request)
    pool: Any = (
        redis.asyncio.BlockingConnectionPool.from_url(place.where, max_connections=1, timeout=0.1)
        if waits
        else redis.asyncio.ConnectionPool.from_url(place.where, max_connections=1)
    )
    async with redis_session(place, pool, sealer) as session:
        await session.add_items([message("one")])
        held = await pool.get_connection()
        await failure(
            operations(session)[operation],
            StoreUnavailableError,
            RedisConnectionError,
            store="RedisSession",
            cure=_CURE,
        )
        await pool.release(held)
        assert texts(await session.get_items()) == ["one"]
        assert await session.pop_item() == message("one")


@pytest.mark.private_servers
async def test_a_redis_that_takes_no_more_clients(redis_url: str, sealer: Sealer, request: pytest.FixtureRequest):
    import redis.asyncio

    place = new_place("redis", request)
    async with redis.asyncio.from_url(redis_url) as owner:
        before = (await owner.config_get("maxclients"))["maxclients"]
        await owner.config_set("maxclients", (await owner.info("clients"))["connected_clients"])
        try:
            async with open_store(place, SESSION) as store:
                session = wrapped(store, sealer)
                for operation in ("get_items", "add_items", "pop_item"):
                    await failure(
                        operations(session)[operation], StoreUnavailableError, store="RedisSession", cure=_CURE
                    )
                await owner.config_set("maxclients", before)
                await session.add_items([message("one")])
                assert texts(await session.get_items()) == ["one"]
        finally:
            await owner.config_set("maxclients", before)


@pytest.mark.private_servers
async def test_a_postgresql_that_takes_no_more_clients(sealer: Sealer, request: pytest.FixtureRequest):
    import asyncpg  # type: ignore[import-untyped]  # it ships no types
    from agents.extensions.memory import SQLAlchemySession

    request.getfixturevalue("_postgres")  # skips, or fails, where there is none
    with PostgresServer({"max_connections": "6"}) as server:
        place = StoreLocation("sqlalchemy-postgres", server.url, "t")
        async with open_store(place, SESSION) as store:
            await wrapped(store, sealer).add_items([message("one")])
        address = server.url.replace("+asyncpg", "")
        others = await asyncio.gather(*(asyncpg.connect(address) for _ in range(6)))
        sessions = [
            wrapped(
                SQLAlchemySession.from_url(
                    SESSION,
                    url=server.url.replace("+asyncpg", f"+{driver}"),
                    sessions_table=place.sessions_table,
                    messages_table=place.messages_table,
                ),
                sealer,
            )
            for driver in ("asyncpg", "psycopg")
        ]
        for session in sessions:
            for operation in ("get_items", "add_items", "pop_item"):
                error = await failure(
                    operations(session)[operation], StoreUnavailableError, store="SQLAlchemySession", cure=_CURE
                )
                assert "too many clients" in str(error)
        for other in others:
            await other.close()
        for session in sessions:
            assert texts(await session.get_items()) == ["one"]
            await session.underlying_session.engine.dispose()

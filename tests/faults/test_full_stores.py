"""A store without room: the error names the cure, what was acknowledged is there once, and with room it goes on."""

from __future__ import annotations

import contextlib
import resource
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, StoreError, StoreUnavailableError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import TTL, Sealer, message
from encrypted_sessions_tests.servers import PostgresServer, Server
from encrypted_sessions_tests.small_disk import small_disk
from encrypted_sessions_tests.store_failures import SESSION, failure, operations, until_it_works
from encrypted_sessions_tests.stores import REDIS_WITHOUT_EVAL, StoreLocation, new_place, open_store

FILES = {
    "sqlite": "SQLiteSession",
    "async-sqlite": "AsyncSQLiteSession",
    "sqlalchemy-sqlite": "SQLAlchemySession",
    "advanced-sqlite": "AdvancedSQLiteSession",
}

#: Of each item, so that few fill what is small.
_LENGTH = 60_000


@contextlib.asynccontextmanager
async def session_over(place: StoreLocation, sealer: Sealer, **options: Any) -> AsyncIterator[EncryptedSession]:
    async with open_store(place, SESSION, **options) as store:
        yield EncryptedSession.wrap(store, sealer.ring, ttl=TTL, store_timeout_s=10)


def long_text(number: int) -> str:
    return f"{number} " + "x" * _LENGTH


async def fill(session: EncryptedSession, *, store: str, cure: str) -> tuple[list[str], StoreError]:
    """Add items until there is no room for one more; those that were acknowledged, and the error."""
    acknowledged: list[str] = []

    async def add_all() -> None:
        while len(acknowledged) < 200:
            text = long_text(len(acknowledged))
            await session.add_items([message(text)])
            acknowledged.append(text)

    error = await failure(add_all, StoreUnavailableError, store=store, cure=cure)
    assert acknowledged, "there was room for none"
    return acknowledged, error


@pytest.mark.parametrize("kind", FILES)
async def test_a_full_disk_beneath_a_file(kind: str, sealer: Sealer, tmp_path: Path):
    folder = tmp_path / "small"
    folder.mkdir()
    with small_disk(folder, "1m") as resize:
        place = StoreLocation(kind, str(folder / "agents.db"), "t")
        async with session_over(place, sealer) as session:
            acknowledged, error = await fill(session, store=FILES[kind], cure="Free space where it stores its data")
            assert "disk is full" in str(error)
            assert texts(await session.get_items()) == acknowledged
            resize("4m")
            await session.add_items([message("more")])
            assert texts(await session.get_items()) == [*acknowledged, "more"]
            assert await session.pop_item() == message("more")
        async with session_over(place, sealer) as session:
            assert texts(await session.get_items()) == acknowledged


@pytest.mark.parametrize("kind", FILES)
async def test_a_file_that_may_not_grow(kind: str, sealer: Sealer, request: pytest.FixtureRequest):
    """By a limit of the process: the system refuses to write, and not for want of room."""
    async with session_over(new_place(kind, request), sealer) as session:
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, most))
        try:
            acknowledged, error = await fill(
                session, store=FILES[kind], cure="Check that its disk works and has free space"
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        assert "read the items again before you retry" in str(error)
        assert texts(await session.get_items()) == acknowledged
        await session.add_items([message("more")])
        assert texts(await session.get_items()) == [*acknowledged, "more"]


@pytest.mark.private_servers
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_full_disk_beneath_postgresql(driver: str, sealer: Sealer, request: pytest.FixtureRequest):
    request.getfixturevalue("_postgres")  # skips, or fails, where there is none
    with PostgresServer() as server:
        folder = server.folder / "small"
        server._make_folder(folder, lambda _: None)
        prefix = f"t{uuid.uuid4().hex[:12]}"
        owners = StoreLocation("sqlalchemy-postgres", server.url, prefix)
        place = StoreLocation("sqlalchemy-postgres", server.url.replace("+asyncpg", f"+{driver}"), prefix)
        with small_disk(folder, "1m") as resize:
            async with session_over(place, sealer) as session:
                async with stores._postgres(owners) as other:
                    await other.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
                    await other.execute(f"ALTER TABLE {place.messages_table} SET TABLESPACE small")
                acknowledged, error = await fill(
                    session, store="SQLAlchemySession", cure="Free space where it stores its data"
                )
                assert "No space left on device (SQLSTATE 53100)" in str(error)
                assert texts(await session.get_items()) == acknowledged
                assert texts([await session.pop_item()]) == acknowledged[-1:]
                resize("4m")
                await session.add_items([message("more")])
                assert texts(await session.get_items()) == [*acknowledged[:-1], "more"]


# -- Redis, which keeps all in memory, and on disk if it is told to -------------------------------


@pytest.fixture(params=["redis", REDIS_WITHOUT_EVAL])
def redis_place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
async def owner(redis_url: str) -> AsyncIterator[Any]:
    """Whoever may change the server's settings. They are as before after the test."""
    import redis.asyncio

    names = ("maxmemory", "save", "replica-serve-stale-data")
    async with redis.asyncio.from_url(redis_url, decode_responses=True) as client:
        before = await client.config_get(*names)
        yield client
        await client.execute_command("REPLICAOF", "NO", "ONE")
        for name, value in before.items():
            await client.config_set(name, value)


@contextlib.asynccontextmanager
async def session_with_two(place: StoreLocation, sealer: Sealer) -> AsyncIterator[EncryptedSession]:
    """Two items, and an expired row."""
    async with session_over(place, sealer) as session:
        await write_rows(place, SESSION, [sealer.expired()])
        await session.add_items([message("one"), message("two")])
        yield session


async def refuses_changes(session: EncryptedSession, cure: str) -> None:
    """Every change is refused, in words, and none takes place; what is there can be read."""
    for name, operation in operations(session).items():
        if name in ("get_items", "read"):
            await operation()
        else:
            error = await failure(operation, StoreUnavailableError, store="RedisSession", cure=cure)
            assert "Whether" not in str(error)
    assert texts(await session.get_items()) == ["one", "two"]


_MEMORY = "Allow it more memory (maxmemory), or remove what is not needed, and try again"


@pytest.mark.private_servers
async def test_a_redis_without_memory_left_still_does_what_needs_none(owner: Any, sealer: Sealer, request: Any):
    async with session_with_two(new_place("redis", request), sealer) as session:
        await owner.config_set("maxmemory", 1)
        await failure(operations(session)["add_items"], StoreUnavailableError, store="RedisSession", cure=_MEMORY)
        assert texts(await session.get_items()) == ["one", "two"]
        assert await session.purge_expired() == 1
        assert await session.pop_item() == message("two")
        await owner.config_set("maxmemory", 0)
        await session.add_items([message("three")])
        assert texts(await session.get_items()) == ["one", "three"]


@pytest.mark.private_servers
async def test_a_redis_without_memory_left_takes_no_transaction(owner: Any, sealer: Sealer, request: Any):
    """It does not let a client begin one: not even to read."""
    async with session_with_two(new_place(REDIS_WITHOUT_EVAL, request), sealer) as session:
        assert texts(await session.get_items()) == ["one", "two"]
        await owner.config_set("maxmemory", 1)
        for operation in operations(session).values():
            await failure(operation, StoreUnavailableError, store="RedisSession", cure=_MEMORY)
        await owner.config_set("maxmemory", 0)
        assert texts(await session.get_items()) == ["one", "two"]
        assert await session.pop_item() == message("two")


@pytest.mark.private_servers
async def test_a_redis_that_cannot_write_its_snapshot(
    redis_place: StoreLocation, redis_server: Server, owner: Any, sealer: Sealer
):
    async with session_with_two(redis_place, sealer) as session:
        await owner.config_set("save", "900 1")
        redis_server.folder.chmod(0o500)
        try:
            await owner.bgsave()
            await until_it_works(lambda: snapshot_is(owner, "err"))
            await refuses_changes(session, "its log says why. Fix that, and try again")
        finally:
            redis_server.folder.chmod(0o700)
        await owner.bgsave()
        await until_it_works(lambda: snapshot_is(owner, "ok"))
        await session.add_items([message("three")])
        assert texts(await session.get_items()) == ["one", "two", "three"]
        assert await session.pop_item() == message("three")


async def snapshot_is(owner: Any, status: str) -> None:
    """Raise while the last snapshot of a server has not ended so."""
    found = await owner.info("persistence")
    if found["rdb_bgsave_in_progress"] or found["rdb_last_bgsave_status"] != status:
        raise StoreUnavailableError("not yet")


@pytest.mark.private_servers
async def test_a_redis_that_has_become_a_replica(redis_place: StoreLocation, owner: Any, sealer: Sealer):
    async with session_with_two(redis_place, sealer) as session:
        await owner.execute_command("REPLICAOF", "127.0.0.1", "1")  # where nothing listens
        await refuses_changes(session, "as is normal for a replica: connect to the server that does, and try again")
        await owner.execute_command("REPLICAOF", "NO", "ONE")
        assert await session.pop_item() == message("two")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_postgresql_that_takes_no_changes(driver: str, sealer: Sealer, request: pytest.FixtureRequest):
    place = new_place("sqlalchemy-postgres", request)
    place = StoreLocation(place.kind, place.where.replace("+asyncpg", f"+{driver}"), place.prefix)
    read_only: dict[str, Any] = {
        "asyncpg": {"server_settings": {"default_transaction_read_only": "on"}},
        "psycopg": {"options": "-c default_transaction_read_only=on"},
    }
    async with session_over(place, sealer) as session:
        await session.add_items([message("one"), message("two")])
    async with session_over(place, sealer, engine_kwargs={"connect_args": read_only[driver]}) as session:
        for operation in ("add_items", "pop_item", "clear_session", "compaction"):
            error = await failure(
                operations(session)[operation],
                StoreUnavailableError,
                store="SQLAlchemySession",
                cure="as is normal for a replica: connect to the server that does, and try again",
            )
            assert "25006" in str(error)
        assert texts(await session.get_items()) == ["one", "two"]

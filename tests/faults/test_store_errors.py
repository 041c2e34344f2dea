"""What a store raises comes out in words of ours: which store, what was asked, what to do, and no row in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import (
    EncryptedSession,
    EncryptedSessionError,
    StoreTimeoutError,
    StoreUnavailableError,
    UnreadableItemsError,
)
from encrypted_sessions.errors import PurgeRefusedError
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import TTL, Sealer, message
from encrypted_sessions_tests.servers import Server, free_port
from encrypted_sessions_tests.store_failures import SESSION, crosses_a_process_boundary, failure, operations
from encrypted_sessions_tests.stores import PlainSession, StoreLocation, new_place, open_store

# -- Files of SQLite -------------------------------------------------------------------------------

FILES = {
    "sqlite": "SQLiteSession",
    "async-sqlite": "AsyncSQLiteSession",
    "sqlalchemy-sqlite": "SQLAlchemySession",
    "advanced-sqlite": "AdvancedSQLiteSession",
}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


def driver_class(place: StoreLocation, name: str) -> type[BaseException]:
    if place.kind.startswith("sqlalchemy"):
        import sqlalchemy.exc

        found: type[BaseException] = getattr(sqlalchemy.exc, name)
        return found
    return getattr(sqlite3, name)  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def session_over(place: StoreLocation, sealer: Sealer, **options: Any) -> AsyncIterator[EncryptedSession]:
    async with open_store(place, SESSION, **options) as store:
        yield EncryptedSession.wrap(store, sealer.ring, ttl=TTL)


@pytest.mark.parametrize("operation", ["get_items", "read", "add_items", "pop_item", "clear_session", "compaction"])
async def test_a_file_without_tables(file: StoreLocation, sealer: Sealer, operation: str):
    async with session_over(file, sealer) as session:
        await session.add_items([message("one")])
        with contextlib.closing(sqlite3.connect(file.where)) as other, other:
            other.execute("DROP TABLE agent_messages")
            other.execute("DROP TABLE agent_sessions")
        error = await failure(
            operations(session)[operation], driver_class(file, "OperationalError"), store=FILES[file.kind]
        )
    assert not isinstance(error, StoreUnavailableError)
    assert "no such table" in str(error)
    assert "Create its tables" in str(error)
    assert isinstance(error.__cause__, driver_class(file, "OperationalError"))


def all_but_the_first_page(data: bytes) -> bytes:
    return data[:4096] + b"\xff" * (len(data) - 4096)


def the_header(data: bytes) -> bytes:
    return b"\xff" * 100 + data[100:]


def the_end(data: bytes) -> bytes:
    return data[: len(data) // 4096 // 2 * 4096]


def damage(path: Path, lost: Callable[[bytes], bytes]) -> bytes:
    """What is left of a file and lies there from now on."""
    left = lost(path.read_bytes())
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    path.write_bytes(left)
    return left


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test leaves to the garbage collector is collected while its own filters hold."""
    yield
    gc.collect()


# A connection that SQLAlchemy could not set up is left to the garbage collector, of which Python 3.13 warns.
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:.*sqlite3.Connection:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"])
@pytest.mark.parametrize("operation", ["get_items", "add_items", "pop_item", "clear_session", "compaction"])
@pytest.mark.parametrize("lost", [all_but_the_first_page, the_header, the_end])
async def test_a_damaged_file(
    kind: str, sealer: Sealer, operation: str, lost: Callable[[bytes], bytes], request: pytest.FixtureRequest
):
    file = new_place(kind, request)
    async with session_over(file, sealer) as session:
        await session.add_items([message("word " * 2000) for _ in range(20)])
    async with unopened(file) as store:
        damaged = damage(Path(file.where), lost)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        error = await failure(
            operations(session)[operation], driver_class(file, "DatabaseError"), store=FILES[file.kind]
        )
    assert not isinstance(error, StoreUnavailableError)
    assert "restore the last good copy" in str(error)
    assert damage(Path(file.where), bytes) == damaged, "it is left as it was"


@contextlib.asynccontextmanager
async def unopened(place: StoreLocation) -> AsyncIterator[Any]:
    """A bare session over a file whose tables are there, and of which nothing was read yet."""
    from agents import SQLiteSession
    from agents.extensions.memory import AsyncSQLiteSession, SQLAlchemySession

    if place.kind == "async-sqlite":
        async_store = AsyncSQLiteSession(SESSION, place.where)
        yield async_store
        await async_store.close()
    elif place.kind == "sqlalchemy-sqlite":
        sql_store = SQLAlchemySession.from_url(SESSION, url=f"sqlite+aiosqlite:///{place.where}")
        yield sql_store
        await sql_store.engine.dispose()
    else:
        store = SQLiteSession(SESSION, place.where)
        yield store
        store.close()


@pytest.mark.parametrize("operation", ["add_items", "pop_item", "clear_session", "compaction"])
async def test_a_file_that_is_locked_for_longer_than_its_session_tries(
    sealer: Sealer, operation: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    from agents.extensions.memory import SQLAlchemySession

    monkeypatch.setattr(SQLAlchemySession, "_SQLITE_BUSY_TIMEOUT_MS", 20)  # 5 s, and six times
    monkeypatch.setattr(SQLAlchemySession, "_SQLITE_LOCK_RETRY_DELAYS", (0.01,))
    place = new_place("sqlalchemy-sqlite", request)
    async with session_over(place, sealer) as session:
        await session.add_items([message("one")])
        with contextlib.closing(sqlite3.connect(place.where, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = await failure(
                operations(session)[operation],
                StoreUnavailableError,
                driver_class(place, "OperationalError"),
                store="SQLAlchemySession",
                cure="Something else holds a lock in it: try again, or let the driver wait longer",
            )
            assert "Whether" not in str(error)  # it certainly was not changed
            assert texts(await session.get_items()) == ["one"]
            other.execute("ROLLBACK")
        assert await session.pop_item() == message("one")


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite"])
async def test_a_locked_file(kind: str, sealer: Sealer, request: pytest.FixtureRequest):
    place = new_place(kind, request)
    async with session_over(place, sealer) as session:
        await session.add_items([message("one")])
        with contextlib.closing(sqlite3.connect(place.where, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = await failure(
                lambda: session.add_items([message("two")]),
                StoreUnavailableError,
                sqlite3.OperationalError,
                store=FILES[kind],
            )
            other.execute("ROLLBACK")
        assert "locked" in str(error)
        assert "Whether" not in str(error)  # it certainly was not added
        await session.add_items([message("three")])
        assert texts(await session.get_items()) == ["one", "three"]


# -- Servers ---------------------------------------------------------------------------------------

DRIVERS = ["redis", "asyncpg", "psycopg"]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def place_for(driver: str, request: pytest.FixtureRequest) -> StoreLocation:
    place = new_place("redis" if driver == "redis" else "sqlalchemy-postgres", request)
    return replace(place, where=place.where.replace("+asyncpg", f"+{driver}"))


def class_of(driver: str) -> str:
    return "RedisSession" if driver == "redis" else "SQLAlchemySession"


def bare_session(driver: str, port: int) -> Any:
    """A session over a server that nobody asked yet whether it is there."""
    if driver == "redis":
        from agents.extensions.memory import RedisSession

        return RedisSession.from_url(SESSION, url=f"redis://127.0.0.1:{port}/0")
    from agents.extensions.memory import SQLAlchemySession

    return SQLAlchemySession.from_url(SESSION, url=f"postgresql+{driver}://user:secret@127.0.0.1:{port}/agents")


@pytest.mark.parametrize("operation", ["get_items", "read", "add_items", "pop_item", "purge_expired", "clear_session"])
async def test_a_server_that_is_not_there(driver: str, sealer: Sealer, operation: str):
    store = bare_session(driver, free_port())
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    error = await failure(operations(session)[operation], StoreUnavailableError, store=class_of(driver))
    assert "Try again" in str(error)
    assert "secret" not in str(error)
    if driver == "redis":
        import redis.exceptions

        assert isinstance(error, redis.exceptions.ConnectionError)
        await store.close()
    elif driver == "asyncpg":
        assert isinstance(error, ConnectionRefusedError)
        await store.engine.dispose()
    else:
        import sqlalchemy.exc

        assert isinstance(error, sqlalchemy.exc.OperationalError)
        assert error.orig is not None
        await store.engine.dispose()


@pytest.mark.private_servers
async def test_a_server_that_is_killed(driver: str, sealer: Sealer, request: pytest.FixtureRequest):
    server: Server = request.getfixturevalue("redis_server" if driver == "redis" else "postgres_server")
    async with session_over(place_for(driver, request), sealer) as session:
        await session.add_items([message("one")])
        server.kill()
        for operation in ("get_items", "add_items", "pop_item", "clear_session"):
            await failure(operations(session)[operation], StoreUnavailableError, store=class_of(driver))
        server.start()


@pytest.mark.parametrize("postgresql", ["asyncpg", "psycopg"])
async def test_a_database_without_tables(postgresql: str, sealer: Sealer, request: pytest.FixtureRequest):
    import sqlalchemy.exc
    from agents.extensions.memory import SQLAlchemySession

    place = place_for(postgresql, request)
    store = SQLAlchemySession.from_url(SESSION, url=place.where, messages_table=f"{place.prefix}_none")
    try:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        error = await failure(session.get_items, sqlalchemy.exc.ProgrammingError, store="SQLAlchemySession")
        assert not isinstance(error, StoreUnavailableError)
        assert "42P01" in str(error)
        assert "create_tables" in str(error)
    finally:
        await store.engine.dispose()


@pytest.mark.parametrize("postgresql", ["asyncpg", "psycopg"])
async def test_an_error_that_quotes_a_row_is_no_cause(postgresql: str, sealer: Sealer, request: pytest.FixtureRequest):
    import sqlalchemy.exc
    from sqlalchemy import text

    place = place_for(postgresql, request)
    async with open_store(place, SESSION) as store:
        async with store.engine.begin() as connection:
            await connection.execute(
                text(f"ALTER TABLE {place.messages_table} ADD CONSTRAINT short CHECK (length(message_data) < 9)")
            )
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        error = await failure(
            lambda: session.add_items([message("one")]), sqlalchemy.exc.IntegrityError, store="SQLAlchemySession"
        )
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "short" in str(error)
    assert "23514" in str(error)
    assert error.orig is None
    assert error.params is None


async def test_parameters_are_hidden_in_the_cause(sealer: Sealer, request: pytest.FixtureRequest):
    import sqlalchemy.exc

    place = new_place("sqlalchemy-sqlite", request)
    async with session_over(place, sealer) as session:
        with contextlib.closing(sqlite3.connect(place.where)) as other, other:
            other.execute("DROP TABLE agent_messages")
        error = await failure(
            lambda: session.add_items([message("one")]), sqlalchemy.exc.OperationalError, store="SQLAlchemySession"
        )
    assert isinstance(error.__cause__, sqlalchemy.exc.OperationalError)
    assert error.__cause__.hide_parameters
    assert "parameters" not in str(error)
    assert "INSERT INTO" in str(error.__cause__)


async def test_a_pipeline_that_quotes_its_commands_is_no_cause(sealer: Sealer, request: pytest.FixtureRequest):
    import redis.asyncio
    import redis.exceptions

    place = new_place("redis", request)
    client = redis.asyncio.from_url(place.where)
    await client.set(place.redis_key(SESSION), "no list")
    async with session_over(place, sealer) as session:
        for operation in ("add_items", "get_items"):
            error = await failure(operations(session)[operation], redis.exceptions.ResponseError, store="RedisSession")
            assert not isinstance(error, StoreUnavailableError)
            assert "WRONGTYPE" in str(error)
    await client.aclose()


@pytest.mark.parametrize("postgresql", ["asyncpg", "psycopg"])
async def test_a_pool_that_is_used_up(postgresql: str, sealer: Sealer, request: pytest.FixtureRequest):
    import sqlalchemy.exc

    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}
    async with session_over(place_for(postgresql, request), sealer, engine_kwargs=options) as session:
        async with session.underlying_session.engine.connect():
            error = await failure(
                session.get_items, sqlalchemy.exc.TimeoutError, StoreUnavailableError, store="SQLAlchemySession"
            )
        assert "allow more" in str(error)
        assert await session.get_items() == []


# -- Sessions that the library does not know -------------------------------------------------------


class FailingSession(PlainSession):
    """Raises what it is told to, wherever it is asked."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(SESSION, [])
        self.error = error

    async def get_items(self, limit: int | None = None) -> Any:
        raise self.error

    async def add_items(self, items: Any) -> None:
        raise self.error

    async def pop_item(self) -> Any:
        raise self.error

    async def clear_session(self) -> None:
        raise self.error


class OwnError(Exception):
    """Of a foreign session's own."""


@pytest.mark.parametrize(
    "raised",
    [
        TypeError("no such argument"),
        ValueError("a wrong value"),
        AttributeError("no attribute"),
        RuntimeError("closed"),
        OwnError("mine"),
        UnreadableItemsError("not to be read", outcomes={"ok": 0}),
        PurgeRefusedError("refused"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("operation", ["get_items", "read", "add_items", "clear_session", "purge_expired"])
async def test_what_is_of_no_store_passes_as_it_is(sealer: Sealer, raised: Exception, operation: str):
    session = EncryptedSession.wrap(FailingSession(raised), sealer.ring, ttl=TTL)
    with pytest.raises(type(raised)) as caught:
        await operations(session)[operation]()
    assert caught.value is raised


async def test_an_error_of_keys_passes_as_it_is():
    sealer = Sealer(SESSION)
    sealer.ring.close()
    session = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=TTL)
    with pytest.raises(Exception, match="closed") as caught:
        await session.add_items([message("one")])
    assert not isinstance(caught.value, EncryptedSessionError)


@pytest.mark.parametrize("operation", ["get_items", "read", "add_items", "pop_item", "purge_expired", "clear_session"])
async def test_what_the_system_says_is_an_error_of_the_store(sealer: Sealer, operation: str):
    raised = OSError(28, "No space left on device")
    session = EncryptedSession.wrap(FailingSession(raised), sealer.ring, ttl=TTL)
    error = await failure(operations(session)[operation], OSError, StoreUnavailableError, store="FailingSession")
    assert error.__cause__ is raised
    assert error.errno == 28
    assert "Free space" in str(error)


@pytest.mark.parametrize("raised", [TimeoutError, asyncio.TimeoutError, lambda: TimeoutError(110, "timed out")])
async def test_a_time_out_of_the_driver_is_one_of_the_store(sealer: Sealer, raised: Callable[[], Exception]):
    session = EncryptedSession.wrap(FailingSession(raised()), sealer.ring, ttl=TTL)
    for operation in ("get_items", "add_items", "clear_session"):
        error = await failure(
            operations(session)[operation],
            StoreTimeoutError,
            TimeoutError,
            type(raised()),  # on Python 3.10 asyncio has one of its own
            store="FailingSession",
        )
        assert isinstance(error, StoreTimeoutError)
        assert error.in_doubt == (operation != "get_items")


class OddError(sqlite3.OperationalError):
    """Of a driver that asks much of whoever makes one."""

    def __init__(self, code: int, *, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.code, self.more = code, more

    def __str__(self) -> str:
        return f"{self.code} {self.args[0]}"

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")

    @property
    def computed(self) -> int:
        return self.code + 1


async def test_a_class_of_a_driver_may_be_made_in_any_way(sealer: Sealer):
    session = EncryptedSession.wrap(
        FailingSession(OddError(7, reason="database is locked", more=SESSION)), sealer.ring, ttl=TTL
    )
    error: Any = await failure_of_kind(session, OddError)
    again: Any = await failure_of_kind(session, OddError)
    assert type(again) is type(error), "one class for each class of a driver"
    assert error.computed == 8
    assert str(error).startswith("FailingSession failed to get items: 7 database is locked. ")
    crosses_a_process_boundary(error)
    copied: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    assert copied.computed == 8


async def failure_of_kind(session: EncryptedSession, kind: type[Exception]) -> Exception:
    with pytest.raises(kind) as caught:
        await session.get_items()
    assert isinstance(caught.value, StoreUnavailableError)
    return caught.value


async def test_a_process_without_the_driver_gets_the_error_all_the_same(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    session = EncryptedSession.wrap(FailingSession(OddError(7, reason="locked")), sealer.ring, ttl=TTL)
    pickled = pickle.dumps(await failure_of_kind(session, OddError))
    monkeypatch.delitem(globals(), "OddError")
    back = pickle.loads(pickled)  # noqa: S301 - made above
    assert type(back) is StoreUnavailableError
    assert str(back).startswith("FailingSession failed to get items")


async def test_what_purge_on_add_meets_is_logged_alone(
    sealer: Sealer, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    place = new_place("sqlite", request)
    async with open_store(place, SESSION) as store:
        await write_rows(place, SESSION, [sealer.expired()])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, purge_on_add=5)

        async def fail(*_: object) -> Any:
            raise sqlite3.OperationalError("database is locked")

        monkeypatch.setattr(session._sealed.rows._rows, "oldest", fail)  # type: ignore[union-attr]  # beneath the guard
        await session.add_items([message("one")])
        assert texts(await session.get_items()) == ["one"]
    assert "StoreUnavailableError" in caplog.text

"""What `encrypted_sessions.stores` uses of the installed Agents SDK that is not public.

Where the SDK changes one of these, a test here fails; at run time a session then falls back to the
weaker promise for plain sessions, with a warning.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession, AsyncSQLiteSession, RedisSession, SQLAlchemySession

from encrypted_sessions import EncryptedSession, UnreadableItemsError
from encrypted_sessions.stores import PlainStore, RowStore, store_beneath
from encrypted_sessions.stores.redis.rows import RedisRows
from encrypted_sessions.stores.sql.rows import SQLAlchemyRows
from encrypted_sessions.stores.sqlite.async_rows import AsyncSQLiteRows
from encrypted_sessions.stores.sqlite.rows import SQLiteRows
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import as_json, texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import (
    ROW_ADDRESSABLE,
    StoreLocation,
    new_place,
    open_store,
    raw_rows,
)

ROWS_OF: dict[type[Any], type[RowStore]] = {
    SQLiteSession: SQLiteRows,
    AsyncSQLiteSession: AsyncSQLiteRows,
    SQLAlchemySession: SQLAlchemyRows,
    RedisSession: RedisRows,
}


@pytest.fixture(params=distinct(ROW_ADDRESSABLE))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    yield sealer
    sealer.ring.close()


# -- Which class is which ---------------------------------------------------------------------------


async def test_the_sdks_own_classes_are_known_by_their_names(place: StoreLocation):
    async with open_store(place, SESSION) as store:
        assert type(store_beneath(store)) is ROWS_OF[type(store)]


@pytest.mark.parametrize("kind", ["advanced-sqlite", "plain"])
async def test_any_other_class_is_used_through_its_own_methods(kind: str, request: pytest.FixtureRequest):
    async with open_store(new_place(kind, request), SESSION) as store:
        assert type(store_beneath(store)) is PlainStore


async def test_a_subclass_may_keep_indexes_of_its_own_and_is_another_class(tmp_path: Path):
    class Indexed(SQLiteSession):
        pass

    store = Indexed(SESSION, tmp_path / "a.db")
    assert type(store_beneath(store)) is PlainStore
    store.close()


async def test_a_sqlite_database_in_memory_is_used_through_its_own_methods():
    for store in (SQLiteSession(SESSION), SQLiteSession(SESSION, Path(":memory:"))):
        assert type(store_beneath(store)) is PlainStore
        store.close()
    assert type(store_beneath(AsyncSQLiteSession(SESSION))) is PlainStore


def test_the_class_with_branches_is_a_subclass_with_an_index_of_its_own():
    assert issubclass(AdvancedSQLiteSession, SQLiteSession)


# -- What is used of each ---------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ROWS_OF.values(), ids=lambda rows: rows.__name__)
def test_what_a_module_uses_of_its_class_is_what_it_says(rows: type[RowStore]):
    source = Path(str(inspect.getsourcefile(rows))).read_text()
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and (node.value.attr, ast.unparse(node.value.value)) == ("_session", "self")
        and node.attr.startswith("_")
    }
    assert used == set(rows.NEEDS)


async def test_the_installed_sdk_has_all_of_it(place: StoreLocation):
    async with open_store(place, SESSION) as store:
        rows = ROWS_OF[type(store)]
        assert [name for name in rows.NEEDS if not hasattr(store, name)] == []


def parameters(function: Any) -> list[str]:
    return [str(parameter).split(":")[0] for parameter in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite"])
async def test_sqlite_sessions_insert_and_lock_as_expected(kind: str, request: pytest.FixtureRequest):
    place = new_place(kind, request)
    is_async = kind == "async-sqlite"
    manager = AbstractAsyncContextManager if is_async else AbstractContextManager
    async with open_store(place, SESSION) as store:
        assert parameters(store._insert_items) == ["conn", "items"]
        assert inspect.iscoroutinefunction(store._insert_items) == is_async
        for name in ("_locked_connection", "_write_connection"):
            assert parameters(getattr(store, name)) == []
            assert isinstance(getattr(store, name)(), manager)
        assert (store.messages_table, str(store.db_path)) == ("agent_messages", place.where)
        await store.add_items([message("one")])
        with stores._sqlite(place) as connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(agent_messages)")]
            (schema,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'agent_messages'").fetchone()
        assert columns == [b"id", b"session_id", b"message_data", b"created_at"]
        # A number that was given to a row is never given to another one.
        assert b"id INTEGER PRIMARY KEY AUTOINCREMENT" in schema


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite"])
async def test_inserting_does_not_commit(kind: str, request: pytest.FixtureRequest):
    place = new_place(kind, request)
    async with open_store(place, SESSION) as store:
        if kind == "sqlite":
            with store._write_connection() as connection:
                store._insert_items(connection, [message("one")])
                connection.rollback()
        else:
            async with store._write_connection() as connection:
                await store._insert_items(connection, [message("one")])
                await connection.rollback()
    assert await raw_rows(place, SESSION) == []


@pytest.mark.parametrize("kind", ["sqlalchemy-sqlite", "sqlalchemy-postgres"])
async def test_sqlalchemy_sessions_have_the_tables_and_methods_expected(kind: str, request: pytest.FixtureRequest):
    place = new_place(kind, request)
    async with open_store(place, SESSION) as store:
        messages, sessions = store._messages.c, store._sessions.c
        assert [column.name for column in messages] == ["id", "session_id", "message_data", "created_at"]
        assert [column.name for column in sessions] == ["session_id", "created_at", "updated_at"]
        assert messages.id.primary_key
        assert parameters(store._lock_session) == ["sess", "create"]
        assert inspect.signature(store._lock_session).parameters["create"].default is False
        assert parameters(store._run_sqlite_write_with_retry) == ["operation"]
        assert parameters(store._ensure_tables) == []
        assert parameters(store._serialize_item) == ["item"]
        assert isinstance(store._session(), AbstractAsyncContextManager)
        assert store.engine.dialect.name == ("sqlite" if place.in_sqlite else "postgresql")


async def test_redis_sessions_keep_a_list_under_the_key_expected(request: pytest.FixtureRequest):
    place = new_place("redis", request)
    async with open_store(place, SESSION) as store, stores._redis(place) as client:
        assert store._messages_key == place.redis_key(SESSION)
        assert parameters(store._serialize_item) == ["item"]
        assert parameters(store._check_not_closed) == []
        await store.add_items([message("one"), message("two")])
        assert await client.type(place.redis_key(SESSION)) == b"list"
        assert as_json(await client.lrange(place.redis_key(SESSION), 0, -1)) == [message("one"), message("two")]


def test_the_sdks_compaction_looks_for_the_methods_that_there_are():
    module = importlib.import_module("agents.memory.openai_responses_compaction_session")
    source = inspect.getsource(module)
    for name in ("_read_compaction_items", "_get_compaction_snapshot", "_atomic_replace_items"):
        assert name in source
        assert callable(getattr(EncryptedSession, name))
    from agents.memory.session import _CompactionSnapshot

    assert list(_CompactionSnapshot.__dataclass_fields__) == ["items", "complete", "replace_suffix"]


# -- When the SDK has changed -----------------------------------------------------------------------


@pytest.fixture
def changed_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a release of the SDK had dropped what the modules use."""
    for rows in ROWS_OF.values():
        monkeypatch.setattr(rows, "NEEDS", (*rows.NEEDS, "_dropped", "_dropped_too"))


@pytest.mark.usefixtures("changed_sdk")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda store, ring: EncryptedSession.wrap(store, ring, ttl=TTL),
        lambda store, ring: EncryptedSession(SESSION, store, ring, TTL),
    ],
    ids=["wrap", "class"],
)
async def test_a_changed_sdk_is_a_warning_that_says_what_is_weaker(place: StoreLocation, sealer: Sealer, wrap: Any):
    async with open_store(place, SESSION) as store:
        with pytest.warns(RuntimeWarning, match="have only the weaker guarantee") as warned:
            wrap(store, sealer.ring)
    (warning,) = warned
    assert f"{type(store).__name__} has no _dropped, _dropped_too" in str(warning.message)
    assert warning.filename == __file__  # the line of the application that is affected


@pytest.mark.usefixtures("changed_sdk")
async def test_a_changed_sdk_is_used_through_its_public_methods(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        with pytest.warns(RuntimeWarning):
            session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one"), message("two")])
        assert texts(await session.get_items()) == ["one", "two"]
        assert await session.pop_item() == message("two")
        await write_rows(place, SESSION, [sealer.of("unauthentic")])
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
        assert (await session.read()).outcomes == {"ok": 1, "unauthentic": 1}
        with pytest.raises(UnreadableItemsError):
            await session._atomic_replace_items([message("summary")])
        assert (await session.read()).outcomes == {"ok": 1, "unauthentic": 1}
        assert await session._get_compaction_snapshot(10) is None


@pytest.mark.usefixtures("changed_sdk")
async def test_the_weaker_promise_passes_over_no_erased_row(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        with pytest.warns(RuntimeWarning):
            session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        rows = [sealer.ok("one"), sealer.of("erased")]
        await write_rows(place, SESSION, rows)
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
        assert as_json(await raw_rows(place, SESSION)) == as_json(rows)


@pytest.mark.parametrize("name", ["_write_connection", "_insert_items", "_locked_connection"])
async def test_any_single_thing_that_is_missing_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = SQLiteSession(SESSION, tmp_path / "a.db")
    monkeypatch.delattr(SQLiteSession, name)
    with pytest.warns(RuntimeWarning, match=f"SQLiteSession has no {name}, which"):
        assert type(store_beneath(store)) is PlainStore
    store.close()

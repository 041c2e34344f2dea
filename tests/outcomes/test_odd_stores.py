"""Stores that are set up in unusual ways, and rows that a store cannot read."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Finding, UnreadableItemsError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import (
    KINDS,
    ROW_ADDRESSABLE,
    StoreLocation,
    database_of,
    new_place,
    open_store,
    raw_rows,
    write_raw_row,
)

NO_JSON = ["", "{", "no json", '{"__enc__":1,"v":1', "NaN-", "\x01", "[" * 100_000, "1" * 5_000]
NO_UTF8 = b'{"role":"user","content":"\xff\xfe"}'

not_addressable = pytest.mark.parametrize(
    "place", [kind for kind in KINDS if kind not in ROW_ADDRESSABLE], indirect=True
)
addressable = pytest.mark.parametrize("place", distinct(ROW_ADDRESSABLE), indirect=True)


async def assert_malformed(place: StoreLocation, sealer: Sealer, **options: Any) -> None:
    """The newest row but one cannot be read: each way of reading says so, and it stays."""
    rows = await raw_rows(place, SESSION)
    async with open_store(place, SESSION, **options) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
        assert raised.value.outcomes == {"ok": 2, "malformed": 1}
        assert raised.value.findings == (Finding(1, "malformed", None),)
        assert texts((await session.read()).items) == ["first", "last"]
        assert await session.pop_item() == message("last")
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
        skipping = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, on_unreadable="skip")
        assert texts(await skipping.get_items()) == ["first"]
    assert await raw_rows(place, SESSION) == rows[:-1]


# -- Rows that the store cannot read ------------------------------------------------------------


@addressable
@pytest.mark.parametrize("data", NO_JSON)
async def test_a_row_that_is_no_json_is_malformed_where_rows_are_addressable(
    place: StoreLocation, sealer: Sealer, data: str
):
    async with sealer.session(place):
        for row in (sealer.ok("first"), data, sealer.ok("last")):
            await write_raw_row(place, SESSION, row)
    await assert_malformed(place, sealer)


@not_addressable
async def test_elsewhere_the_store_hides_it_and_drops_it_when_it_pops(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        for row in (sealer.ok("first"), "no json", sealer.ok("last"), "no json"):
            await write_raw_row(place, SESSION, row)
        assert texts(await session.get_items()) == ["first", "last"]
        assert (await session.read()).outcomes == {"ok": 2}
        assert len(await raw_rows(place, SESSION)) == 4
        assert await session.pop_item() == message("last")
        assert await session.pop_item() == message("first")
    assert await raw_rows(place, SESSION) == []


@addressable
async def test_a_row_that_is_json_null_is_malformed_and_not_the_end(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place):
        for row in (sealer.ok("first"), "null", sealer.ok("last")):
            await write_raw_row(place, SESSION, row)
    await assert_malformed(place, sealer)


@pytest.mark.parametrize("place", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"], indirect=True)
@pytest.mark.parametrize("blob", [False, True], ids=["text", "blob"])
async def test_a_row_in_sqlite_that_is_not_utf8_is_malformed(place: StoreLocation, sealer: Sealer, blob: bool):
    async with sealer.session(place):
        await write_raw_row(place, SESSION, sealer.ok("first"))
        await write_raw_row(place, SESSION, NO_UTF8, blob=blob)
        await write_raw_row(place, SESSION, sealer.ok("last"))
    await assert_malformed(place, sealer)


@pytest.mark.parametrize("place", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"], indirect=True)
async def test_a_good_row_that_sqlite_holds_as_a_blob_is_good_and_can_be_popped(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        await write_raw_row(place, SESSION, sealer.ok("one").encode(), blob=True)
        assert texts(await session.get_items()) == ["one"]
        assert await session.pop_item() == message("one")
    assert await raw_rows(place, SESSION) == []


@pytest.mark.parametrize("place", ["redis"], indirect=True)
@pytest.mark.parametrize("redis_kwargs", [{}, {"decode_responses": True}, {"protocol": 2}, {"protocol": 3}])
async def test_a_row_in_redis_that_is_not_utf8_is_malformed_for_any_client(
    place: StoreLocation, sealer: Sealer, redis_kwargs: dict[str, Any]
):
    for row in (sealer.ok("first"), NO_UTF8, sealer.ok("last")):
        await write_raw_row(place, SESSION, row)
    await assert_malformed(place, sealer, redis_kwargs=redis_kwargs)


@pytest.mark.parametrize("place", ["redis"], indirect=True)
@pytest.mark.parametrize("redis_kwargs", [{"decode_responses": True}, {"protocol": 2}, {"protocol": 3}])
async def test_a_redis_client_with_settings_of_its_own_adds_reads_pops_and_compacts(
    place: StoreLocation, sealer: Sealer, redis_kwargs: dict[str, Any]
):
    async with open_store(place, SESSION, redis_kwargs=redis_kwargs) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one"), message("zwei ü"), message("three")])
        assert texts(await session.get_items()) == ["one", "zwei ü", "three"]
        assert await session.pop_item() == message("three")
        assert await session._atomic_replace_items([message("summary ü")])
        assert texts(await session.get_items()) == ["summary ü"]


# -- Times ----------------------------------------------------------------------------------------


@pytest.fixture(params=["Asia/Kolkata", "America/New_York", "Pacific/Kiritimati"])
async def far_away(request: pytest.FixtureRequest) -> AsyncIterator[StoreLocation]:
    """A place on a PostgreSQL server whose clock shows another time of day."""
    place = new_place("sqlalchemy-postgres", request)
    async with _admin(place) as admin:
        await admin.execute(f"ALTER DATABASE {database_of(place)} SET timezone TO '{request.param}'")
    yield place
    async with _admin(place) as admin:
        await admin.execute(f"ALTER DATABASE {database_of(place)} RESET timezone")


@contextlib.asynccontextmanager
async def _admin(place: StoreLocation) -> AsyncIterator[Any]:
    async with stores._postgres(place) as connection:
        yield connection


async def test_a_postgresql_server_in_another_time_zone_changes_nothing(far_away: StoreLocation, sealer: Sealer):
    async with sealer.session(far_away) as session:
        for number in range(5):
            await session.add_items([message(f"{number}a"), message(f"{number}b")])
        expected = [f"{number}{half}" for number in range(5) for half in "ab"]
        assert texts(await session.get_items()) == expected
        assert texts(await session.get_items(3)) == expected[-3:]
        assert await session.pop_item() == message("4b")
        snapshot = await session._get_compaction_snapshot(4)
        assert texts(snapshot.items) == expected[5:9]
        assert await snapshot.replace_suffix(1, [message("summary")])
        await session.add_items([message("next")])
        assert texts(await session.get_items()) == [*expected[:6], "summary", "next"]
        assert await session._atomic_replace_items([message("all")])
        await session.add_items([message("end")])
        assert texts(await session.get_items()) == ["all", "end"]
        assert await session.pop_item() == message("end")
        assert await session.pop_item() == message("all")
        assert await session.pop_item() is None


@pytest.mark.parametrize("place", ["sqlalchemy-sqlite", "sqlalchemy-postgres"], indirect=True)
async def test_many_rows_of_one_moment_keep_their_order(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(1200)])
        expected = [str(number) for number in range(1200)]
        assert texts(await session.get_items()) == expected
        assert texts(await session.get_items(700)) == expected[500:]
        for number in (1199, 1198, 1197):
            assert await session.pop_item() == message(str(number))
        snapshot = await session._get_compaction_snapshot(300)
        assert texts(snapshot.items) == expected[897:1197]
        assert await snapshot.replace_suffix(100, [message("summary"), message("of many")])
        await session.add_items([message("next")])
        assert texts(await session.get_items()) == [*expected[:997], "summary", "of many", "next"]


@pytest.mark.parametrize("place", ["sqlalchemy-sqlite", "sqlalchemy-postgres"], indirect=True)
async def test_rows_follow_their_time_before_their_number(place: StoreLocation, sealer: Sealer):
    """As the SDK orders them: a row that was restored from elsewhere may have a later number."""
    async with sealer.session(place) as session:
        for text in ("second", "third", "first"):
            await write_raw_row(place, SESSION, sealer.ok(text))
        moments = {"first": "2020-01-01 00:00:00", "second": "2020-01-01 00:00:01", "third": "2020-01-01 00:00:02"}
        await _set_moments(place, [moments[text] for text in ("second", "third", "first")])
        assert texts(await session.get_items()) == ["first", "second", "third"]
        assert texts(await session.get_items(2)) == ["second", "third"]
        assert await session.pop_item() == message("third")
        snapshot = await session._get_compaction_snapshot(5)
        assert await snapshot.replace_suffix(1, [message("summary")])
        assert texts(await session.get_items()) == ["first", "summary"]


async def _set_moments(place: StoreLocation, moments: list[str]) -> None:
    table = place.messages_table
    if place.in_sqlite:
        with stores._sqlite(place) as connection:
            for row_id, moment in enumerate(moments, 1):
                connection.execute(f"UPDATE {table} SET created_at = ? WHERE id = ?", (moment, row_id))  # noqa: S608 - a table of this test
    else:
        async with _admin(place) as admin:
            for row_id, moment in enumerate(moments, 1):
                await admin.execute(f"UPDATE {table} SET created_at = '{moment}' WHERE id = $1", row_id)  # noqa: S608 - a table of this test


# -- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"])
async def test_tables_may_have_other_names(kind: str, sealer: Sealer, request: pytest.FixtureRequest):
    from agents import SQLiteSession
    from agents.extensions.memory import AsyncSQLiteSession, SQLAlchemySession

    place = new_place(kind, request)
    names = {"sessions_table": "chats", "messages_table": "lines"}
    stack = contextlib.AsyncExitStack()
    async with stack:
        store: Any
        if kind == "sqlite":
            store = SQLiteSession(SESSION, place.where, **names)
            stack.callback(store.close)
        elif kind == "async-sqlite":
            store = AsyncSQLiteSession(SESSION, place.where, **names)
            stack.push_async_callback(store.close)
        else:
            store = SQLAlchemySession.from_url(
                SESSION, url=f"sqlite+aiosqlite:///{place.where}", create_tables=True, **names
            )
            stack.push_async_callback(store.engine.dispose)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one"), message("two"), message("three")])
        assert await session.pop_item() == message("three")
        snapshot = await session._get_compaction_snapshot(5)
        assert await snapshot.replace_suffix(1, [message("summary")])
        assert texts(await session.get_items()) == ["one", "summary"]
    with stores._sqlite(place) as connection:
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (2,)


@pytest.mark.parametrize(
    "session_id", ["a b", "ä'; --", 'quote"s', "%s", "{}", "user:1:messages", "\U0001f511", "x" * 300]
)
@pytest.mark.filterwarnings("ignore::encrypted_sessions.LongSessionIdWarning")  # told once, and taken
async def test_a_session_id_may_be_any_text(place: StoreLocation, session_id: str):
    sealer = Sealer(session_id)
    async with sealer.session(place) as session:
        await session.add_items([message("one"), message("two")])
        assert texts(await session.get_items()) == ["one", "two"]
        assert await session.pop_item() == message("two")
        assert await session._atomic_replace_items([message("summary")])
        assert texts(await session.get_items()) == ["summary"]
    sealer.ring.close()


# -- A Redis key with a time to live --------------------------------------------------------------


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_redis_key_keeps_its_time_to_live(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION, ttl=1000) as store, stores._redis(place) as client:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message(str(number)) for number in range(6)])
        key = place.redis_key(SESSION)
        await client.pexpire(key, 500_000)
        before = await client.pexpiretime(key)

        async def unchanged() -> bool:
            return bool(abs(await client.pexpiretime(key) - before) < 1_000)

        await session.pop_item()
        assert await unchanged()
        snapshot = await session._get_compaction_snapshot(3)
        assert await snapshot.replace_suffix(1, [message("summary")])
        assert await unchanged()
        assert await session._atomic_replace_items([message("all"), message("of it")])
        assert await unchanged()
        assert texts(await session.get_items()) == ["all", "of it"]


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_redis_key_without_a_time_to_live_gets_none(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session, stores._redis(place) as client:
        await session.add_items([message(str(number)) for number in range(4)])
        await session.pop_item()
        assert await session._atomic_replace_items([message("all")])
        assert await client.pttl(place.redis_key(SESSION)) == -1


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_redis_key_that_holds_something_else_is_an_error_and_stays(place: StoreLocation, sealer: Sealer):
    from redis.exceptions import ResponseError

    async with sealer.session(place) as session, stores._redis(place) as client:
        await client.set(place.redis_key(SESSION), "no list")
        for operation in (session.get_items, session.pop_item, session.read):
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await operation()
        assert await client.get(place.redis_key(SESSION)) == b"no list"


# -- A store that is closed, or in memory ---------------------------------------------------------


@pytest.mark.parametrize("place", ["sqlite", "async-sqlite", "advanced-sqlite", "redis"], indirect=True)
async def test_a_store_that_was_closed_meanwhile_says_so(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one")])
        rows = await raw_rows(place, SESSION)
        closing = store.close()
        if asyncio.iscoroutine(closing):
            await closing
        for operation in (session.get_items, session.read, session.pop_item):
            with pytest.raises(RuntimeError, match="is closed"):
                await operation()
        with pytest.raises(RuntimeError, match="is closed"):
            await session.add_items([message("two")])
        with pytest.raises(RuntimeError, match="is closed"):
            await session._atomic_replace_items([message("two")])
    assert await raw_rows(place, SESSION) == rows


@contextlib.asynccontextmanager
async def in_memory(kind: str) -> AsyncIterator[Any]:
    from agents import SQLiteSession
    from agents.extensions.memory import AsyncSQLiteSession, SQLAlchemySession
    from sqlalchemy.pool import StaticPool

    if kind == "sqlite":
        store = SQLiteSession(SESSION)
        yield store
        store.close()
    elif kind == "async-sqlite":
        async_store = AsyncSQLiteSession(SESSION)
        yield async_store
        await async_store.close()
    else:
        kwargs = {"poolclass": StaticPool} if kind == "sqlalchemy, static pool" else {}
        sql_store = SQLAlchemySession.from_url(
            SESSION, url="sqlite+aiosqlite:///:memory:", create_tables=True, engine_kwargs=kwargs
        )
        yield sql_store
        await sql_store.engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite", "sqlalchemy", "sqlalchemy, static pool"])
async def test_a_database_in_memory_is_a_store_like_another(kind: str, sealer: Sealer):
    async with in_memory(kind) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one"), message("two")])
        assert texts(await session.get_items()) == ["one", "two"]
        assert await session.pop_item() == message("two")
        await store.add_items([json.loads(sealer.of("unauthentic"))])
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
        assert (await session.read()).outcomes == {"ok": 1, "unauthentic": 1}
        assert len(await store.get_items()) == 2


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite", "sqlalchemy, static pool"])
async def test_many_tasks_share_a_database_in_memory(kind: str, sealer: Sealer):
    async with in_memory(kind) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message(str(number)) for number in range(30)])
        popped = await asyncio.gather(*(session.pop_item() for _ in range(20)))
        assert sorted(texts(popped), key=int) == [str(number) for number in range(10, 30)]
        assert texts(await session.get_items()) == [str(number) for number in range(10)]


# -- A store whose settings limit what it gives ---------------------------------------------------


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "plain"], indirect=True)
async def test_a_limit_in_the_settings_hides_no_row_from_compaction(place: StoreLocation, sealer: Sealer):
    from agents.memory import SessionSettings

    rows = [sealer.of("unauthentic"), *[sealer.ok(str(number)) for number in range(5)]]
    async with open_store(place, SESSION, session_settings=SessionSettings(limit=2)) as store:
        await write_rows(place, SESSION, rows)
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        with pytest.raises(UnreadableItemsError, match="not compacted"):
            await session._atomic_replace_items([message("summary")])
    assert await raw_rows(place, SESSION) == rows

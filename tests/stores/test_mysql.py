"""Sessions over MariaDB, by both drivers: rows of exactly one id, whatever the tables take for the same."""
# ruff: noqa: S608  # every name of a table in these statements is made in StoreLocation

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from encrypted_sessions import (
    EncryptedSession,
    StoreConfigError,
    StoreError,
    StoreTimeoutError,
    StoreUnavailableError,
    UnreadableItemsError,
)
from encrypted_sessions.stores import Row, RowStore, store_beneath
from encrypted_sessions.stores.urls import open_store as open_whole_store
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.documents import blocks
from encrypted_sessions_tests.mysql_tables import PAGE, connected, make_loose_tables
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import MARIADB, StoreLocation, new_place, open_store, raw_rows, replace_raw_row

LOOSE = "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"

#: One and the same to a table with the default collation, and to one with another at least.
ALIKE = ("user-1", "User-1", "USER-1", "üser-1", "user-1 ", "user-1  ")


@pytest.fixture(params=MARIADB)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def loose(place: StoreLocation) -> StoreLocation:
    """Tables as people make them by hand, with the server's default collation."""
    make_loose_tables(place, LOOSE)
    return place


@pytest.fixture
def loose_by_one_driver(request: pytest.FixtureRequest) -> StoreLocation:
    place = new_place(MARIADB[0], request)
    make_loose_tables(place, LOOSE)
    return place


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    yield sealer
    sealer.ring.close()


@contextlib.asynccontextmanager
async def sessions(place: StoreLocation, sealer: Sealer, *ids: str, **options: Any) -> AsyncIterator[list[Any]]:
    """Encrypted sessions under these ids, by one engine. What is wrong with the tables is told before."""
    from agents.extensions.memory import SQLAlchemySession

    async with open_store(place, ids[0]) as store:
        names = {"sessions_table": place.sessions_table, "messages_table": place.messages_table}
        stores = [SQLAlchemySession(one, engine=store.engine, **names) for one in ids]
        wrapped = [EncryptedSession.wrap(one, sealer.ring, ttl=TTL, **options) for one in stores]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await wrapped[0].get_items(1)
        yield wrapped


def run(place: StoreLocation, *statements: str) -> list[tuple[Any, ...]]:
    """What the last of these statements gives; `{s}` and `{m}` are the names of the tables."""
    with connected(place.where) as cursor:
        for statement in statements:
            cursor.execute(statement.format(s=place.sessions_table, m=place.messages_table))
        return list(cursor)


def rows_beneath(session: EncryptedSession) -> RowStore:
    rows = store_beneath(session.underlying_session)
    assert isinstance(rows, RowStore)
    return rows


async def newest_of(session: EncryptedSession) -> tuple[RowStore, Row]:
    rows = rows_beneath(session)
    return rows, (await rows.page(None, 1))[0]


# -- The tables of docs/mysql.md ------------------------------------------------------------------


async def test_in_the_documented_tables_nothing_is_warned_of_and_each_id_has_a_history_of_its_own(
    place: StoreLocation, sealer: Sealer
):
    ids = (*ALIKE, "zoë 😀", "zoe 😀", "x" * 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the session id has more than 64 bytes")
        async with sessions(place, sealer, *ids) as wrapped:
            for one in wrapped:
                await one.add_items([message(f"one of {one.session_id}"), message("two")])
            assert await wrapped[0].pop_item() == message("two")
            await wrapped[1].clear_session()
            counts = [len(await one.get_items()) for one in wrapped]
            assert counts == [1, 0, *[2] * (len(ids) - 2)]
            assert texts(await wrapped[0].get_items()) == ["one of user-1"]


async def test_a_conversation_with_a_tool_and_rows_that_do_not_open(place: StoreLocation, sealer: Sealer):
    @function_tool
    def order(number: int) -> str:
        return f"order {number} is on its way"

    turns = [[function_call("order", {"number": 7}, call_id="call-1")], [assistant_message("It is on its way.")]]
    agent = Agent(name="helper", tools=[order], model=ScriptedModel(turns))
    async with sealer.session(place) as session:
        assert (await Runner.run(agent, "Where is 7?", session=session)).final_output == "It is on its way."
        assert len(await session.get_items()) == 4
    another = Sealer()
    async with another.session(place) as other:
        assert (await other.read()).outcomes["unknown_key"] == 4
    another.ring.close()
    row = json.loads((await raw_rows(place, SESSION))[-1])
    row["payload"] = row["payload"][:40] + ("A" if row["payload"][40] != "A" else "B") + row["payload"][41:]
    await replace_raw_row(place, SESSION, -1, json.dumps(row))
    async with sealer.session(place) as session:
        with pytest.raises(UnreadableItemsError, match="1 unauthentic"):
            await session.pop_item()
        assert (await session.read()).outcomes == {"ok": 3, "unauthentic": 1}


async def test_large_items_and_many(place: StoreLocation, sealer: Sealer):
    large = "x" * 300_000
    async with sealer.session(place) as session:
        await session.add_items([message(str(number)) for number in range(700)])
        await session.add_items([message(large), message("last")])
        assert texts(await session.get_items(3)) == ["699", large, "last"]
        assert len(await session.get_items()) == 702
        assert await session.pop_item() == message("last")
        assert await session.pop_item() == message(large)


async def test_several_engines_that_pop_at_once_get_each_item_once(place: StoreLocation, sealer: Sealer):
    level = "READ COMMITTED" if place.kind == MARIADB[0] else "REPEATABLE READ"
    async with contextlib.AsyncExitStack() as stack:
        options = {"engine_kwargs": {"isolation_level": level}}
        stores = [await stack.enter_async_context(open_store(place, SESSION, **options)) for _ in range(3)]
        poppers = [EncryptedSession.wrap(store, sealer.ring, ttl=TTL) for store in stores]
        await poppers[0].add_items([message(str(number)) for number in range(30)])

        async def pop_all(session: EncryptedSession) -> list[str]:
            found = []
            while (item := await session.pop_item()) is not None:
                found += texts([item])
            return found

        found = await asyncio.gather(*map(pop_all, poppers))
    assert sorted(int(text) for popped in found for text in popped) == list(range(30))


async def test_what_a_compaction_writes_has_the_time_of_the_newest_row_that_it_replaces(
    place: StoreLocation, sealer: Sealer
):
    async with sealer.session(place) as session:
        await session.add_items([message("one")])
        await session.add_items([message("two")])
        ((newest,),) = run(place, "SELECT MAX(created_at) FROM {m}")
        await session._atomic_replace_items([message("both")])
        assert texts(await session.get_items()) == ["both"]
    assert run(place, "SELECT created_at FROM {m}") == [(newest,)]


async def test_a_page_begins_with_its_row_though_the_time_of_that_cannot_be_told(place: StoreLocation, sealer: Sealer):
    """As in the hour that a zone has twice: the database compares times, and no time comes from here."""
    async with sealer.session(place) as session:
        await session.add_items([message("one")])
        await session.add_items([message("two")])
        rows = rows_beneath(session)
        page = await rows.page(None, 10)
        page_again = await rows.page(page[0]._replace(id=page[0].id._replace(created_at=page[1].id.created_at)), 10)
    assert page_again == page


async def test_when_a_row_was_added_is_known_in_any_time_zone_unless_it_is_a_datetime(
    place: StoreLocation, sealer: Sealer
):
    options = {"engine_kwargs": {"connect_args": {"init_command": "SET time_zone = '+05:00'"}}}
    async with open_store(place, SESSION, **options) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one")])
        rows, newest = await newest_of(session)
        (added_at,) = await rows.added_at([newest])
        assert added_at is not None
        assert abs(added_at - sealer.now) < 60
    run(place, "ALTER TABLE {m} MODIFY created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)")
    async with sealer.session(place) as session:
        rows, newest = await newest_of(session)
        assert await rows.added_at([newest]) == [None]


# -- Tables that compare ids without regard to case -----------------------------------------------


ids = st.lists(st.sampled_from(ALIKE), min_size=2, max_size=3, unique=True)
steps = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["add", "pop", "clear", "compact"])), max_size=8)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=ids, steps=steps)
@example(ids=["user-1", "User-1"], steps=[(0, "add"), (1, "add"), (0, "clear"), (1, "pop")])
@example(ids=["user-1", "user-1 "], steps=[(1, "add"), (0, "add"), (0, "compact"), (1, "clear"), (0, "add")])
def test_no_session_touches_one_whose_id_the_database_takes_for_the_same(
    loose_by_one_driver: StoreLocation, sealer: Sealer, ids: list[str], steps: list[tuple[int, str]]
):
    async def live() -> None:
        run(loose_by_one_driver, "DELETE FROM {m}", "DELETE FROM {s}")
        async with sessions(loose_by_one_driver, sealer, *ids) as wrapped:
            expected: list[list[str]] = [[] for _ in ids]
            for number, (which, what) in enumerate(steps):
                session, mine = wrapped[which % len(ids)], expected[which % len(ids)]
                if what == "add":
                    await session.add_items([message(str(number))])
                    mine.append(str(number))
                elif what == "pop":
                    item = await session.pop_item()
                    assert texts([item] if item else []) == mine[-1:]
                    del mine[-1:]
                elif what == "clear":
                    await session.clear_session()
                    mine.clear()
                else:
                    await session._atomic_replace_items([message("summary")])
                    mine[:] = ["summary"]
                assert [texts(await one.get_items()) for one in wrapped] == expected

    asyncio.run(live())


async def test_what_was_expired_is_purged_of_exactly_one_session(loose: StoreLocation, sealer: Sealer):
    other = Sealer("User-1")
    async with sessions(loose, sealer, "user-1") as (session,), sessions(loose, other, "User-1") as (another,):
        await session.underlying_session.add_items([sealer.envelope(message("old"), age=10_000)])
        await another.underlying_session.add_items([other.envelope(message("old"), age=10_000)] * 2)
        assert await session.purge_expired() == 1
        assert (await another.read()).outcomes["expired"] == 2
        assert await another.purge_expired() == 2
    other.ring.close()


async def test_a_row_of_which_letters_changed_is_another_row(loose: StoreLocation, sealer: Sealer):
    """The database takes changed letters for unchanged, and so for the row that was read."""
    async with sessions(loose, sealer, SESSION) as (session,):
        await session.add_items([message("one")])
        rows, newest = await newest_of(session)
        run(loose, "UPDATE {m} SET message_data = UPPER(message_data)")
        assert not await rows.remove([newest], newest)
        assert await rows.remove_any([newest]) == 0
        assert not await rows.replace_tail([newest], [])
        assert len(await raw_rows(loose, SESSION)) == 1


async def test_the_first_use_warns_once_for_each_engine_and_the_statements_that_it_gives_cure_it(
    loose: StoreLocation, sealer: Sealer
):
    async with open_store(loose, "user-1") as store, open_store(loose, "User-1") as other:
        first = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        with pytest.warns(UserWarning, match="is not binary") as warned:
            await first.add_items([message("one")])
        again = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        assert texts(await again.get_items()) == ["one"]  # a warning would be an error
        with pytest.warns(UserWarning, match="is not binary"):
            await EncryptedSession.wrap(other, Sealer("User-1").ring, ttl=TTL).add_items([message("another")])
    assert warned[0].filename == __file__
    told = str(warned[0].message)
    assert f"{loose.messages_table}.session_id (utf8mb4_general_ci)" in told
    cure = re.findall(r"^    (.*);$", told, re.MULTILINE)
    documented = blocks(PAGE, "sql")[2].text
    for name in ("sessions", "messages"):
        documented = documented.replace(f"agent_{name}", f"{loose.prefix}_{name}")
    assert [f"{statement};" for statement in cure] == documented.splitlines()
    run(loose, *cure)
    async with sealer.session(loose) as session:
        assert texts(await session.get_items()) == ["one"]
        await session.clear_session()
    assert run(loose, "SELECT session_id FROM {m}") == run(loose, "SELECT session_id FROM {s}") == [(b"User-1",)]


@pytest.mark.parametrize(
    "binary",
    ["VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "VARCHAR(64) COLLATE utf8mb4_nopad_bin", "VARBINARY(64)"],
)
async def test_a_binary_id_is_warned_of_in_no_form(binary: str, request: pytest.FixtureRequest, sealer: Sealer):
    place = new_place(MARIADB[0], request)
    make_loose_tables(place, binary)
    async with open_store(place, "a") as store, open_store(place, "a ") as other:
        first, second = (EncryptedSession.wrap(one, sealer.ring, ttl=TTL) for one in (store, other))
        await first.add_items([message("one")])
        await second.add_items([message("two")])
        await first.clear_session()
        assert texts(await second.get_items()) == ["two"]


@pytest.mark.parametrize("by", ["ring", "environment"])
async def test_where_all_is_strict_such_tables_are_refused_at_every_call(
    loose: StoreLocation, sealer: Sealer, by: str, monkeypatch: pytest.MonkeyPatch
):
    key: Any = sealer.ring
    if by == "ring":
        monkeypatch.setattr(type(sealer.ring), "strict", True)
    else:
        monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
        key = sealer.active.reveal_base64()
    async with open_store(loose, SESSION) as store:
        session = EncryptedSession(SESSION, store, key)
        for call in (lambda: session.add_items([message("one")]), session.get_items, session.clear_session):
            with pytest.raises(StoreConfigError, match=r"strict.* is not binary"):
                await call()
    assert await raw_rows(loose, SESSION) == []


async def test_tables_without_transactions_are_told(request: pytest.FixtureRequest, sealer: Sealer):
    place = new_place(MARIADB[0], request)
    make_loose_tables(place, "VARBINARY(255)", engine="MyISAM")
    async with sealer.session(place) as session:
        with pytest.warns(UserWarning, match=r"do not support transactions \(MyISAM\)") as warned:
            await session.get_items()
    run(place, *re.findall(r"ALTER TABLE [^;]*", str(warned[0].message)))
    async with sealer.session(place) as session:
        assert await session.get_items() == []


# -- What does not fit ----------------------------------------------------------------------------


LENIENT = {"engine_kwargs": {"connect_args": {"init_command": "SET sql_mode = ''"}}}


@pytest.mark.parametrize("options", [{}, LENIENT], ids=["strict", "lenient"])
async def test_an_item_that_the_column_would_cut_off_is_refused_in_words(
    place: StoreLocation, sealer: Sealer, options: dict[str, Any]
):
    make_loose_tables(place, "VARBINARY(255)", data="TEXT")
    async with open_store(place, SESSION, **options) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        with pytest.raises(StoreError, match=r"message_data, which holds 65,535; nothing was written.*LONGTEXT"):
            await session.add_items([message("short"), message("x" * 60_000)])
        assert await session.get_items() == []
        await session.add_items([message("x" * 40_000)])
        with pytest.raises(StoreError, match="holds 65,535"):
            await session._atomic_replace_items([message("x" * 60_000)])
        assert len(await session.get_items()) == 1


async def test_an_item_above_max_allowed_packet_is_refused_in_words(request: pytest.FixtureRequest, sealer: Sealer):
    place = new_place(MARIADB[0], request)
    async with sealer.session(place) as session:
        with pytest.raises(StoreError, match=r"max_allowed_packet \(16,777,216\); nothing was written") as caught:
            await session.add_items([message("x" * 13_000_000)])
        assert not isinstance(caught.value, StoreUnavailableError)
        await session.add_items([message("one")])
        assert texts(await session.get_items()) == ["one"]


@pytest.mark.parametrize(
    ("column", "session_id", "why"),
    [
        ("VARBINARY(8)", "x" * 9, "holds 8 bytes, but the id has 9"),
        ("VARBINARY(8)", "é" * 5, "holds 8 bytes, but the id has 10"),
        ("VARCHAR(8) COLLATE utf8mb4_bin", "x" * 9, "holds 8 characters, but the id has 9"),
        ("CHAR(8) COLLATE utf8mb4_bin", "x ", "loses spaces"),
        ("BINARY(8)", "x", "pads values"),
    ],
)
async def test_an_id_that_the_column_would_not_keep_is_refused_at_every_call(
    request: pytest.FixtureRequest, sealer: Sealer, column: str, session_id: str, why: str
):
    place = new_place(MARIADB[0], request)
    make_loose_tables(place, column)
    async with open_store(place, session_id, **LENIENT) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        for call in (lambda: session.add_items([message("one")]), session.get_items):
            with pytest.raises(StoreError, match=f"cannot hold this session's id: .*{why}"):
                await call()
    assert run(place, "SELECT COUNT(*) FROM {s}") == [(0,)]


@pytest.mark.parametrize("options", [{}, LENIENT], ids=["strict", "lenient"])
async def test_an_id_with_a_letter_that_the_column_lacks_is_refused_in_words(
    place: StoreLocation, sealer: Sealer, options: dict[str, Any]
):
    make_loose_tables(place, "VARCHAR(64) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin")
    async with open_store(place, SESSION, **options) as store:
        store.session_id = "😀"
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        for call in (lambda: session.add_items([message("one")]), session.get_items):
            with pytest.raises(StoreError, match="character set lacks a character"):
                await call()
    assert run(place, "SELECT COUNT(*) FROM {s}") == [(0,)]


async def test_an_id_in_another_character_set_is_compared_by_its_letters(
    request: pytest.FixtureRequest, sealer: Sealer
):
    place = new_place(MARIADB[0], request)
    make_loose_tables(place, "VARCHAR(64) CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    async with sessions(place, sealer, "é", "e", "É") as wrapped:
        for one in wrapped:
            await one.add_items([message(one.session_id)])
        await wrapped[1].clear_session()
        assert [texts(await one.get_items()) for one in wrapped] == [["é"], [], ["É"]]
    async with open_store(place, "é") as store:
        with pytest.warns(UserWarning, match="latin1_swedish_ci") as warned:
            await EncryptedSession.wrap(store, sealer.ring, ttl=TTL).get_items()
    run(place, *re.findall(r"^    (.*);$", str(warned[0].message), re.MULTILINE))
    async with sessions(place, sealer, "é", "É") as wrapped:
        assert [texts(await one.get_items()) for one in wrapped] == [["é"], ["É"]]


@pytest.mark.parametrize("create_tables", [False, True])
async def test_tables_that_are_not_there_are_a_pointer_to_the_statements(
    place: StoreLocation, sealer: Sealer, create_tables: bool
):
    from agents.extensions.memory import SQLAlchemySession

    store = SQLAlchemySession.from_url(SESSION, url=place.where, create_tables=create_tables, messages_table="missing")
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    for call in (lambda: session.add_items([message("one")]), session.get_items, session.clear_session):
        with pytest.raises(StoreError, match=r"docs/mysql\.md"):
            await call()
    await store.engine.dispose()


# -- What others do meanwhile ---------------------------------------------------------------------


async def until_somebody_waits(place: StoreLocation) -> None:
    """Until a statement on the messages takes so long that it waits for a lock which another transaction has."""
    query = (
        "SELECT COUNT(*) FROM information_schema.processlist"
        " WHERE id <> CONNECTION_ID() AND command = 'Query' AND time_ms > 100 AND info LIKE '%{m}%'"
    )
    for _ in range(500):
        if run(place, query) != [(0,)]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody waits")


@contextlib.contextmanager
def transaction(place: StoreLocation) -> Iterator[Any]:
    """Somebody else's transaction, with more to undo than one of ours: in a deadlock ours gives way."""
    with connected(place.where) as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {place.prefix}_heavy (id INT) ENGINE=InnoDB")
        cursor.execute("BEGIN")
        cursor.execute(f"INSERT INTO {place.prefix}_heavy VALUES {', '.join(['(1)'] * 500)}")
        yield cursor
        cursor.execute("ROLLBACK")


@pytest.mark.parametrize("operation", ["add", "pop", "clear"])
async def test_what_gives_way_in_a_deadlock_is_done_again(place: StoreLocation, sealer: Sealer, operation: str):
    async with sealer.session(place) as session:
        await session.add_items([message("one")])
        calls: dict[str, Any] = {
            "add": lambda: session.add_items([message("two")]),
            "pop": session.pop_item,
            "clear": session.clear_session,
        }
        with transaction(place) as other:
            # Every change locks the session's row first, and then the messages.
            other.execute(f"SELECT * FROM {place.messages_table} FOR UPDATE")
            changing = asyncio.ensure_future(calls[operation]())
            await until_somebody_waits(place)
            other.execute(f"SELECT * FROM {place.sessions_table} FOR UPDATE")  # ours has given way
        assert await changing == (message("one") if operation == "pop" else None)
        assert texts(await session.get_items()) == (["one", "two"] if operation == "add" else [])


async def test_adding_at_once_where_a_snapshot_counts_loses_nothing(place: StoreLocation, sealer: Sealer):
    """MariaDB 11.6 has this on: a row that changed since the transaction began is an error of its own."""
    options = {"engine_kwargs": {"connect_args": {"init_command": "SET innodb_snapshot_isolation = ON"}}}
    async with open_store(place, SESSION, **options) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("first")])
        await asyncio.gather(*(session.add_items([message(str(number))]) for number in range(4)))
        assert sorted(texts(await session.get_items())) == ["0", "1", "2", "3", "first"]


async def test_a_lock_that_another_holds_is_told(place: StoreLocation, sealer: Sealer):
    options = {"engine_kwargs": {"connect_args": {"init_command": "SET innodb_lock_wait_timeout = 1"}}}
    async with open_store(place, SESSION, **options) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items([message("one")])
        with transaction(place) as other:
            other.execute(f"SELECT * FROM {place.sessions_table} FOR UPDATE")
            with pytest.raises(StoreUnavailableError, match="Something else holds a lock") as caught:
                await session.pop_item()
        assert "It is not known whether anything was changed" not in str(caught.value)
        assert await session.pop_item() == message("one")


async def test_a_pop_that_hangs_ends_in_time_and_is_put_back(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place, store_timeout_s=1.0) as session:
        await session.add_items([message("one")])
        with transaction(place) as other:
            other.execute(f"SELECT * FROM {place.sessions_table} FOR UPDATE")
            with pytest.raises(StoreTimeoutError) as caught:
                await session.pop_item()
        assert caught.value.in_doubt
        assert texts(await session.get_items()) == ["one"]


async def test_after_a_read_that_was_given_up_the_next_answer_is_that_to_its_own_question(
    place: StoreLocation, sealer: Sealer
):
    async with sealer.session(place, store_timeout_s=1.0) as session:
        await session.add_items([message("one"), message("two")])
        with connected(place.where) as other:
            other.execute(f"LOCK TABLES {place.messages_table} WRITE")
            with pytest.raises(StoreTimeoutError):
                await session.get_items()
            other.execute("UNLOCK TABLES")
        assert texts(await session.get_items(1)) == ["two"]
        assert await session.pop_item() == message("two")


async def test_a_connection_that_was_killed_is_told_and_the_next_call_has_another(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        await session.add_items([message("one")])
        for number, *_ in run(place, "SELECT id FROM information_schema.processlist WHERE db = DATABASE()"):
            with contextlib.suppress(Exception):  # one of them is this one's own
                run(place, f"KILL CONNECTION {number}")
        with pytest.raises(StoreUnavailableError, match="Try again when it answers"):
            await session.get_items()
        assert texts(await session.get_items()) == ["one"]


async def test_what_the_driver_raises_shows_no_row(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        await session.add_items([message("one")])
        run(place, "ALTER TABLE {m} ADD UNIQUE (session_id)")
        with pytest.raises(StoreError) as caught:
            await session.add_items([message("two")])
        assert not isinstance(caught.value, StoreUnavailableError)
        shown = f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
        assert "gAAAA" not in shown
        assert SESSION not in shown
        assert texts(await session.get_items()) == ["one"]


# -- What there is not yet ------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+aiomysql", "mysql+asyncmy"])
def test_the_whole_of_such_a_store_is_refused_in_words(scheme: str):
    with pytest.raises(StoreConfigError, match=re.escape(f"whole stores of the kind {scheme}:// are not supported")):
        open_whole_store(f"{scheme}://host/agents")

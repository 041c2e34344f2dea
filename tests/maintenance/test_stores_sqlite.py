"""Files of SQLite: what is gone is gone from the bytes of the file, and nobody waits long."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.errors import StoreError, StoreUnavailableError
from encrypted_sessions.stores.sqlite.whole import SQLiteStore
from encrypted_sessions.stores.tables import Tables
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.sealed_rows import message
from encrypted_sessions_tests.soak import with_full
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.stores import open_store as open_session
from encrypted_sessions_tests.whole_stores import all_rows, as_text, fill, make_tables, rows_of, whole


@pytest.fixture(params=with_full(["sqlite", "advanced-sqlite"], ["async-sqlite", "sqlalchemy-sqlite"]))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


def impatient(place: StoreLocation) -> SQLiteStore:
    return SQLiteStore(place.where, Tables(place.sessions_table, place.messages_table), timeout_s=0.2)


def on_disk(place: StoreLocation) -> bytes:
    """The file and its log, or its journal."""
    path = Path(place.where)
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*") if not file.name.endswith("-shm"))


def left_of(rows: list[str], place: StoreLocation) -> int:
    """How many pieces of these rows still lie there: three of each, as a row may be cut anywhere."""
    there = on_disk(place)
    pieces = [row[start : start + 24].encode() for row in rows for start in (40, len(row) // 2, len(row) - 30)]
    return sum(piece in there for piece in pieces)


def unlike_any_other(size: int) -> str:
    return secrets.token_urlsafe(size)[:size]


@contextmanager
def journal(place: StoreLocation, mode: str) -> Iterator[None]:
    with closing(sqlite3.connect(place.where)) as connection:
        assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        yield


# -- Gone means gone ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [200, 1_000, 4_060, 9_000])
async def test_no_byte_of_what_was_replaced_is_left(place: StoreLocation, size: int):
    old = {f"session-{number}": [unlike_any_other(size) for _ in range(60)] for number in range(5)}
    await fill(place, old)
    texts = [row for rows in old.values() for row in rows]
    assert left_of(texts, place) == 3 * len(texts)
    async with whole(place) as store:
        rows = await all_rows(store)
        for start in range(0, len(rows), 50):
            some = rows[start : start + 50]
            assert all(await store.replace([(row, unlike_any_other(size)) for row in some]))
        assert await store.checkpoint() == ()
        assert left_of(texts, place) == 0


@pytest.mark.parametrize("size", [200, 1_000, 4_060, 9_000])
async def test_no_byte_of_what_was_removed_is_left(place: StoreLocation, size: int):
    old = {f"session-{number}": [unlike_any_other(size) for _ in range(60)] for number in range(5)}
    await fill(place, old)
    async with whole(place) as store:
        rows = await all_rows(store)
        gone = [row for number, row in enumerate(rows) if number % 3]
        for start in range(0, len(gone), 50):
            assert all(await store.remove(gone[start : start + 50]))
        assert await store.checkpoint() == ()
        assert left_of([as_text(row) for row in gone], place) == 0
        await store.erase(list(old))
        assert await store.checkpoint() == ()
        assert left_of([as_text(row) for row in rows], place) == 0


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_without_a_log_no_journal_is_left_either(place: StoreLocation, mode: str):
    old = [unlike_any_other(1_000) for _ in range(100)]
    await fill(place, {"mine": old})
    with journal(place, mode):
        async with whole(place) as store:
            rows = await all_rows(store)
            assert all(await store.replace([(row, unlike_any_other(900)) for row in rows[:50]]))
            assert all(await store.remove(rows[50:]))
            assert await store.checkpoint() == ()
            assert left_of(old, place) == 0


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_reader_that_holds_the_log_is_told_of(place: StoreLocation):
    old = [unlike_any_other(1_000) for _ in range(20)]
    await fill(place, {"mine": old})
    async with impatient(place) as store:
        rows = await all_rows(store)
        with closing(sqlite3.connect(place.where, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM agent_messages").fetchall()
            assert all(await store.remove(rows))
            (notice,) = await store.checkpoint()
            assert f"{place.where}-wal" in notice
            assert "still holds old bytes" in notice
            assert left_of(old, place) > 0
        assert await store.checkpoint() == ()
        assert left_of(old, place) == 0


# -- Others at work -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_writer_that_holds_the_file_is_an_outage_and_nothing_is_half_done(place: StoreLocation):
    await fill(place, {"mine": ["one", "two"]})
    async with impatient(place) as store:
        rows = await all_rows(store)
        with closing(sqlite3.connect(place.where, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert await all_rows(store) == rows
            for change in (store.replace([(rows[0], "new")]), store.remove(rows), store.erase(["mine"])):
                with pytest.raises(StoreUnavailableError, match=r"locked.*try again"):
                    await change
            writer.execute("ROLLBACK")
        assert await store.replace([(rows[0], "new"), (rows[1], "new too")]) == [True, True]


async def test_agents_that_write_and_pop_go_on_meanwhile(place: StoreLocation):
    """Every item that an agent keeps is there afterwards, as the last who wrote it left it."""
    await fill(place, {f"session-{number}": [f'{{"n": {item}}}' for item in range(300)] for number in range(4)})
    done = asyncio.Event()

    async def agent(session_id: str) -> list[Any]:
        kept: list[Any] = []
        async with open_session(place, session_id) as session:
            while not done.is_set():
                await session.add_items([message("kept"), message("popped")])
                assert await session.pop_item() == message("popped")
                kept.append(message("kept"))
                await asyncio.sleep(0.002)  # SQLite lets others in by chance alone, and an agent does other things too
        return kept

    async def maintenance() -> None:
        async with whole(place) as store:
            async for block in store.blocks():
                after = None
                while rows := await store.rows(block, after, 50):
                    after = rows[-1]
                    mine = [row for row in rows if as_text(row).startswith('{"n"')]
                    assert all(await store.replace([(row, as_text(row)[:-1] + " }") for row in mine]))
            await store.checkpoint()
        done.set()

    kept, more, _ = await asyncio.gather(agent("session-0"), agent("session-1"), maintenance())
    for session_id, items in (("session-0", kept), ("session-1", more)):
        async with open_session(place, session_id) as session:
            assert await session.get_items() == [{"n": number} for number in range(300)] + items


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_change_is_finished_though_its_task_is_cancelled(place: StoreLocation):
    await fill(place, {"mine": ["one"] * 2_000})
    async with whole(place) as store:
        rows = await all_rows(store)
        task = asyncio.create_task(store.remove(rows))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await all_rows(store)) in (0, 2_000)


# -- Odd tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_ids_far_apart_cost_no_walk_through_the_gaps(place: StoreLocation):
    await fill(place, {"mine": ["row"]})
    ids = [-(2**63), -5, 1, 2, 7_000, 2**40, 2**63 - 1]
    with stores._sqlite(place) as connection:
        connection.execute("DELETE FROM agent_messages")
        connection.executemany(
            "INSERT INTO agent_messages (id, session_id, message_data) VALUES (?, 'mine', 'row')",
            [(number,) for number in ids],
        )
    async with whole(place) as store:
        assert sorted(row.id for row in await all_rows(store, 1)) == ids
        assert len([block async for block in store.blocks()]) <= 2 * len(ids)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_rows_that_come_in_during_a_walk_are_in_its_last_block(place: StoreLocation):
    await fill(place, {"mine": ["old"] * 12_000})
    async with whole(place) as store:
        found = []
        first = True
        async for block in store.blocks():
            if first:
                await stores.write_raw_row(place, "mine", "new")
                first = False
            found += await store.rows(block, None, 20_000)
    assert [row.data for row in found[-1:]] == [b"new"]
    assert len(found) == 12_001


async def test_times_are_seconds_in_utc(place: StoreLocation):
    before = int(time.time())
    await fill(place, {"mine": ["row"] * 6})
    async with whole(place) as store:
        times = [row.created_at for row in await rows_of(store, "mine")]
        assert all(created_at is not None and before <= created_at <= time.time() for created_at in times)
        with stores._sqlite(place) as connection:
            for number, text in enumerate(
                ("2020-02-29 12:00:00", "2020-02-29 12:00:00.750000", "no time", "", "1e400")
            ):
                connection.execute("UPDATE agent_messages SET created_at = ? WHERE id = ?", (text, number + 1))
        times = [row.created_at for row in sorted(await all_rows(store))]
        assert times[:5] == [1582977600.0, 1582977600.0, None, None, None]


@pytest.mark.parametrize("place", ["sqlalchemy-sqlite"], indirect=True)
async def test_rows_of_sqlalchemy_come_in_the_order_of_time(place: StoreLocation):
    await fill(place, {"mine": [f"{number}" for number in range(6)]})
    with stores._sqlite(place) as connection:
        connection.execute("UPDATE agent_messages SET created_at = '2020-01-01 00:00:00' WHERE id IN (3, 5)")
    expected = ["2", "4", "0", "1", "3", "5"]
    assert await stores.raw_rows(place, "mine") == expected
    async with whole(place) as store:
        for count in (1, 4, 100):
            assert [as_text(row) for row in await rows_of(store, "mine", count)] == expected


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_names_of_tables_are_quoted(place: StoreLocation):
    names = {"sessions_table": 'the "sessions"; --', "messages_table": "Messages of 'all' %s :x ?"}
    with stores._sqlite(place) as connection:
        connection.execute("""CREATE TABLE "the ""sessions""; --" (session_id TEXT PRIMARY KEY)""")
        connection.execute(
            """CREATE TABLE "Messages of 'all' %s :x ?" (id INTEGER PRIMARY KEY, session_id TEXT, message_data TEXT,"""
            " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
        )
        connection.execute("""INSERT INTO "Messages of 'all' %s :x ?" (session_id, message_data) VALUES ('a', 'x')""")
    async with whole(place, **names) as store:
        assert await store.count() == 1
        (row,) = await all_rows(store)
        assert await store.replace([(row, "y")]) == [True]
        assert dict(await store.erase(["a"])) == {names["messages_table"]: 1, names["sessions_table"]: 0}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_names_of_tables_are_found_in_any_case(place: StoreLocation):
    await fill(place, {"mine": ["row"]})
    async with whole(place, sessions_table="AGENT_SESSIONS", messages_table="Agent_Messages") as store:
        assert await store.count() == 1


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_view_is_no_table(place: StoreLocation):
    await make_tables(place)
    with stores._sqlite(place) as connection:
        connection.execute("CREATE VIEW looks_like_it AS SELECT * FROM agent_messages")
    with pytest.raises(StoreError, match=r"has no table 'looks_like_it': its tables of this form are agent_messages\."):
        async with whole(place, messages_table="looks_like_it"):
            pass


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_damaged_file_is_named_and_not_tried_for_ever(place: StoreLocation):
    await fill(place, {"mine": [unlike_any_other(1_000) for _ in range(500)]})
    with closing(sqlite3.connect(place.where)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(place.where, "r+b") as file:  # noqa: ASYNC230, PTH123 - a test's own file
        file.seek(4096 * 5)
        file.write(os.urandom(4096 * 60))
    async with whole(place) as store:
        with pytest.raises(StoreError, match="malformed") as caught:
            await all_rows(store)
        assert not isinstance(caught.value, StoreUnavailableError)


# -- AdvancedSQLiteSession ------------------------------------------------------------------------


async def usage_of(place: StoreLocation) -> list[Any]:
    with stores._sqlite(place) as connection:
        return connection.execute("SELECT branch_id, user_turn_number FROM turn_usage ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize("place", ["advanced-sqlite"], indirect=True)
async def test_a_removed_message_is_gone_from_every_branch_with_its_notes(place: StoreLocation):
    async with open_session(place, "mine") as session, open_session(place, "other") as other:
        for turn in range(3):
            await session.add_items([message(f"question {turn}"), {"role": "assistant", "content": f"answer {turn}"}])
            with stores._sqlite(place) as connection:
                connection.execute(
                    "INSERT INTO turn_usage (session_id, user_turn_number) VALUES ('mine', ?)", (turn + 1,)
                )
        await other.add_items([message("question 0")])
        await session.create_branch_from_turn(3, "side")
        async with whole(place) as store:
            rows = await rows_of(store, "mine")
            assert await store.remove(rows[:3]) == [True] * 3
        left = [{"role": "assistant", "content": "answer 1"}]
        assert await session.get_items() == left
        await session.switch_to_branch("main")
        assert await session.get_items() == [
            *left,
            message("question 2"),
            {"role": "assistant", "content": "answer 2"},
        ]
        assert await usage_of(place) == [(b"main", 2), (b"main", 3)]
        assert await other.get_items() == [message("question 0")]
        with stores._sqlite(place) as connection:
            query = "SELECT count(*) FROM message_structure WHERE message_id NOT IN (SELECT id FROM agent_messages)"
            assert connection.execute(query).fetchone() == (0,)
        async with whole(place) as store:
            await store.remove([row for row in await all_rows(store) if row.session_id == "mine"])
        assert await session.get_items() == []
        assert await usage_of(place) == []
        await session.add_items([message("again")])
        assert await session.get_items() == [message("again")]
        with pytest.raises(ValueError, match="already been used"):  # as after the SDK's own pop
            await session.create_branch_from_turn(1, "side")


@pytest.mark.parametrize("place", ["advanced-sqlite"], indirect=True)
async def test_erasing_leaves_nothing_of_a_session_in_any_table(place: StoreLocation):
    async with open_session(place, "to be erased") as session, open_session(place, "other") as other:
        for number in range(3):
            await session.add_items([message(f"question {number}")])
            await other.add_items([message(f"question {number}")])
        await session.create_branch_from_turn(2, "side")
        async with whole(place) as store:
            counts = await store.erase(["to be erased"])
            await store.checkpoint()
        assert {table for table, count in counts.items() if count} == {
            "agent_messages",
            "agent_sessions",
            "message_structure",
            "branch_reservations",
            "session_clear_generations",
        }
        assert b"to be erased" not in on_disk(place)
        assert len(await other.get_items()) == 3


@pytest.mark.parametrize("place", ["advanced-sqlite"], indirect=True)
async def test_notes_of_another_pair_of_tables_are_left_alone(place: StoreLocation):
    async with open_session(place, "mine") as session:
        await session.add_items([message("one")])
        plain = stores.StoreLocation("sqlite", place.where, place.prefix)
        with stores._open_sqlite(plain, "mine", {"sessions_table": "s2", "messages_table": "m2"}) as second:
            await second.add_items([message("two")])
        async with whole(place, sessions_table="s2", messages_table="m2") as store:
            rows = await all_rows(store)
            assert [row.id for row in rows] == [1]
            assert await store.remove(rows) == [True]
            assert dict(await store.erase(["mine"])) == {"m2": 0, "s2": 1}
        assert await session.get_items() == [message("one")]


@pytest.mark.parametrize("place", ["advanced-sqlite"], indirect=True)
async def test_a_long_session_with_notes_is_removed_in_reasonable_time(place: StoreLocation):
    await fill(place, {"mine": ["row"] * 20_000})
    async with whole(place) as store:
        rows = await all_rows(store, 5_000)
        for start in range(0, len(rows), 5_000):
            assert all(await store.remove(rows[start : start + 5_000]))
    with stores._sqlite(place) as connection:
        assert connection.execute("SELECT count(*) FROM message_structure").fetchone() == (0,)


# -- Two at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_runs_that_end_at_the_same_moment_both_empty_the_log(place: StoreLocation):
    """SQLite does not wait for somebody else's checkpoint."""
    await fill(place, {"mine": ["row"] * 50})

    async def run() -> list[str]:
        told: list[str] = []
        async with whole(place) as store:
            for _ in range(15):
                rows = await all_rows(store)
                await store.replace([(row, as_text(row) + ".") for row in rows])
                told += await store.checkpoint()
        return told

    assert await asyncio.gather(*(run() for _ in range(3))) == [[]] * 3

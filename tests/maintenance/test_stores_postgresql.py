"""PostgreSQL: times in other zones, servers that stop, and connections that end in the middle."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from encrypted_sessions.errors import StoreError, StoreUnavailableError
from encrypted_sessions.stores.sql.whole import PostgreSQLStore
from encrypted_sessions.stores.tables import Tables
from encrypted_sessions.stores.whole import Block
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.cutting_proxy import proxy_to
from encrypted_sessions_tests.sealed_rows import message
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.stores import StoreLocation, database_of, new_place
from encrypted_sessions_tests.stores import open_store as open_session
from encrypted_sessions_tests.whole_stores import all_rows, as_text, fill, make_tables, rows_of, whole

DRIVERS = ("asyncpg", "psycopg")


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("sqlalchemy-postgres", request)


def by(driver: str, place: StoreLocation, *, timeout_s: float = 30.0, port: int | None = None) -> PostgreSQLStore:
    """The store of a place by a driver, perhaps through another port."""
    url = place.where.replace("+asyncpg", "")
    if port is not None:
        url = url.replace(f":{urlsplit(url).port}/", f":{port}/")
    return PostgreSQLStore(url, driver, Tables(place.sessions_table, place.messages_table), timeout_s=timeout_s)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_either_driver_reads_replaces_removes_and_erases(place: StoreLocation, driver: str):
    await fill(place, {"mine": [f'{{"ü": {number}}}' for number in range(10)], "other": ["x"]})
    async with by(driver, place) as store:
        assert await store.count() == 11
        rows = await rows_of(store, "mine", 3)
        assert [as_text(row) for row in rows] == [f'{{"ü": {number}}}' for number in range(10)]
        assert await store.replace([(row, "new 100% :x ü") for row in rows[:4]]) == [True] * 4
        assert await store.replace([(row, "newer") for row in rows[:5]]) == [False] * 4 + [True]
        assert await store.remove(rows[4:6]) == [False, True]
        assert len(await all_rows(store)) == 10
        assert dict(await store.erase(["mine"])) == {place.messages_table: 9, place.sessions_table: 1}
        assert [row.session_id for row in await all_rows(store)] == ["other"]


async def test_names_of_tables_are_quoted(place: StoreLocation):
    names = {"sessions_table": 'the "sessions"; --', "messages_table": "Messages of 'all' %s :x $1"}
    async with stores._postgres(place) as connection:
        await connection.execute("""CREATE TABLE "the ""sessions""; --" (session_id TEXT PRIMARY KEY)""")
        await connection.execute(
            """CREATE TABLE "Messages of 'all' %s :x $1" (id SERIAL PRIMARY KEY, session_id TEXT, message_data TEXT,"""
            " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
        )
        await connection.execute(
            """INSERT INTO "Messages of 'all' %s :x $1" (session_id, message_data) VALUES ('a', 'x')"""
        )
        for driver in DRIVERS:
            url = place.where.replace("+asyncpg", "")
            async with PostgreSQLStore(url, driver, Tables(*names.values())) as store:
                (row,) = await all_rows(store)
                assert await store.replace([(row, "y")]) == [True]
                assert (await rows_of(store, "a"))[0].data == "y"
                (row,) = await all_rows(store)
                assert await store.replace([(row, "x")]) == [True]
        async with whole(place, **names) as store:
            assert dict(await store.erase(["a"])) == {names["messages_table"]: 1, names["sessions_table"]: 0}
        for name in names.values():
            await connection.execute(f'DROP TABLE "{name.replace(chr(34), chr(34) * 2)}"')


# -- Times ----------------------------------------------------------------------------------------


@asynccontextmanager
async def in_time_zone(place: StoreLocation, zone: str) -> AsyncIterator[None]:
    async with stores._postgres(place) as admin:
        await admin.execute(f"ALTER DATABASE {database_of(place)} SET timezone TO '{zone}'")
        yield
        await admin.execute(f"ALTER DATABASE {database_of(place)} RESET timezone")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Pacific/Kiritimati", "UTC"])
async def test_times_are_seconds_in_utc_wherever_the_server_is(place: StoreLocation, zone: str, driver: str):
    async with in_time_zone(place, zone):
        before = time.time()
        async with open_session(place, "mine") as session:
            for number in range(5):
                await session.add_items([message(f"{number}a"), message(f"{number}b")])
            items = await session.get_items()
        async with by(driver, place) as store:
            rows = await rows_of(store, "mine", 3)
            assert [stores.json.loads(as_text(row)) for row in rows] == items
            for row in rows:
                assert row.created_at is not None
                assert before - 1 <= row.created_at <= time.time() + 1


async def test_summer_time_counts(place: StoreLocation):
    await fill(place, {"mine": ["winter", "summer"]})
    async with in_time_zone(place, "Europe/Berlin"):
        async with stores._postgres(place) as admin:
            for text, at in (("winter", "2026-01-15 12:00"), ("summer", "2026-07-15 12:00:00.25")):
                await admin.execute(
                    f"UPDATE {place.messages_table} SET created_at = '{at}' WHERE message_data = '{text}'"
                )
        async with whole(place) as store:
            assert [row.created_at for row in await rows_of(store, "mine")] == [1768474800.0, 1784109600.25]


# -- Others at work -------------------------------------------------------------------------------


async def test_a_row_that_another_transaction_changes_first_keeps_its_new_state(place: StoreLocation):
    await fill(place, {"mine": ["one", "two", "three"]})
    async with whole(place) as store, stores._postgres(place) as other:
        rows = await rows_of(store, "mine")
        transaction = other.transaction()
        await transaction.start()
        await other.execute(f"UPDATE {place.messages_table} SET message_data = 'theirs' WHERE message_data = 'two'")
        replacing = asyncio.create_task(store.replace([(row, "ours") for row in rows]))
        await asyncio.sleep(0.2)
        assert not replacing.done()
        await transaction.commit()
        assert await replacing == [True, False, True]
        assert await stores.raw_rows(place, "mine") == ["ours", "theirs", "ours"]


@pytest.mark.parametrize("theirs", ["committed", "rolled back"])
async def test_a_row_that_another_transaction_removes_first_is_removed_once(place: StoreLocation, theirs: str):
    await fill(place, {"mine": ["one", "two"]})
    async with whole(place) as store, stores._postgres(place) as other:
        rows = await rows_of(store, "mine")
        transaction = other.transaction()
        await transaction.start()
        await other.execute(f"DELETE FROM {place.messages_table} WHERE message_data = 'two'")
        removing = asyncio.create_task(store.remove(rows))
        await asyncio.sleep(0.2)
        assert not removing.done()
        await (transaction.commit() if theirs == "committed" else transaction.rollback())
        assert await removing == [True, theirs == "rolled back"]
        assert await stores.raw_rows(place, "mine") == []


@pytest.mark.parametrize(
    "rewriting", ["VACUUM FULL {table}", "VACUUM FREEZE {table}", "CLUSTER {table} USING {table}_pkey"]
)
async def test_rows_that_maintenance_moves_are_still_told_apart(place: StoreLocation, rewriting: str):
    await fill(place, {"mine": [f"{number}" for number in range(100)]})
    async with whole(place) as store, stores._postgres(place) as other:
        rows = await rows_of(store, "mine")
        await other.execute(f"DELETE FROM {place.messages_table} WHERE id % 2 = 0 OR message_data = '11'")
        await other.execute(rewriting.format(table=place.messages_table))
        done = await store.replace([(row, f"new {row.data}") for row in rows])
        assert done == [row.id % 2 == 1 and row.data != "11" for row in rows]
        left = [f"new {row.data}" for row, was_done in zip(rows, done, strict=True) if was_done]
        assert await stores.raw_rows(place, "mine") == left


async def test_texts_that_the_columns_collation_takes_for_equal_are_told_apart(place: StoreLocation):
    await fill(place, {"mine": ["one", "two"]})
    async with whole(place) as store, stores._postgres(place) as other:
        await other.execute(
            f"CREATE COLLATION {place.messages_table}_any_case"
            " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        await other.execute(
            f"ALTER TABLE {place.messages_table} ALTER message_data TYPE TEXT COLLATE {place.messages_table}_any_case"
        )
        (block, *_) = [block async for block in store.blocks()]
        assert await store.rows_unless(block, ["o", "t"], 10) == 2
        rows = await rows_of(store, "mine")
        assert await store.rows_unless(block, ["O", "T"], 10) == rows
        await other.execute(f"UPDATE {place.messages_table} SET message_data = 'TWO' WHERE message_data = 'two'")
        assert await store.replace([(row, f"new {row.data}") for row in rows]) == [True, False]
        assert await store.remove(rows[1:]) == [False]
        assert await stores.raw_rows(place, "mine") == ["new one", "TWO"]
        await other.execute(f"DROP TABLE {place.messages_table}; DROP COLLATION {place.messages_table}_any_case")


async def test_rows_that_share_an_id_keep_their_own_texts(place: StoreLocation):
    # A partitioned table has its key in the primary key, so an id can come twice.
    await make_tables(place)
    async with whole(place) as store, stores._postgres(place) as admin:
        await admin.execute(f"DROP TABLE {place.messages_table}")
        await admin.execute(
            f"CREATE TABLE {place.messages_table} (id INT, session_id TEXT, message_data TEXT, created_at TIMESTAMP"
            " DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (id, session_id)) PARTITION BY LIST (session_id)"
        )
        for session in "ab":
            await admin.execute(
                f"CREATE TABLE {place.messages_table}_{session} PARTITION OF {place.messages_table}"
                f" FOR VALUES IN ('{session}')"
            )
        await admin.execute(
            f"INSERT INTO {place.messages_table} (id, session_id, message_data)"
            " VALUES (1, 'a', 'of a'), (1, 'b', 'of b')"
        )
        rows = await all_rows(store)
        assert await store.replace([(row, f"new {row.data}") for row in rows]) == [True, True]
        assert sorted((row.session_id, row.data) for row in await all_rows(store)) == [
            ("a", "new of a"),
            ("b", "new of b"),
        ]
        assert await store.remove([row for row in await all_rows(store) if row.session_id == "a"]) == [True]
        assert [row.data for row in await all_rows(store)] == ["new of b"]
        await admin.execute(f"DROP TABLE {place.messages_table}")


async def test_a_deadlock_with_another_is_tried_again(place: StoreLocation):
    await fill(place, {"mine": ["one", "two"]})
    async with whole(place) as store, stores._postgres(place) as other:
        rows = await rows_of(store, "mine")
        await other.execute("SET deadlock_timeout = '10s'")  # so that ours is found first
        transaction = other.transaction()
        await transaction.start()
        lock = f"SELECT 1 FROM {place.messages_table} WHERE message_data = $1 FOR UPDATE"
        await other.execute(lock, "two")
        replacing = asyncio.create_task(store.replace([(row, f"new {row.data}") for row in rows]))
        await asyncio.sleep(0.3)  # it holds the first row now, and waits for the second
        await other.execute(lock, "one")
        await transaction.commit()
        assert await replacing == [True, True]
        assert await stores.raw_rows(place, "mine") == ["new one", "new two"]


async def test_two_runs_over_the_same_rows_change_each_once(place: StoreLocation):
    await fill(place, {"mine": [f"{number}" for number in range(2_000)]})

    async def run(name: str) -> int:
        changed = 0
        async with whole(place) as store:
            rows = await rows_of(store, "mine")
            for start in range(0, len(rows), 100):
                some = rows[start : start + 100]
                changed += sum(await store.replace([(row, f"{name} {row.data}") for row in some[::-1]]))
        return changed

    assert sum(await asyncio.gather(*map(run, "abc"))) == 2_000
    assert [str(row)[2:] for row in await stores.raw_rows(place, "mine")] == [f"{number}" for number in range(2_000)]


# -- Servers that stop ----------------------------------------------------------------------------


@pytest.mark.private_servers
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_was_started_again_is_an_outage_and_then_works(
    place: StoreLocation, driver: str, postgres_server: Server
):
    await fill(place, {"mine": ["one", "two"]})
    async with stores._postgres(place) as admin:
        await admin.execute("CHECKPOINT")  # the tests' server writes nothing through by itself
    async with by(driver, place) as store:
        rows = await all_rows(store)
        postgres_server.kill()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
                await store.replace([(row, "new") for row in rows])
        postgres_server.start()
        while True:
            try:
                assert len(await all_rows(store)) == 2
                break
            except StoreUnavailableError:  # a connection of before
                await asyncio.sleep(0.1)
        assert await store.replace([(row, "new") for row in rows]) == [True, True]


@pytest.mark.long
@pytest.mark.private_servers
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_does_not_answer_is_an_outage(place: StoreLocation, driver: str, postgres_server: Server):
    await fill(place, {"mine": ["one", "two"]})
    async with by(driver, place, timeout_s=1.0) as store:
        rows = await all_rows(store)
        postgres_server.pause()
        with pytest.raises(StoreUnavailableError, match="did not answer within 1 s"):
            await store.remove(rows)
        with pytest.raises(StoreUnavailableError, match="did not answer within 1 s"):
            await store.count()
        postgres_server.resume()
        await asyncio.sleep(0.2)
        assert sum(await store.remove(rows)) in (0, 2)  # what was sent before may have been done


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_cut_in_the_middle_is_an_outage_and_reading_again_tells(
    place: StoreLocation, driver: str, moment: Any
):
    await fill(place, {"mine": ["one", "two"]})
    port = urlsplit(place.where).port
    assert port is not None
    async with proxy_to(port) as proxy, by(driver, place, port=proxy.port) as store:
        rows = await all_rows(store)
        proxy.cut(moment, b"a new text by which it is known")
        with pytest.raises(StoreUnavailableError):
            await store.replace([(row, "a new text by which it is known") for row in rows])
        assert proxy.cuts == 1
        again = await all_rows(store)
        assert {row.data for row in again} == (
            {"one", "two"} if moment == "before" else {"a new text by which it is known"}
        )
        assert await store.replace([(row, "newest") for row in again]) == [True, True]


async def test_what_waiting_does_not_mend_is_no_outage_and_shows_no_row(place: StoreLocation):
    await fill(place, {"mine": ["a row that is not shown"]})
    async with stores._postgres(place) as admin:
        await admin.execute("CREATE ROLE reader LOGIN PASSWORD 'of-the-reader'")
        await admin.execute(f"GRANT SELECT ON {place.messages_table}, {place.sessions_table} TO reader")
        try:
            user, password = urlsplit(place.where).username, urlsplit(place.where).password
            url = place.where.replace(f"{user}:{password}@", "reader:of-the-reader@")
            async with whole(StoreLocation(place.kind, url, place.prefix)) as store:
                rows = await all_rows(store)
                with pytest.raises(StoreError, match="permission denied") as caught:
                    await store.replace([(rows[0], "nor what was to come")])
                assert not isinstance(caught.value, StoreUnavailableError)
                for secret in ("not shown", "to come", "of-the-reader"):
                    assert secret not in str(caught.value)
                assert caught.value.__context__ is None
            for bad in ("reader:wrong@", "nobody:wrong@"):
                with pytest.raises(StoreError, match="authentication") as caught:
                    async with whole(
                        StoreLocation(place.kind, place.where.replace(f"{user}:{password}@", bad), place.prefix)
                    ):
                        pass
                assert not isinstance(caught.value, StoreUnavailableError)
        finally:
            await admin.execute("DROP OWNED BY reader")
            await admin.execute("DROP ROLE reader")


async def test_adding_to_a_session_while_it_is_erased_leaves_whole_histories(place: StoreLocation):
    await make_tables(place)
    stop = asyncio.Event()

    async def agent() -> None:
        async with open_session(place, "mine") as session:
            while not stop.is_set():
                await session.add_items([message("one"), message("two")])

    async def erase() -> None:
        async with whole(place) as store:
            for _ in range(30):
                await store.erase(["mine"])
                assert len(await rows_of(store, "mine")) % 2 == 0
        stop.set()

    await asyncio.gather(agent(), erase())


LABEL = '{"kid": "50%_a\\\\b"'  # none of its characters means anything but itself


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("rows", "all_begin_so"),
    [
        ([LABEL, f"{LABEL}, 1}}", "{x" + "long" * 10_000], True),
        ([LABEL, f"{LABEL}, 1}}", "other"], False),
        ([LABEL, LABEL.replace("_", "%")], False),
        ([LABEL, LABEL.replace("%", "percent")], False),
        ([LABEL, ""], False),
    ],
)
async def test_rows_that_all_begin_as_was_said_are_counted_and_do_not_travel(
    place: StoreLocation, driver: str, rows: list[str], all_begin_so: bool
):
    await fill(place, {"mine": rows})
    async with by(driver, place) as store:
        (block, *_) = [block async for block in store.blocks()]
        found = await store.rows_unless(block, [LABEL, "{x"], 2)
        assert found == (len(rows) if all_begin_so else await store.rows(block, None, 2))
        assert await store.rows_unless(Block(10**9, 10**9 + 5), [LABEL], 2) == []

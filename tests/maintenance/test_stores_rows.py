"""What every whole store of the SDK's sessions does alike, beside the suite that it passes (tests/stores)."""

from __future__ import annotations

import json

import pytest

from encrypted_sessions.errors import StoreError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.sealed_rows import Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows, write_raw_row
from encrypted_sessions_tests.stores import open_store as open_session
from encrypted_sessions_tests.whole_stores import WHOLE, all_rows, as_text, fill, make_tables, rows_of, whole

ODD_IDS = (
    "plain",
    "with space",
    "a:b",
    "a:messages:b",
    "[*]?\\-{}",
    "ü\u200b\U0001f600",
    "%41",
    "'\"; --",
    "\n\t",
    "x" * 255,
)
NO_UTF8 = b'{"role": "user", "content": "\xff\xfe"}'

# PostgreSQL checks that text is UTF-8.
TAKES_ANY_BYTES = [kind for kind in WHOLE if kind != "sqlalchemy-postgres"]


@pytest.fixture(params=WHOLE)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def test_a_small_store_is_counted_exactly(place: StoreLocation, sealer: Sealer):
    await fill(place, {f"session-{number}": [sealer.ok(f"{number}")] * number for number in range(20)})
    async with whole(place) as store:
        assert await store.count() == sum(range(20))


@pytest.mark.parametrize("session_id", ODD_IDS)
async def test_ids_of_sessions_come_back_as_they_were_given(place: StoreLocation, session_id: str):
    async with open_session(place, session_id) as session:
        await session.add_items([message("one"), message("two")])
    async with open_session(place, "another") as session:
        await session.add_items([message("three")])
    async with whole(place) as store:
        mine = [row for row in await all_rows(store) if row.session_id == session_id]
        assert len(mine) == 2
        assert sorted(row.id for row in await rows_of(store, session_id)) == sorted(row.id for row in mine)
        assert await store.remove(mine[:1]) == [True]
        counts = await store.erase([session_id])
        assert sum(counts.values()) >= 1
        assert [row.session_id for row in await all_rows(store)] == ["another"]


async def test_the_rows_of_a_session_come_in_the_order_that_the_sdk_reads_them(place: StoreLocation):
    async with open_session(place, "mine") as mine, open_session(place, "other") as other:
        for number in range(30):
            await mine.add_items([message(f"{number}")])
            await other.add_items([message("x")])
        items = await mine.get_items()
    async with whole(place) as store:
        for count in (1, 7, 100):
            rows = await rows_of(store, "mine", count)
            assert [json.loads(as_text(row)) for row in rows] == items
            assert {row.session_id for row in rows} == {"mine"}


async def test_a_session_whose_rows_were_all_removed_goes_on(place: StoreLocation):
    await fill(place, {"mine": ['{"n": 0}', '{"n": 1}']})
    async with whole(place) as store:
        assert await store.remove(await rows_of(store, "mine")) == [True, True]
    async with open_session(place, "mine") as session:
        assert await session.get_items() == []
        await session.add_items([message("again")])
        assert await session.get_items() == [message("again")]


@pytest.mark.parametrize("place", TAKES_ANY_BYTES, indirect=True)
async def test_bytes_that_are_no_utf8_are_read_replaced_and_removed(place: StoreLocation):
    await fill(place, {"mine": ['{"n": 0}']})
    await write_raw_row(place, "mine", NO_UTF8)
    if place.in_sqlite:
        await write_raw_row(place, "mine", NO_UTF8, blob=True)
    await write_raw_row(place, "mine", "")
    async with whole(place) as store:
        first, *odd, empty = await rows_of(store, "mine")
        assert {row.data for row in odd} == {NO_UTF8}
        assert empty.data == b""
        assert await store.replace([(odd[0], "replaced"), (empty, "filled")]) == [True, True]
        assert await store.remove(odd[1:]) == [True] * len(odd[1:])
        assert await raw_rows(place, "mine") == [as_text(first), "replaced", "filled"]


@pytest.mark.parametrize("place", TAKES_ANY_BYTES, indirect=True)
async def test_a_session_id_that_is_no_utf8_stops_nothing(place: StoreLocation):
    await fill(place, {"mine": ['{"n": 0}']})
    if place.in_sqlite:
        with stores._sqlite(place) as connection:
            connection.execute(
                "INSERT INTO agent_messages (session_id, message_data) VALUES (CAST(x'6dff' AS TEXT), 'x')"
            )
    else:
        async with stores._redis(place) as client:
            await client.rpush(place.prefix.encode() + b":m\xff:messages", "x")
    async with whole(place) as store:
        rows = {row.session_id: row for row in await all_rows(store)}
        assert set(rows) == {"mine", "m\udcff"}
        assert await store.replace([(rows["m\udcff"], "y")]) == [True]
        (odd,) = [row for row in await all_rows(store) if row.session_id != "mine"]
        assert await store.remove([odd]) == [True]
        assert [row.session_id for row in await all_rows(store)] == ["mine"]


async def test_a_session_is_erased_and_no_other(place: StoreLocation):
    async with open_session(place, "mine") as mine, open_session(place, "my") as other:
        await mine.add_items([message("one"), message("two")])
        await other.add_items([message("three")])
    async with whole(place) as store:
        expected = await store.erase(["mine", "nobody"], dry_run=True)
        assert sum(expected.values()) >= 3
        assert len(await all_rows(store)) == 3
        assert dict(await store.erase(["mine", "nobody"])) == dict(expected)
        assert set((await store.erase(["mine"], dry_run=True)).values()) == {0}
        assert {row.session_id for row in await all_rows(store)} == {"my"}
        await store.checkpoint()
    async with open_session(place, "my") as other:
        assert await other.get_items() == [message("three")]
    assert b"mine" not in await stores.everything_at_rest(place)


@pytest.mark.parametrize("place", ["sqlite", "sqlalchemy-postgres"], indirect=True)
async def test_tables_that_are_missing_or_the_wrong_way_round_are_named(place: StoreLocation):
    await make_tables(place)
    for names, words in (
        ({"messages_table": "other"}, r"has no table 'other': its tables of this form are .*(_messages|and \d+ more)"),
        ({"sessions_table": 'o"t;h.er'}, "sessions_table"),
        ({"sessions_table": place.messages_table, "messages_table": place.sessions_table}, "message_data"),
    ):
        with pytest.raises(StoreError, match=words):
            async with whole(place, **names):
                pass

"""What every whole store does alike: reading all of it, and changing only what is as it was read."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from encrypted_sessions.errors import StoreError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.sealed_rows import Sealer, message
from encrypted_sessions_tests.stores import Place, new_place, raw_rows, replace_raw_row, write_raw_row
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
def place(request: pytest.FixtureRequest) -> Place:
    return new_place(request.param, request)


async def test_a_walk_meets_every_row_of_every_session_once(place: Place, sealer: Sealer):
    written = {
        f"session-{number}": [sealer.ok(f"{number}/{item}") for item in range(random.randrange(40))]
        for number in range(60)
    }
    await fill(place, written)
    async with whole(place) as store:
        assert await store.count() == sum(map(len, written.values()))
        for count in (1, 7, 500):
            found = await all_rows(store, count)
            assert len({row.id for row in found}) == len(found)
            got: dict[str, list[str]] = {session_id: [] for session_id in written}
            for row in sorted(found, key=lambda row: row.id):
                got[row.session_id].append(as_text(row))
            assert got == written


async def test_an_empty_store_has_no_rows(place: Place):
    await make_tables(place)
    async with whole(place) as store:
        assert await store.count() == 0
        assert await all_rows(store) == []
        assert await rows_of(store, "nobody") == []
        assert await store.replace([]) == []
        assert await store.remove([]) == []
        assert set((await store.erase([])).values()) <= {0}
        assert set((await store.erase(["nobody"])).values()) == {0}
        assert await store.checkpoint() == ()


@pytest.mark.parametrize("session_id", ODD_IDS)
async def test_ids_of_sessions_come_back_as_they_were_given(place: Place, session_id: str):
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


async def test_the_rows_of_a_session_come_in_the_order_that_the_sdk_reads_them(place: Place):
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


async def test_a_row_is_replaced_only_if_it_is_as_it_was_read(place: Place):
    await fill(place, {"mine": ['{"n": 0}', '{"n": 1}', '{"n": 2}', '{"n": 3}']})
    async with whole(place) as store:
        rows = await rows_of(store, "mine")
        await replace_raw_row(place, "mine", 1, '{"n": "changed"}')
        assert await store.replace([(row, f'{{"new": {number}}}') for number, row in enumerate(rows)]) == [
            True,
            False,
            True,
            True,
        ]
        after = await rows_of(store, "mine")
        assert [row.id for row in after] == [row.id for row in rows]
        assert [row.created_at for row in after] == [row.created_at for row in rows]
        assert await raw_rows(place, "mine") == ['{"new": 0}', '{"n": "changed"}', '{"new": 2}', '{"new": 3}']
        assert await store.replace([(row, "again") for row in rows]) == [False] * 4


async def test_a_row_is_removed_only_if_it_is_as_it_was_read(place: Place):
    await fill(place, {"mine": ['{"n": 0}', '{"n": 1}', '{"n": 2}', '{"n": 3}'], "other": ['{"n": 0}']})
    async with whole(place) as store:
        rows = await rows_of(store, "mine")
        await replace_raw_row(place, "mine", 1, '{"n": "changed"}')
        assert await store.remove(rows[:3]) == [True, False, True]
        assert await raw_rows(place, "mine") == ['{"n": "changed"}', '{"n": 3}']
        assert await store.remove(rows[:3]) == [False, False, False]
        assert await raw_rows(place, "other") == ['{"n": 0}']
        assert await store.remove(await rows_of(store, "mine")) == [True, True]
        assert await raw_rows(place, "mine") == []
    async with open_session(place, "mine") as session:
        assert await session.get_items() == []
        await session.add_items([message("again")])
        assert await session.get_items() == [message("again")]


async def test_rows_with_the_same_bytes_are_told_apart(place: Place):
    await fill(place, {"mine": ["same", "same", "other", "same", "same"]})
    async with whole(place) as store:
        rows = await rows_of(store, "mine")
        assert await store.replace([(rows[1], "second"), (rows[3], "fourth")]) == [True, True]
        assert await raw_rows(place, "mine") == ["same", "second", "other", "fourth", "same"]
        rows = await rows_of(store, "mine")
        assert await store.remove([rows[4]]) == [True]
        assert await raw_rows(place, "mine") == ["same", "second", "other", "fourth"]


@pytest.mark.parametrize("place", TAKES_ANY_BYTES, indirect=True)
async def test_bytes_that_are_no_utf8_are_read_replaced_and_removed(place: Place):
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
async def test_a_session_id_that_is_no_utf8_stops_nothing(place: Place):
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


async def test_a_session_is_erased_and_no_other(place: Place):
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


async def test_many_long_sessions_are_erased(place: Place):
    written = {f"session-{number}": ['{"n": 0}'] * (6_000 if number == 3 else 3) for number in range(90)}
    await fill(place, {**written, "kept": ['{"n": 1}']})
    async with whole(place) as store:
        counts = await store.erase(list(written))
        assert sum(len(rows) for rows in written.values()) in counts.values()
        assert {row.session_id for row in await all_rows(store)} == {"kept"}


async def test_two_removers_at_once_remove_every_row_once(place: Place):
    written = {f"session-{number}": [f'{{"n": {item}}}' for item in range(200)] for number in range(5)}
    await fill(place, written)

    async def remove_all() -> int:
        removed = 0
        async with whole(place) as store:
            async for block in store.blocks():
                after = None
                while rows := await store.rows(block, after, 50):
                    after = rows[-1]
                    removed += sum(await store.remove(rows))
        return removed

    removed = await asyncio.gather(remove_all(), remove_all())
    assert sum(removed) == 1_000
    async with whole(place) as store:
        assert await all_rows(store) == []


async def test_a_store_is_closed_twice_and_not_used_afterwards(place: Place):
    await make_tables(place)
    store = whole(place)
    with pytest.raises(RuntimeError, match="not open"):
        await store.count()
    async with store:
        await store.count()
    await store.aclose()
    with pytest.raises(RuntimeError, match="not open"):
        await store.count()


@pytest.mark.parametrize("place", ["sqlite", "sqlalchemy-postgres"], indirect=True)
async def test_tables_that_are_missing_or_the_wrong_way_round_are_named(place: Place):
    await make_tables(place)
    for names, words in (
        ({"messages_table": "other"}, r"has no table 'other': of this form it has .*(_messages|and \d+ more)"),
        ({"sessions_table": 'o"t;h.er'}, "sessions_table"),
        ({"sessions_table": place.messages_table, "messages_table": place.sessions_table}, "message_data"),
    ):
        with pytest.raises(StoreError, match=words):
            async with whole(place, **names):
                pass

"""A row that is larger than max_row_bytes is an outcome, and none is written."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, UnreadableItemsError
from encrypted_sessions.stores import TOO_LARGE, RowStore
from encrypted_sessions.stores.sizes import PAGE_BYTES
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import ROW_ADDRESSABLE, PlainSession, StoreLocation, raw_rows

LIMIT = 10_000


async def test_a_larger_row_is_too_large_and_stays(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok("first"), sealer.ok("x" * LIMIT), sealer.ok("last")]
    async with sealer.session(place, max_row_bytes=LIMIT) as session:
        await write_rows(place, SESSION, rows)
        found = await session.read()
        assert (texts(found.items), found.outcomes) == (["first", "last"], {"ok": 2, "too_large": 1})
        with pytest.raises(UnreadableItemsError, match="max_row_bytes="):
            await session.get_items()
        assert await session.pop_item() == message("last")
        with pytest.raises(UnreadableItemsError, match="too_large"):
            await session.pop_item()
        with pytest.raises(UnreadableItemsError, match="too_large"):
            await session._atomic_replace_items([message("all")])
        assert await raw_rows(place, SESSION) == rows[:2]
    async with sealer.session(place, on_unreadable="skip", max_row_bytes=LIMIT) as session:
        assert texts(await session.get_items()) == ["first"]
    async with sealer.session(place) as session:
        assert texts(await session.get_items()) == ["first", "x" * LIMIT]


@pytest.mark.parametrize("place", distinct(ROW_ADDRESSABLE), indirect=True)
async def test_a_larger_row_is_judged_before_it_is_fetched(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place, max_row_bytes=LIMIT) as session:
        access = session._sealed.rows
        assert isinstance(access, RowStore)
        await write_rows(place, SESSION, [sealer.ok("first"), '"' + "x" * 20_000_000 + '"'])
        await access.page(None, 1)
        tracemalloc.start()
        try:
            newest, oldest = await access.page(None, 5)
            assert (newest, oldest) == tuple((await access.oldest(5))[::-1])
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()
        assert newest.data is TOO_LARGE
        assert oldest.data is not TOO_LARGE


@pytest.mark.parametrize("place", distinct(ROW_ADDRESSABLE), indirect=True)
async def test_a_row_of_few_characters_and_many_bytes_is_judged_by_its_bytes_before_it_is_fetched(
    place: StoreLocation, sealer: Sealer
):
    limit = 2_000_000
    async with sealer.session(place, max_row_bytes=limit) as session:
        access = session._sealed.rows
        assert isinstance(access, RowStore)
        await write_rows(place, SESSION, ['"' + "𝄞" * (limit - 100) + '"', '"' + "𝄞" * (limit // 4 - 100) + '"'])
        for page in (await access.page(None, 5), (await access.oldest(5))[::-1]):
            assert [row.data is TOO_LARGE for row in page] == [False, True]


@pytest.mark.parametrize("place", distinct(ROW_ADDRESSABLE), indirect=True)
async def test_large_rows_are_fetched_a_few_at_a_time(place: StoreLocation, sealer: Sealer):
    """Nobody reads on what they were before: small rows come first, and last."""
    small, large = [f'"{n}"' for n in range(20)], ['"' + "x" * 1_500_000 + f'{n}"' for n in range(12)]
    rows = [*small, *large, *small]
    async with sealer.session(place) as session:
        access = session._sealed.rows
        assert isinstance(access, RowStore)
        await session.add_items([message("makes the tables")])
        await session.clear_session()
        await write_rows(place, SESSION, rows)
        cursor, pages = access.cursor(), list[list[Any]]()
        while not cursor.exhausted:
            pages.append(await cursor.fetch(None))
        found = [row.data for page in pages for row in page]
        assert [data.decode() if isinstance(data, bytes) else data for data in found] == rows[::-1]
        assert max(sum(len(row.data) for row in page[:-1]) for page in pages) < PAGE_BYTES
        assert len(pages) < 10
        assert cursor.fetched == len(rows)
        assert [row.id for row in await access.oldest(256)] == [row.id for page in pages for row in page][::-1][:23]


@pytest.mark.parametrize("place", distinct(ROW_ADDRESSABLE), indirect=True)
async def test_a_conversation_of_large_rows_is_read_popped_and_purged_as_any(place: StoreLocation, sealer: Sealer):
    large = "x" * 3_500_000
    async with sealer.session(place) as session:
        await session.add_items([message("makes the tables")])
        await session.clear_session()
        old = [sealer.expired(large), sealer.expired("small"), sealer.expired(large), sealer.expired(large)]
        kept = [message(f"{n}{large}") for n in range(3)]
        await write_rows(place, SESSION, [*old, *(sealer.row(item) for item in kept)])
        assert await session.get_items(1) == kept[-1:]
        assert await session.get_items() == kept
        assert await session.purge_expired() == len(old)
        assert await session.get_items() == kept
        assert await session.pop_item() == kept[-1]
        assert await session.get_items() == kept[:-1]


async def test_a_row_of_many_bytes_in_few_characters_is_too_large(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place, plaintext="read", max_row_bytes=LIMIT) as session:
        await write_rows(place, SESSION, ['{"role": "user", "content": "' + "𝄞" * (LIMIT // 3) + '"}'])
        counted = (await session.read()).outcomes
    # A store that hands over objects has no bytes to count: there its texts are measured in characters.
    assert counted in ({"ok": 0, "too_large": 1}, {"ok": 0, "plaintext": 1})
    if place.kind not in ("advanced-sqlite", "plain"):
        assert "too_large" in counted


async def test_what_would_become_too_large_is_refused_before_it_is_written(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place, max_row_bytes=LIMIT) as session:
        for size in (LIMIT, LIMIT * 3 // 4):
            with pytest.raises(ValueError, match="max_row_bytes=10,000 bytes"):
                await session.add_items([message("small"), message("x" * size)])
        assert await raw_rows(place, SESSION) == []
        largest = message("x" * ((LIMIT - 512) // 4 * 3 - 40))
        await session.add_items([largest])
        assert await session.get_items() == [largest]


@pytest.mark.parametrize("wrong", [0, -1, 4095, True, 1e6, "1", None])
def test_max_row_bytes_has_room_for_a_row(sealer: Sealer, wrong: Any):
    with pytest.raises((TypeError, ValueError), match="max_row_bytes"):
        EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=TTL, max_row_bytes=wrong)

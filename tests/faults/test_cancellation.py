"""Whoever is cancelled at whatever moment: each item was either handed over, or is still stored."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, KeyUnavailableError, UnreadableItemsError
from encrypted_sessions_tests.bulk_rows import as_json, texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import KINDS, PlainSession, StoreLocation, new_place, open_store, raw_rows

MOMENTS = 60


@pytest.fixture(params=distinct(KINDS))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


class SlowSession(PlainSession):
    """A structural session that gives other tasks several turns before and after each change."""

    turns = 5

    async def _wait(self) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)

    async def get_items(self, limit: int | None = None) -> Any:
        await self._wait()
        return await super().get_items(limit)

    async def add_items(self, items: Any) -> None:
        await self._wait()
        await super().add_items(items)
        await self._wait()

    async def pop_item(self) -> Any:
        await self._wait()
        item = await super().pop_item()
        await self._wait()
        return item


async def cancelled_after(turns: int, operation: Awaitable[Any], *, again_after: int | None = None) -> Any:
    """Start it and cancel it after so many turns of the loop: its result, or the CancelledError."""
    task = asyncio.ensure_future(operation)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    if again_after is not None:
        for _ in range(again_after):
            await asyncio.sleep(0)
        task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


@pytest.mark.parametrize("again_after", [None, 1, 4, 9])
async def test_a_cancelled_pop_of_a_plain_session_puts_the_item_back(sealer: Sealer, again_after: int | None):
    handed_over = cancelled = 0
    for turns in range(MOMENTS):
        rows = [sealer.ok("one"), sealer.ok("two")]
        memory: list[Any] = list(rows)
        session = EncryptedSession.wrap(SlowSession(SESSION, memory), sealer.ring, ttl=TTL)
        result = await cancelled_after(turns, session.pop_item(), again_after=again_after)
        if isinstance(result, asyncio.CancelledError):
            cancelled += 1
            assert memory == rows
        else:
            handed_over += 1
            assert (result, memory) == (message("two"), rows[:1])
    assert handed_over > 0
    assert cancelled > 10


@pytest.mark.parametrize("kind", ["unauthentic", "erased", "key_disabled", "malformed: a list"])
async def test_a_cancelled_pop_of_an_unreadable_row_puts_it_back(sealer: Sealer, kind: str):
    for turns in range(MOMENTS):
        rows = [sealer.ok("one"), sealer.of(kind)]
        memory: list[Any] = list(rows)
        session = EncryptedSession.wrap(SlowSession(SESSION, memory), sealer.ring, ttl=TTL)
        result = await cancelled_after(turns, session.pop_item())
        assert isinstance(result, (asyncio.CancelledError, UnreadableItemsError))
        assert memory == rows


async def test_a_cancelled_pop_puts_back_while_the_provider_cannot_answer(sealer: Sealer):
    sealer.provider.fail("older", KeyUnavailableError)
    for turns in range(MOMENTS):
        rows = [sealer.ok("one"), sealer.row(message("two"), sealer.older)]
        memory: list[Any] = list(rows)
        session = EncryptedSession.wrap(SlowSession(SESSION, memory), sealer.ring, ttl=TTL)
        result = await cancelled_after(turns, session.pop_item())
        assert isinstance(result, (asyncio.CancelledError, KeyUnavailableError))
        assert memory == rows


async def test_a_pop_that_runs_out_of_time_puts_the_item_back(sealer: Sealer):
    rows = [sealer.ok("one")]
    memory: list[Any] = list(rows)
    store = SlowSession(SESSION, memory)
    store.turns = 200
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(session.pop_item(), timeout=0)
    assert memory == rows


async def test_expired_rows_at_the_tail_take_nothing_with_them_when_the_pop_is_cancelled(sealer: Sealer):
    for turns in range(MOMENTS * 2):
        rows = [sealer.ok("one"), sealer.ok("two"), sealer.expired(), sealer.expired()]
        memory: list[Any] = list(rows)
        session = EncryptedSession.wrap(SlowSession(SESSION, memory), sealer.ring, ttl=TTL)
        result = await cancelled_after(turns, session.pop_item())
        if isinstance(result, asyncio.CancelledError):
            assert memory[:2] == rows[:2]
            assert memory == rows[: len(memory)]
        else:
            assert (result, memory) == (message("two"), rows[:1])


# aiosqlite (0.22) drops a connection whose opening was cancelled without closing it, of which Python 3.13 warns.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning")
async def test_a_pop_cancelled_at_any_moment_loses_nothing_on_any_store(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok(str(number)) for number in range(MOMENTS + 12)]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        popped = [await session.pop_item() for _ in range(2)]
        began = time.perf_counter()
        popped += [await session.pop_item() for _ in range(8)]
        usual = (time.perf_counter() - began) / 8
        for moment in range(MOMENTS):
            task = asyncio.ensure_future(session.pop_item())
            await asyncio.sleep(usual * 1.5 * moment / MOMENTS)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result, asyncio.CancelledError):
                popped.append(result)
        assert texts(await session.get_items()) + texts(popped)[::-1] == [str(number) for number in range(len(rows))]
        assert as_json(await raw_rows(place, SESSION)) == as_json(rows[: len(rows) - len(popped)])
    gc.collect()  # what was dropped is warned of here, and not in another test


async def test_a_batch_whose_adding_was_cancelled_is_stored_whole_or_not_at_all(place: StoreLocation, sealer: Sealer):
    batch = [message(str(number)) for number in range(50)]
    async with sealer.session(place) as session:
        await session.add_items([message("first")])
        began = time.perf_counter()
        await session.add_items(batch)
        usual = time.perf_counter() - began
        kept = [message("first"), *batch]
        for moment in range(MOMENTS // 2):
            task = asyncio.ensure_future(session.add_items(batch))
            await asyncio.sleep(usual * 1.5 * moment / (MOMENTS // 2))
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert result is None or isinstance(result, asyncio.CancelledError)
            stored = await session.get_items()
            assert stored in ([*kept, *batch], kept)
            if result is None:
                assert len(stored) == len(kept) + len(batch)
            kept = stored
        assert len(await raw_rows(place, SESSION)) == len(kept)


async def test_a_compaction_that_was_cancelled_leaves_the_old_history_or_the_new_one(
    place: StoreLocation, sealer: Sealer
):
    def history(generation: int) -> list[Any]:
        return [message(f"{generation}/{number}") for number in range(10 + generation % 3)]

    async with sealer.session(place) as session:
        await session.add_items(history(0))
        began = time.perf_counter()
        assert await session._atomic_replace_items(history(1))
        usual = time.perf_counter() - began
        stored = 1
        for moment in range(MOMENTS // 2):
            task = asyncio.ensure_future(session._atomic_replace_items(history(stored + 1)))
            await asyncio.sleep(usual * 1.5 * moment / (MOMENTS // 2))
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert result is True or isinstance(result, asyncio.CancelledError)
            found = await session.get_items()
            assert found in (history(stored), history(stored + 1))
            if result is True:
                assert found == history(stored + 1)
            stored += found == history(stored + 1)


async def test_pops_at_the_same_time_give_distinct_items(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok(str(number)) for number in range(60)]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        popped = await asyncio.gather(*(session.pop_item() for _ in range(40)))
        assert sorted(map(int, texts(popped))) == list(range(20, 60))
        assert await raw_rows(place, SESSION) == rows[:20]
        rest = await asyncio.gather(*(session.pop_item() for _ in range(25)))
        assert sum(item is None for item in rest) == 5
    assert await raw_rows(place, SESSION) == []


async def test_two_sessions_over_one_store_never_get_the_same_item(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as one, open_store(place, SESSION) as other:
        sessions = [EncryptedSession.wrap(store, sealer.ring, ttl=TTL) for store in (one, other)]
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(40)])
        popped = await asyncio.gather(*(sessions[turn % 2].pop_item() for turn in range(40)))
        assert sorted(map(int, texts(popped))) == list(range(40))


async def test_readers_see_whole_histories_while_others_write(place: StoreLocation, sealer: Sealer):
    """What a reader gets was the history at one moment: pairs of items that are added together."""
    async with open_store(place, SESSION) as one, open_store(place, SESSION) as other:
        writer, reader = (EncryptedSession.wrap(store, sealer.ring, ttl=TTL) for store in (one, other))
        await writer.add_items([message(f"start {half}") for half in "ab"])

        async def write() -> None:
            for number in range(15):
                await writer.add_items([message(f"{number} {half}") for half in "ab"])

        async def read() -> None:
            for _ in range(15):
                found = texts(await reader.get_items())
                assert found == [text for pair in found[::2] for text in (pair, f"{pair[:-1]}b")]

        await asyncio.gather(write(), read())
        assert len(await reader.get_items()) == 32


@pytest.mark.parametrize("limit", [None, 500])
async def test_readers_see_one_history_while_others_pop(place: StoreLocation, sealer: Sealer, limit: int | None):
    """A walk over several pages starts again when the row where it stood is gone."""
    async with open_store(place, SESSION) as one, open_store(place, SESSION) as other:
        popper, reader = (EncryptedSession.wrap(store, sealer.ring, ttl=TTL) for store in (one, other))
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(700)])

        async def pop() -> None:
            for number in range(699, 679, -1):
                assert await popper.pop_item() == message(str(number))

        async def read() -> None:
            for _ in range(6):
                found = [int(text) for text in texts(await reader.get_items(limit))]
                first = 0 if limit is None else found[-1] + 1 - limit
                assert found == list(range(first, found[-1] + 1))
                assert 679 <= found[-1] <= 699

        await asyncio.gather(pop(), read())

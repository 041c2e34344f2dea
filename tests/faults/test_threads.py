"""Threads with event loops of their own, on one store and one ring."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import KINDS, PlainSession, StoreLocation, new_place, open_store, raw_rows

THREADS = 3


def in_threads(work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What the same work gave in each of several threads, each with an event loop of its own."""
    results: list[Any] = [None] * THREADS
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        async def begin() -> Any:
            start.wait(timeout=30)
            return await work(number)

        try:
            results[number] = asyncio.run(begin())
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread below
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.fixture(params=[kind for kind in KINDS if kind != "plain"])
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


def test_threads_that_add_read_and_pop_lose_nothing(place: StoreLocation, sealer: Sealer):
    """Each thread has a session object of its own over the same rows; they share the ring."""

    async def work(number: int) -> tuple[list[str], list[str]]:
        async with sealer.session(place) as session:
            added, popped = [], []
            for turn in range(10):
                batch = [f"{number}/{turn}/{half}" for half in "ab"]
                await session.add_items([message(text) for text in batch])
                added += batch
                item = await session.pop_item()
                popped += texts([item] if item is not None else [])
                await session.get_items(5)
        return added, popped

    results = in_threads(work)
    added = [text for texts_of_one, _ in results for text in texts_of_one]
    popped = [text for _, texts_of_one in results for text in texts_of_one]

    async def rest() -> list[str]:
        async with sealer.session(place) as session:
            return texts(await session.get_items())

    left = asyncio.run(rest())
    assert len(popped) == 10 * THREADS
    assert sorted(popped + left) == sorted(added)


@pytest.mark.parametrize("kind", ["sqlite", "plain"])
def test_threads_may_share_one_session_over_a_store_that_allows_it(
    kind: str, sealer: Sealer, request: pytest.FixtureRequest
):
    place = new_place(kind, request)

    async def everything() -> list[Any]:
        async with open_store(place, SESSION) as store:
            session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
            await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(60)])

            async def work(number: int) -> list[str]:
                found = texts(await session.get_items(10))
                assert found == sorted(found, key=int)
                popped = [await session.pop_item() for _ in range(15)]
                await session.add_items([message(f"10{number}")])
                return texts([item for item in popped if item is not None])

            return await asyncio.to_thread(in_threads, work)

    popped = [text for texts_of_one in asyncio.run(everything()) for text in texts_of_one]

    async def rest() -> list[str]:
        async with sealer.session(place) as session:
            return texts(await session.get_items())

    left = asyncio.run(rest())
    assert sorted(map(int, popped + left)) == [*range(60), 100, 101, 102]
    assert len(asyncio.run(raw_rows(place, SESSION))) == len(left)


def test_a_session_works_in_one_loop_after_another(sealer: Sealer):
    """As in a script that calls asyncio.run() for every turn."""
    memory: list[Any] = []
    session = EncryptedSession.wrap(PlainSession(SESSION, memory), sealer.ring, ttl=TTL)
    for number in range(5):
        asyncio.run(session.add_items([message(str(number))]))
    assert texts(asyncio.run(session.get_items())) == ["0", "1", "2", "3", "4"]
    assert asyncio.run(session.pop_item()) == message("4")

"""Who pops while others do so opens a few rows, and gets the one that is the newest when it comes to it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from encrypted_sessions import KeyUnavailableError, UnreadableItemsError
from encrypted_sessions.history.turns import turn_of
from encrypted_sessions.stores.redis.by_script import ListByScript
from encrypted_sessions.stores.rows import Row
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("redis", request)


async def among_others(session: Any) -> Any:
    """Have a session know that others pop, too, as it does after it has lost to them: then its keys are there."""
    await session._sealed.keychain.active()
    turn_of(session._sealed, session._sealed.rows).contention.lost()
    return session


def before_removing(session: Any, monkeypatch: pytest.MonkeyPatch, does: Any) -> None:
    """Have something done once, after a session has looked and before it removes."""
    rows = session._sealed.rows._rows
    really = rows.remove_one_of

    async def remove_one_of(*arguments: Any) -> Any:
        monkeypatch.setattr(rows, "remove_one_of", really)
        await does()
        return await really(*arguments)

    monkeypatch.setattr(rows, "remove_one_of", remove_one_of)


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
async def test_what_others_left_of_the_rows_that_were_opened_is_popped_without_another_look(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch, taken: int
):
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(8)])
    async with sealer.session(place) as session, sealer.session(place) as other:
        pages = list[int]()
        rows = (await among_others(session))._sealed.rows
        really = rows.page

        async def page(upto: Any, count: int) -> Any:
            pages.append(count)
            return await really(upto, count)

        async def take() -> None:
            for _ in range(taken):
                assert await other._sealed.rows.remove_one_of(await other._sealed.rows.page(None, 1), 1)

        monkeypatch.setattr(rows, "page", page)
        before_removing(session, monkeypatch, take)
        assert await session.pop_item() == message(str(7 - taken))
        assert await session.pop_item() == message(str(6 - taken))
        assert len(pages) == 1 + (taken > 3), "a second one after the pause, where all of them were taken"
    assert len(await raw_rows(place, SESSION)) == 6 - taken


async def test_what_others_added_comes_first(place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    await write_rows(place, SESSION, [sealer.ok("one"), sealer.ok("two")])
    async with sealer.session(place) as session, sealer.session(place) as other:
        before_removing(await among_others(session), monkeypatch, lambda: other.add_items([message("three")]))
        assert [await session.pop_item() for _ in range(4)] == [message("three"), message("two"), message("one"), None]


async def test_a_row_that_took_the_place_of_one_that_was_opened_is_another(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    await write_rows(place, SESSION, [sealer.ok("one"), sealer.ok("two")])

    async with sealer.session(place) as session, sealer.session(place) as other:

        async def replace() -> None:
            assert await other.pop_item() == message("two")
            await write_rows(place, SESSION, [sealer.of("unauthentic")])

        before_removing(await among_others(session), monkeypatch, replace)
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
    assert len(await raw_rows(place, SESSION)) == 2


@pytest.mark.parametrize("kind", ["unauthentic", "key_disabled", "malformed: a list"])
async def test_a_newest_row_that_does_not_open_is_refused_and_stays(place: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.ok("one"), sealer.of(kind), sealer.ok("two"), sealer.expired()]
    await write_rows(place, SESSION, rows)
    async with sealer.session(place) as session:
        assert await (await among_others(session)).pop_item() == message("two")
        for _ in range(2):
            with pytest.raises(UnreadableItemsError):
                await session.pop_item()
    assert len(await raw_rows(place, SESSION)) == 2


async def test_no_key_is_asked_for_that_only_an_older_row_needs(place: StoreLocation, sealer: Sealer):
    sealer.provider.fail("older", KeyUnavailableError)
    await write_rows(place, SESSION, [sealer.row(message("old"), sealer.older), sealer.ok("one")])
    async with sealer.session(place) as session:
        asked = len(sealer.provider.asked)
        assert await (await among_others(session)).pop_item() == message("one")
        assert "older" not in sealer.provider.asked[asked:]
        with pytest.raises(KeyUnavailableError):
            await session.pop_item()


async def test_large_rows_are_popped_one_by_one(place: StoreLocation, sealer: Sealer):
    large = [f"{number}" * 70_000 for number in range(3)]
    await write_rows(place, SESSION, [sealer.ok(text) for text in large])
    async with sealer.session(place) as session:
        await among_others(session)
        assert texts([await session.pop_item() for _ in range(3)]) == large[::-1]


async def test_a_pop_among_others_that_is_cancelled_loses_nothing(place: StoreLocation, sealer: Sealer):
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(40)])
    popped: list[Any] = []
    async with sealer.session(place) as session:
        began = time.perf_counter()
        popped.append(await (await among_others(session)).pop_item())
        usual = time.perf_counter() - began
        for moment in range(30):
            await among_others(session)
            task = asyncio.ensure_future(session.pop_item())
            await asyncio.sleep(usual * moment / 30)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result, asyncio.CancelledError):
                popped.append(result)
        left = texts(await session.get_items())
    assert left + texts(popped)[::-1] == [str(number) for number in range(40)]


async def test_a_removal_that_is_sent_twice_removes_once(place: StoreLocation):
    async with Redis.from_url(place.where) as client:

        async def send(*words: Any) -> Any:
            return await client.execute_command(*words)

        key = f"{place.prefix}:list"
        await client.rpush(key, b"a", b"b", b"c")
        access = ListByScript(send, key)
        for told in ([Row(1, b"b"), Row(0, b"a")], []):
            assert await access.remove_one_of("1", [Row(2, b"c"), Row(1, b"b")], 2) == (2, told or ())
        assert await access.remove_one_of("2", [Row(2, b"c"), Row(1, b"other")], 1) == (-1, [Row(1, b"b")])
        assert await client.lrange(key, 0, -1) == [b"a", b"b"]

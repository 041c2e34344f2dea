"""Many who pop from one history: what an answer of the store tells spares a look, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from encrypted_sessions import (
    HistoryChangedError,
    SessionEvent,
    StoreTimeoutError,
    StoreUnavailableError,
    UnreadableItemsError,
)
from encrypted_sessions.history import popping
from encrypted_sessions.stores import RowStore
from encrypted_sessions.stores.redis.rows import RedisRows
from encrypted_sessions.stores.rows import RemovedRow
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.servers import RedisServer
from encrypted_sessions_tests.stores import (
    REDIS_WITHOUT_EVAL,
    WITHOUT_EVAL,
    StoreLocation,
    new_place,
    raw_rows,
    set_redis_rights,
)


@pytest.fixture(params=["redis", REDIS_WITHOUT_EVAL])
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    yield sealer
    sealer.ring.close()


def looks_of(session: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the count of each page that the session asks for."""
    rows, looks = session._sealed.rows, list[int]()
    really = rows.page

    async def page(upto: Any, count: int) -> Any:
        looks.append(count)
        return await really(upto, count)

    monkeypatch.setattr(rows, "page", page)
    return looks


async def test_a_pop_that_lost_needs_no_look_of_its_own(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(3)])
    async with sealer.session(place) as session, sealer.session(place) as other:
        looks = looks_of(session, monkeypatch)
        rows: Any = session._sealed.rows
        really = rows.remove

        async def remove(*arguments: Any) -> bool:
            monkeypatch.setattr(rows, "remove", really)
            await other.add_items([message("came in between")])
            return bool(await really(*arguments))

        monkeypatch.setattr(rows, "remove", remove)
        assert await session.pop_item() == message("came in between")
        assert looks == [1]


async def test_what_was_told_of_the_tail_is_looked_at_again_where_it_is_no_item(place: StoreLocation, sealer: Sealer):
    """Somebody may have removed it, or put something upon it, since it was told."""
    await write_rows(place, SESSION, [sealer.ok("one"), sealer.of("unauthentic"), sealer.ok("two")])
    async with sealer.session(place) as session, sealer.session(place) as other:
        assert await session.pop_item() == message("two")  # and what was told is the row that opens for nobody
        await other.add_items([message("three")])
        assert await session.pop_item() == message("three")
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
    assert len(await raw_rows(place, SESSION)) == 2


async def test_what_was_told_of_the_tail_counts_only_while_it_is_true(place: StoreLocation, sealer: Sealer):
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(6)])
    async with sealer.session(place) as session, sealer.session(place) as other:
        assert await session.pop_item() == message("5")
        await other.clear_session()
        assert await session.pop_item() is None
        await other.add_items([message("new"), message("newest")])
        assert await session.pop_item() == message("newest")
        await other.add_items([message("later")])
        assert [await session.pop_item() for _ in range(3)] == [message("later"), message("new"), None]


async def test_a_pop_behind_one_that_hangs_waits_no_longer_than_half_a_second(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    await write_rows(place, SESSION, [sealer.ok("one")])
    async with sealer.session(place) as hanging, sealer.session(place) as session:

        async def hang(*_: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(hanging._sealed.rows, "page", hang)
        waiting = asyncio.create_task(hanging.pop_item())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await session.pop_item() == message("one")
        assert 0.3 < time.monotonic() - began < 5
        waiting.cancel()
        await asyncio.wait({waiting})
        assert await session.pop_item() is None


async def test_a_pop_that_always_loses_ends_with_an_error(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(popping, "_MOST_CONFLICTS", 5)
    await write_rows(place, SESSION, [sealer.ok("one")])
    async with sealer.session(place) as session:
        rows: Any = session._sealed.rows
        assert isinstance(rows, RowStore)

        async def remove(*_: Any) -> bool:
            return False

        async def remove_one_of(rows: Any, _: int) -> RemovedRow:
            return RemovedRow(None, rows)

        monkeypatch.setattr(rows, "remove", remove)
        monkeypatch.setattr(rows, "remove_one_of", remove_one_of)
        with pytest.raises(HistoryChangedError, match="each of 5 attempts"):
            await session.pop_item()
    assert len(await raw_rows(place, SESSION)) == 1


async def poppers_of(stack: AsyncExitStack, sealer: Sealer, place: StoreLocation, count: int) -> list[Any]:
    return [await stack.enter_async_context(sealer.session(place)) for _ in range(count)]


async def test_who_waits_goes_along_with_one_look_for_all(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(12)])
    async with AsyncExitStack() as stack:
        sessions = await poppers_of(stack, sealer, place, 8)
        for session in sessions:
            await session.get_items(1)  # which connects: who has to do so first comes too late
        looks = [looks_of(session, monkeypatch) for session in sessions]
        popped = await asyncio.gather(*(session.pop_item() for session in sessions))
    assert sorted(map(as_text, popped)) == sorted(str(11 - number) for number in range(8))
    counts = [count for one in looks for count in one]
    assert max(counts) == 7, "the first one looked when nobody waited yet, and the second for all the others"
    assert len(counts) == 2, "nobody else"
    assert len(await raw_rows(place, SESSION)) == 4


async def test_who_went_along_and_lost_waits_for_its_turn(place: StoreLocation, sealer: Sealer):
    """Rows come that nobody saw, some are no items, and some have expired: each item comes out once, in order."""
    kinds = {3: sealer.expired(), 6: sealer.expired(), 7: sealer.of("erased")}
    rows = [kinds.get(number) or sealer.ok(str(number)) for number in range(10)]
    await write_rows(place, SESSION, rows)
    async with AsyncExitStack() as stack:
        sessions = await poppers_of(stack, sealer, place, 12)
        popping = [asyncio.create_task(session.pop_item()) for session in sessions[1:]]
        await sessions[0].add_items([message("new")])
        popped = [item for item in await asyncio.gather(*popping) if item is not None]
    left = [str(number) for number in (0, 1, 2, 4, 5, 8, 9)] + ["new"]
    assert sorted(map(as_text, popped)) == sorted(left)
    assert len(await raw_rows(place, SESSION)) == 1, "what was erased stays"


@pytest.mark.parametrize("cancelled", [0, 1, 4])
async def test_who_is_cancelled_while_others_go_along_takes_nothing_from_them(
    place: StoreLocation, sealer: Sealer, cancelled: int
):
    for turns in range(0, 24, 3):
        await write_rows(place, SESSION, [sealer.ok(f"{turns}/{number}") for number in range(6)])
        async with AsyncExitStack() as stack:
            sessions = await poppers_of(stack, sealer, place, 6)
            popping = [asyncio.create_task(session.pop_item()) for session in sessions]
            for _ in range(turns):
                await asyncio.sleep(0)
            popping[cancelled].cancel()
            popped = [one for one in await asyncio.gather(*popping, return_exceptions=True) if isinstance(one, dict)]
            while (item := await sessions[0].pop_item()) is not None:
                popped.append(item)
        assert sorted(map(as_text, popped)) == [f"{turns}/{number}" for number in range(6)]


def as_text(item: Any) -> str:
    return texts([item])[0]


@pytest.mark.private_servers
@pytest.mark.parametrize(("rights", "command"), [((), "eval"), (WITHOUT_EVAL, "exec")], ids=["scripts", "no scripts"])
async def test_sixteen_tasks_remove_in_one_step_what_they_pop_together(
    rights: tuple[str, ...], command: str, sealer: Sealer
):
    with RedisServer() as server:
        place = StoreLocation("redis", server.url, "many")
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(320)])
        if rights:
            set_redis_rights(server.url, "limited", *rights)
            place = replace(place, where=server.url.replace("//", "//limited:limited@"))
        async with AsyncExitStack() as stack, Redis.from_url(server.url) as client:
            sessions = await poppers_of(stack, sealer, place, 16)
            for session in sessions:
                await session.get_items(1)
            await client.config_resetstat()
            popped = await asyncio.gather(*map(pop_all, sessions))
            calls = {name: one["calls"] for name, one in (await client.info("commandstats")).items()}
    assert sorted(int(text) for texts_of_one in popped for text in texts_of_one) == list(range(320))
    for texts_of_one in popped:
        assert list(map(int, texts_of_one)) == sorted(map(int, texts_of_one), reverse=True)
    assert calls[f"cmdstat_{command}"] < 2 * 2 * 320 / 16, "one look and one removal for sixteen, nearly always"


async def test_a_removal_without_scripts_takes_two_exchanges(
    sealer: Sealer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    place, sent = new_place(REDIS_WITHOUT_EVAL, request), list[object]()
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(4)])
    really = AbstractConnection.send_packed_command

    async def send(connection: AbstractConnection, *arguments: Any, **options: Any) -> None:
        sent.append(arguments)
        await really(connection, *arguments, **options)

    async with sealer.session(place) as session:
        await session.pop_item()
        monkeypatch.setattr(AbstractConnection, "send_packed_command", send)
        assert await session.pop_item() == message("2")
        assert len(sent) == 2, "what the last removal told of the tail spares a look of its own"


async def test_each_of_those_who_went_along_is_told_of_for_what_it_did(place: StoreLocation, sealer: Sealer):
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(8)])
    told = list[SessionEvent]()
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(sealer.session(place, on_event=told.append)) for _ in range(8)]
        for session in sessions:
            await session.get_items(1)
        told.clear()
        await asyncio.gather(*(session.pop_item() for session in sessions))
    assert [event.removed for event in told] == [1] * 8
    assert [[(use.outcome, use.items) for use in event.uses] for event in told] == [[("ok", 1)]] * 8


async def test_a_removal_that_fails_fails_all_who_take_part_in_it(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    names = [str(number) for number in range(6)]
    await write_rows(place, SESSION, [sealer.ok(name) for name in names])
    async with AsyncExitStack() as stack:
        sessions = await poppers_of(stack, sealer, place, 6)
        for session in sessions:
            await session.get_items(1)
        together = list[int]()

        async def fail(_: Any, rows: Any, newest: Any) -> bool:
            together.append(len(rows))
            raise ConnectionError("the server is gone")

        with monkeypatch.context() as patched:
            patched.setattr(RedisRows, "remove", fail)
            failed = await asyncio.gather(*(session.pop_item() for session in sessions), return_exceptions=True)
        assert max(together) == 5
        assert all(isinstance(error, StoreUnavailableError) for error in failed)
        assert len({id(error) for error in failed}) == 6, "each has its own"
        assert texts(await sessions[0].get_items()) == names


async def test_what_a_removal_that_hangs_takes_too_late_is_put_back_for_all_in_order(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    names = [str(number) for number in range(7)]
    await write_rows(place, SESSION, [sealer.ok(name) for name in names])
    goes_on, really = asyncio.Event(), RedisRows.remove

    async def hang(rows: RedisRows, removed: Any, newest: Any) -> bool:
        if len(removed) > 1:
            await goes_on.wait()
        return await really(rows, removed, newest)

    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(sealer.session(place, store_timeout_s=0.3)) for _ in range(4)]
        for session in sessions:
            await session.get_items(1)
        with monkeypatch.context() as patched:
            patched.setattr(RedisRows, "remove", hang)
            began = time.monotonic()
            got = await asyncio.gather(*(session.pop_item() for session in sessions), return_exceptions=True)
            assert time.monotonic() - began < 1.3
        assert got[0] == message("6")
        assert all(isinstance(error, StoreTimeoutError) and error.in_doubt for error in got[1:])
        goes_on.set()
        while not all(session._sealed.changes.are_settled() for session in sessions):  # noqa: ASYNC110 - it is soon
            await asyncio.sleep(0.01)
        assert texts(await sessions[0].get_items()) == names[:-1]


@pytest.mark.parametrize("place", ["sqlite", "sqlalchemy-postgres"], indirect=True)
async def test_in_any_store_one_removal_serves_all_who_pop_by_one_session(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(10)])
        rows, removals = session._sealed.rows._rows, list[int]()  # type: ignore[union-attr] # these have rows
        really = rows.remove

        def remove(removed: Any, newest: Any) -> Any:
            removals.append(len(removed))
            return really(removed, newest)

        monkeypatch.setattr(rows, "remove", remove)
        popped = await asyncio.gather(*(session.pop_item() for _ in range(8)))
        assert sorted(map(as_text, popped)) == [str(number) for number in range(2, 10)]
        assert removals == [1, 7]
        assert texts(await session.get_items()) == ["0", "1"]


async def pop_all(session: Any) -> list[str]:
    popped = []
    while (item := await session.pop_item()) is not None:
        popped.append(as_text(item))
    return popped


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_pops_that_are_cancelled_together_put_their_items_back_in_order(place: StoreLocation, sealer: Sealer):
    names = [str(number) for number in range(6)]
    for turns_of_the_loop in range(24):
        await write_rows(place, SESSION, [sealer.ok(name) for name in names])
        async with sealer.session(place) as session:
            await asyncio.gather(*(session.get_items(1) for _ in range(5)))  # connections are there
            pops = [asyncio.create_task(session.pop_item()) for _ in range(5)]
            await pops[0]
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            for pop in pops:
                pop.cancel()
            given = await asyncio.gather(*pops, return_exceptions=True)
            popped = texts([item for item in given if isinstance(item, dict)])
            left = texts(await session.get_items())
            assert left == sorted(left)
            assert sorted(popped + left) == names
            await session.clear_session()

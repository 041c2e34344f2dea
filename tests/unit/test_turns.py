"""Who pops in one event loop does so in turn, and nobody waits for somebody who is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from encrypted_sessions.history import turns
from encrypted_sessions.history.turns import Turn
from encrypted_sessions.stores import Row


class Poppers:
    """Tasks that take one turn after the other, and end when they are told."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.came: list[str] = []
        self.inside = 0

    async def take(self, name: str, ends: asyncio.Event) -> None:
        async with self.turn.taken():
            self.came.append(name)
            self.inside += 1
            try:
                await ends.wait()
            finally:
                self.inside -= 1

    async def start(self, name: str, ends: asyncio.Event) -> asyncio.Task[None]:
        task = asyncio.create_task(self.take(name, ends))
        await asyncio.sleep(0)
        return task


async def until(done: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if done():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def test_one_after_the_other_and_in_order():
    poppers, ends = Poppers(), [asyncio.Event() for _ in range(4)]
    tasks = [await poppers.start(str(number), end) for number, end in enumerate(ends)]
    for number, end in enumerate(ends):
        assert poppers.came == [str(one) for one in range(number + 1)]
        assert poppers.inside == 1
        end.set()
        await tasks[number]
        await asyncio.sleep(0)
    assert poppers.inside == 0


async def test_who_is_cancelled_while_waiting_is_passed_over():
    poppers, end = Poppers(), asyncio.Event()
    tasks = [await poppers.start(str(number), end) for number in range(3)]
    tasks[1].cancel()
    end.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert poppers.came == ["0", "2"]
    await poppers.take("3", end)


async def test_who_is_cancelled_as_its_turn_comes_passes_it_on():
    poppers, end, never = Poppers(), asyncio.Event(), asyncio.Event()
    first = await poppers.start("0", end)
    second, third = await poppers.start("1", never), await poppers.start("2", end)
    end.set()
    await asyncio.sleep(0)
    assert poppers.inside == 0  # the first has gone, and the second was woken, and has not run yet
    second.cancel()
    await asyncio.gather(first, third)
    assert second.cancelled()
    assert poppers.came == ["0", "2"]


async def test_a_turn_that_does_not_end_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 0.01)
    poppers, hangs, end = Poppers(), asyncio.Event(), asyncio.Event()
    first = await poppers.start("0", hangs)
    second = await poppers.start("1", end)
    await until(lambda: poppers.came == ["0", "1"])
    end.set()
    await second
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 60)
    third = await poppers.start("2", end)
    await asyncio.sleep(0.02)
    assert not third.done(), "whoever went on without its turn does not end that of another"
    hangs.set()
    await asyncio.gather(first, third)
    assert poppers.inside == 0


async def test_who_comes_again_as_its_turn_ends_does_not_wait_long_for_the_next_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 0.01)
    poppers, hangs, end = Poppers(), asyncio.Event(), asyncio.Event()

    async def twice() -> None:
        await poppers.take("0", end)
        await poppers.take("2", end)

    first = asyncio.create_task(twice())
    await asyncio.sleep(0)
    second = await poppers.start("1", hangs)
    end.set()
    await asyncio.wait_for(first, 10)
    assert poppers.came == ["0", "1", "2"]
    hangs.set()
    await second


async def test_those_who_go_along_come_in_order_and_the_last_one_passes_the_turn_on():
    turn, end = Turn(), asyncio.Event()
    came: list[tuple[str, object]] = []

    async def take(name: str, ends: asyncio.Event) -> None:
        async with turn.taken() as along:
            came.append((name, along and along.row))
            await ends.wait()

    ends = [asyncio.Event() for _ in range(4)]
    tasks = []
    for number, one in enumerate(ends):
        tasks.append(asyncio.create_task(take(str(number), one)))
        await asyncio.sleep(0)
    assert turn.waiting() == 3
    assert await turn.go_along([Row(8, b"b"), Row(7, b"a")]) == [], "nobody said that it wants its row"
    assert came == [("0", None), ("1", Row(8, b"b")), ("2", Row(7, b"a"))]
    for number in (1, 0):
        ends[number].set()
        await tasks[number]
    await asyncio.sleep(0)
    assert len(came) == 3, "one of them is still there"
    ends[2].set()
    await asyncio.sleep(0.01)
    assert came[3:] == [("3", None)]
    ends[3].set()
    await asyncio.gather(*tasks)
    assert await turn.go_along([Row(1, b"nobody waits")]) == []
    await take("4", end_at_once(end))


async def test_who_lost_has_a_turn_alone_and_nobody_goes_along_past_it():
    turn, end, came = Turn(), asyncio.Event(), list[tuple[str, object]]()

    async def take(name: str, *, alone: bool) -> None:
        async with turn.taken(alone=alone) as along:
            came.append((name, along and along.row))
            await end.wait()

    tasks = []
    for name, alone in (("0", False), ("1", False), ("2", True), ("3", False)):
        tasks.append(asyncio.create_task(take(name, alone=alone)))
        await asyncio.sleep(0)
    await turn.go_along([Row(9, b"c"), Row(8, b"b"), Row(7, b"a")])
    assert came == [("0", None), ("1", Row(9, b"c"))]
    end.set()
    await asyncio.gather(*tasks)
    assert came[2:] == [("2", None), ("3", None)]


async def test_who_is_cancelled_as_it_may_go_along_leaves():
    poppers, hold, never = Poppers(), asyncio.Event(), asyncio.Event()
    first = await poppers.start("0", hold)
    second, third = await poppers.start("1", never), await poppers.start("2", hold)
    going = asyncio.create_task(poppers.turn.go_along([Row(1, b"a")]))
    asyncio.get_running_loop().call_soon(second.cancel)
    await asyncio.sleep(0)
    hold.set()
    assert await going == []
    await asyncio.gather(first, third)
    assert poppers.came == ["0", "2"]


async def test_who_does_not_look_at_its_row_in_time_is_not_waited_for_nor_are_those_after_it():
    turn, hold, ended = Turn(), asyncio.Event(), dict[str, bool]()

    async def take(name: str) -> None:
        async with turn.taken() as along:
            if along is None:
                await hold.wait()
                return
            along.is_coming = name != "2"
            ended[name] = await along.ended

    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(take(str(number))))
        await asyncio.sleep(0)
    coming = await turn.go_along([Row(9 - number, b"") for number in range(4)])
    assert [along.row.id for along in coming] == [9]
    coming[0].ended.set_result(True)
    hold.set()
    await asyncio.gather(*tasks)
    assert ended == {"1": True, "2": False, "3": False, "4": False}


async def test_whoever_is_cancelled_with_the_turn_lets_go_of_those_who_were_to_come_along():
    turn, lost = Turn(), list[bool]()

    async def lead() -> None:
        async with turn.taken():
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(first.cancel)
            await turn.go_along([Row(9, b"")])

    async def follow() -> None:
        async with turn.taken() as along:
            assert along is not None
            along.is_coming = True
            lost.append(await along.ended)

    first = asyncio.create_task(lead())
    await asyncio.gather(first, follow(), return_exceptions=True)
    assert lost == [False]


def end_at_once(end: asyncio.Event) -> asyncio.Event:
    end.set()
    return end


async def test_who_gave_up_is_forgotten_while_the_turn_lasts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 0.001)
    poppers, ends = Poppers(), asyncio.Event()
    first = await poppers.start("first", ends)
    others = [await poppers.start(str(number), ends) for number in range(5)]
    await until(lambda: poppers.inside == 6)
    assert poppers.turn.waiting() == 0
    ends.set()
    await asyncio.gather(first, *others)

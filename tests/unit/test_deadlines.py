"""One timer for all bounds of an event loop: each is kept, and none outlives its loop."""

from __future__ import annotations

import asyncio
import gc
import weakref

from encrypted_sessions._support.deadlines import Deadlines, deadlines


async def test_each_is_called_back_at_its_moment_and_once():
    called: list[str] = []
    limits = deadlines()
    for name, after_s in (("third", 0.06), ("first", 0.02), ("second", 0.04)):
        limits.add(lambda name=name: called.append(name), after_s)
    await asyncio.sleep(0.03)
    assert called == ["first"]
    await asyncio.sleep(0.1)
    assert called == ["first", "second", "third"]


async def test_what_was_removed_is_not_called_and_those_after_it_are():
    called: list[str] = []
    limits = deadlines()

    def gone() -> None:
        called.append("gone")

    limits.add(gone, 0.01)
    limits.add(lambda: called.append("stays"), 0.03)
    limits.remove(gone)
    await asyncio.sleep(0.1)
    assert called == ["stays"]


async def test_a_callback_may_set_the_next_bound():
    again = asyncio.Event()
    limits = deadlines()
    limits.add(lambda: limits.add(again.set, 0.01), 0.01)
    await asyncio.wait_for(again.wait(), 5)


async def test_many_that_end_before_take_one_timer():
    loop = asyncio.get_running_loop()
    really, timers = loop.call_at, list[float]()

    def call_at(when: float, *arguments: object, **keywords: object) -> object:
        timers.append(when)
        return really(when, *arguments, **keywords)  # type: ignore[arg-type]

    loop.call_at = call_at  # type: ignore[method-assign, assignment]
    try:
        limits = Deadlines()
        for _ in range(100):
            limits.add(print, 30)
            limits.remove(print)
    finally:
        del loop.call_at
    assert len(timers) == 1


def test_a_loop_that_was_closed_is_let_go():
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        deadlines().add(print, 3600)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use())
    gc.collect()
    assert loop() is None


def test_a_loop_that_was_closed_while_something_waits_is_let_go_when_another_one_has_a_bound():
    async def use() -> None:
        waited = asyncio.get_running_loop().create_future()
        deadlines().add(waited.cancel, 3600)

    ended = asyncio.new_event_loop()
    ended.run_until_complete(use())
    ended.close()
    gone = weakref.ref(ended)
    del ended
    asyncio.run(use())
    gc.collect()
    assert gone() is None


async def test_one_that_raises_leaves_the_others_their_bounds():
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    done = asyncio.Event()
    limits = deadlines()
    limits.add(lambda: 1 / 0, 0.01)
    limits.add(done.set, 0.03)
    await asyncio.wait_for(done.wait(), 5)
    assert [type(one) for one in raised] == [ZeroDivisionError]

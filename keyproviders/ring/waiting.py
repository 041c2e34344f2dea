"""Waiting that is written once, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from typing import TypeVar

__all__ = ["Flow", "OneShotEvent", "run_async", "run_sync"]

_Result = TypeVar("_Result")


class OneShotEvent:
    """Something that happens once. Threads and event loops wait for it; a cancelled waiter harms nobody."""

    __slots__ = ("_event", "_futures", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._futures: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    def set(self) -> None:
        """It has happened."""
        with self._lock:
            self._event.set()
            futures, self._futures = self._futures, {}
        for loop, future in futures.items():
            # A loop that was closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, future)

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> None:
        """Block this thread until it happens, or for so many seconds."""
        self._event.wait(timeout_s)

    async def wait_async(self, timeout_s: float) -> None:
        """The same for a task."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._event.is_set():
                return
            # One future for each loop: ten thousand waiters wake their loop once.
            future = self._futures.get(loop)
            if future is None:
                future = self._futures[loop] = loop.create_future()
        await asyncio.wait([future], timeout=timeout_s)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# A flow yields each event that it waits for, and for how many seconds at most; it is resumed when that
# has happened or when the time is over, and returns its result. So the logic is written once, for
# threads and for tasks.
Flow = Generator[tuple[OneShotEvent, float], None, _Result]


def run_sync(flow: Flow[_Result], deadline_s: float) -> _Result:
    """Run a flow on this thread; all its waits together last no longer than the deadline."""
    until = time.monotonic() + deadline_s
    try:
        while True:
            event, longest_s = next(flow)
            event.wait(max(0.0, min(until - time.monotonic(), longest_s)))
    except StopIteration as done:
        result: _Result = done.value
        return result
    finally:
        flow.close()


async def run_async(flow: Flow[_Result], deadline_s: float) -> _Result:
    """Run a flow in this task, with the same deadline for all its waits."""
    until = time.monotonic() + deadline_s
    try:
        while True:
            event, longest_s = next(flow)
            await event.wait_async(max(0.0, min(until - time.monotonic(), longest_s)))
    except StopIteration as done:
        result: _Result = done.value
        return result
    finally:
        # In a task that was cancelled too: what nobody waits for any more is not asked for.
        flow.close()

"""A call to a place that is under way, and how threads and event loops wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, TypeVar

from ..errors import KeyUnavailableError
from ..key import Key

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Flight", "Signal", "Steps", "copy_of", "take_steps", "take_steps_async"]

_Result = TypeVar("_Result")


class Signal:
    """Something that happens once. Threads and event loops wait for it; a cancelled waiter harms nobody."""

    __slots__ = ("_happened", "_lock", "_loops")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._happened = threading.Event()
        self._loops: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    def set(self) -> None:
        """It has happened."""
        with self._lock:
            self._happened.set()
            loops, self._loops = self._loops, {}
        for loop, waiting in loops.items():
            # A loop that was closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, waiting)

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._happened.is_set()

    def wait(self, timeout_s: float) -> None:
        """Block this thread until it happens, or for so many seconds."""
        self._happened.wait(timeout_s)

    async def wait_async(self, timeout_s: float) -> None:
        """The same for a task."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._happened.is_set():
                return
            # One future for each loop: ten thousand waiters wake their loop once.
            waiting = self._loops.get(loop)
            if waiting is None:
                waiting = self._loops[loop] = loop.create_future()
        await asyncio.wait([waiting], timeout=timeout_s)


def _finish(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Flight:
    """One question to the places: how to put it, since when, and how it ended."""

    __slots__ = ("_error", "_key", "_trace", "ask", "background", "begun_at", "fingerprint", "landed", "number", "what")

    def __init__(
        self, number: int, what: str, fingerprint: str | None, ask: Callable[[], Key], *, background: bool
    ) -> None:
        self.number = number
        self.what = what  # a kid, or "" for the active key
        self.fingerprint = fingerprint
        self.ask = ask
        self.background = background  # nobody waited for it when it began
        self.begun_at: float | None = None
        self.landed = Signal()
        self._key: Key | None = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    @property
    def name(self) -> str:
        """What the place is asked for: the key's name, or its kid if it has none, or "" for the active key."""
        return self.what.rpartition("~")[0] or self.what

    def land(self, key: Key | None, error: BaseException | None) -> bool:
        """Give it its end; False when it had one."""
        if self.landed.is_set():
            return False
        self._key, self._error = key, error
        self._trace = None if error is None else error.__traceback__
        self.landed.set()
        return True

    def age_s(self) -> float:
        """Seconds since a thread took it up."""
        return 0.0 if self.begun_at is None else time.monotonic() - self.begun_at

    def result(self) -> Key:
        """The key, or the error. It must have landed."""
        if self._key is not None:
            return self._key
        if self._error is None:
            raise KeyUnavailableError("the call was given up")
        # Each raise adds to a traceback; what is shared begins anew each time.
        raise copy_of(self._error).with_traceback(self._trace)


def copy_of(error: BaseException) -> BaseException:
    """An error as a new object, for several callers may raise it at the same time.

    Each raise writes to the exception: its traceback would grow by every caller, and keep the
    frames of all of them. Only a foreign error that cannot be made anew is raised as it is.
    """
    try:
        copied = copy(error)
    except Exception:  # noqa: BLE001 - whatever a foreign type's __init__ raises
        try:
            # Without __init__, whose arguments are not those in `args`.
            copied = type(error).__new__(type(error), *error.args)
            copied.__dict__.update(error.__dict__)
        except Exception:  # noqa: BLE001 - whatever its __new__ raises
            return error
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = True
    return copied


# The steps of a question: it yields what it waits for, is resumed when that has happened or when
# the time is over, and returns the answer. So the logic is written once, for threads and for tasks.
Steps = Generator[Signal, None, _Result]


def take_steps(steps: Steps[_Result], deadline_s: float) -> _Result:
    """Take them on this thread; all waits together last no longer than the deadline."""
    until = time.monotonic() + deadline_s
    try:
        while True:
            next(steps).wait(max(0.0, until - time.monotonic()))
    except StopIteration as done:
        result: _Result = done.value
        return result


async def take_steps_async(steps: Steps[_Result], deadline_s: float) -> _Result:
    """Take them in this task."""
    until = time.monotonic() + deadline_s
    try:
        while True:
            await next(steps).wait_async(max(0.0, until - time.monotonic()))
    except StopIteration as done:
        result: _Result = done.value
        return result

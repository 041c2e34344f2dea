"""What a signal does to a command that is at work: it ends after the current batch, or at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable
from contextlib import suppress
from types import FrameType
from typing import TypeVar

__all__ = ["GracefulStop"]

_T = TypeVar("_T")


class GracefulStop:
    """Whether somebody wants the work to end. The first signal asks for that, the next one cancels it.

    Nothing is raised where a signal happens to arrive: a step of the store that has begun ends, and
    what is open is closed.
    """

    def __init__(self, *, patient: bool = True) -> None:
        """Where nobody looks at `requested`, it is not `patient`: the first signal cancels."""
        self._patient = patient
        self._requested = False

    def requested(self) -> bool:
        """Whether a signal came."""
        return self._requested

    async def watch(self, work: Awaitable[_T]) -> _T:
        """Wait for `work`, and take SIGINT, SIGTERM and SIGHUP meanwhile. Raises CancelledError when cancelled."""
        if threading.current_thread() is not threading.main_thread():  # only that one may
            return await work
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: this is a coroutine

        def take(_number: int, _frame: FrameType | None) -> None:
            is_first, self._requested = not self._requested, True
            if self._patient and is_first:
                _write_to_stderr("Stopping after this batch. Interrupt once more to stop at once.")
            else:
                _write_to_stderr("Stopping as soon as the store answers.")
                loop.call_soon_threadsafe(task.cancel)

        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, take) for number in numbers}
        try:
            return await work
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _write_to_stderr(sentence: str) -> None:
    """From within a signal's handler: unbuffered, and the terminal may be gone."""
    with suppress(OSError):
        os.write(2, f"\n{sentence}\n".encode())

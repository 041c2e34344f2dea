"""Reads that end in their time, though what they wait for may not."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .deadlines import deadlines
from .shielding import Caller

__all__ = ["OverdueError", "bounded", "bounded_in_place", "until_done"]

_T = TypeVar("_T")

#: Seconds that a read may take to end once it was cancelled because it is overdue.
_GRACE_S = 0.5

# The event loop itself keeps no task alive.
_held: set[asyncio.Future[Any]] = set()


class OverdueError(Exception):
    """It took longer than it may. Not a TimeoutError, which what was waited for can raise itself."""


async def bounded(timeout_s: float | None, let_go_s: float, read: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
    """What `read` gives within `timeout_s` (None: without a bound), else OverdueError.

    In a task of its own, because what is read may hold a cancellation up for ever, as a shielded rollback does.
    When this task is cancelled, so is `read`, and is waited for `let_go_s` seconds at most.
    """
    task = asyncio.ensure_future(read(*arguments))
    try:
        try:
            await until_done(task, timeout_s)
        except asyncio.CancelledError as error:
            cancelled = error
        else:
            if task.done():
                return task.result()
            await _end(task, _GRACE_S)
            if task.done() and not task.cancelled() and task.exception() is None:
                return task.result()
            raise OverdueError
        await _end(task, let_go_s)
        raise cancelled
    finally:
        # The caller's own traceback, without a reference to this frame and what it holds.
        del task, read, arguments


async def until_done(begun: asyncio.Future[Any], within_s: float | None, waiting: Caller | None = None) -> None:
    """Wait for the end of a future or task, but no longer than this, or until it wakes who is `waiting`.

    As `asyncio.wait` with one task, at a fraction of its cost: this is done for each page, and for each change.
    """
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: object = None) -> None:
        if not ended.done():
            ended.set_result(None)

    begun.add_done_callback(wake)
    if waiting is not None:
        waiting.wake = wake
    limits = None if within_s is None else deadlines()
    if limits is not None and within_s is not None:
        limits.add(wake, within_s)
    try:
        await ended
    finally:
        begun.remove_done_callback(wake)
        if waiting is not None:
            waiting.wake = None
        if limits is not None:
            limits.remove(wake)


async def _end(task: asyncio.Future[Any], within_s: float) -> None:
    """Cancel a task, and wait for its end, but no longer than this, whoever cancels the waiting meanwhile."""
    task.cancel()
    ends = time.monotonic() + within_s
    again: asyncio.CancelledError | None = None
    while not task.done() and (left := ends - time.monotonic()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            again = error
    _held.add(task)
    task.add_done_callback(_forget)
    if again is not None:
        raise again


def _forget(task: asyncio.Future[Any]) -> None:
    _held.discard(task)
    if not task.cancelled():
        task.exception()  # which nobody waits for any more


if sys.version_info >= (3, 11):

    async def bounded_in_place(
        timeout_s: float | None,
        let_go_s: float,  # noqa: ARG001 - as `bounded`
        read: Callable[..., Awaitable[_T]],
        *arguments: Any,
    ) -> _T:
        """As `bounded`, for what ends as soon as it is cancelled: without a task for each.

        As within `asyncio.timeout`, but for its timer.
        """
        if timeout_s is None:
            return await read(*arguments)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        before, is_overdue = task.cancelling(), False

        def end() -> None:
            nonlocal is_overdue
            is_overdue = True
            task.cancel()

        limits = deadlines()
        limits.add(end, timeout_s)
        try:
            return await read(*arguments)
        except asyncio.CancelledError:
            if not is_overdue or task.cancelling() > before + 1:  # somebody else has cancelled it
                raise
        finally:
            limits.remove(end)
            if is_overdue:
                task.uncancel()
        raise OverdueError

else:  # a task cannot tell this cancellation from another one that comes with it
    bounded_in_place = bounded

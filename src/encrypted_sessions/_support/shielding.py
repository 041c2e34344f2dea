"""Changes that are finished once they are begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["Caller", "caller", "ends_until", "is_caller_gone", "shield"]

_T = TypeVar("_T")


class Caller:
    """Who waits for a change: whether nobody waits any more, and since when the change waits for its store."""

    __slots__ = ("called_at", "gone", "wake")

    def __init__(self) -> None:
        self.gone = False
        self.called_at: float | None = None
        """When the call of the store began that goes on now, by the monotonic clock; None between two."""
        self.wake: Callable[[], None] | None = None
        """Wakes the caller. A change that does so as its last step saves a turn of the event loop."""


#: Set in the task that makes the change; a worker thread of `asyncio.to_thread` sees it too.
caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def is_caller_gone() -> bool:
    """Whether the caller of the change that is being made was cancelled: nobody will get its result."""
    found = caller.get()
    return found is not None and found.gone


async def ends_until(moment: float, task: asyncio.Task[_T]) -> bool:
    """Whether a task ends by then, a moment of the monotonic clock, whoever cancels the waiting meanwhile.

    For a waiter that was cancelled already, and passes that on once, at the end.
    """
    while not task.done() and (left := moment - time.monotonic()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            continue
    return task.done()


async def shield(change: Awaitable[_T], undo: Callable[[_T], Awaitable[object]] | None = None) -> _T:
    """Wait for `change` to end, also when the waiting task is cancelled, then pass that on.

    A change of the store must not stop half-way because a request was cancelled. When it was, and
    the change succeeded all the same, `undo` gets its result, and is waited for in the same way:
    nobody is there to receive it. Raises what the change raised, else CancelledError.
    """
    task = asyncio.ensure_future(change)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is None:
        return result
    try:
        if undo is not None:
            await shield(undo(result))
    finally:
        # The caller's own traceback, without a reference to this frame and what it holds.
        del result, task, undo
    raise cancelled

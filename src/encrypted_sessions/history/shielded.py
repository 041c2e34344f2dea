"""The changes that one session makes: finished once they are begun, whether or not their callers wait that long.

A caller that was cancelled waits `shield_s` for its change to end or to be undone. Then it is let go, and
the change goes on in a task of its own: `settle` is where the session's next call waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._support.shielding import Caller, caller
from ..errors import PutBackError, StoreTimeoutError
from .session_log import SessionLog

__all__ = ["ShieldedChanges"]

logger = logging.getLogger("encrypted_sessions")

_T = TypeVar("_T")

# The event loop itself keeps no task alive, and the session may be gone before its change has ended.
_held: set[asyncio.Task[object]] = set()


class ShieldedChanges:
    """What one session changes in its store, and what of it nobody waits for any more."""

    def __init__(self, shield_s: float, log: SessionLog) -> None:
        self._shield_s = shield_s
        self._log = log
        self._given_up: set[asyncio.Task[object]] = set()
        self._lost: PutBackError | None = None

    def are_settled(self) -> bool:
        """Whether nothing was given up that has not ended, or left something behind."""
        return not self._given_up and self._lost is None

    async def settle(self) -> None:
        """Wait for what was given up; can be cancelled at once.

        Raises PutBackError once where that left an item which the store did not take back.
        """
        # Without a bound of its own: this is the place for the time that a call waits for the store.
        loop = asyncio.get_running_loop()
        while mine := [task for task in self._given_up if task.get_loop() is loop]:
            await asyncio.wait(mine)
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    async def finish(
        self, operation: str, change: Awaitable[_T], undo: Callable[[_T], Awaitable[object]] | None = None
    ) -> _T:
        """Wait for `change` to end, also when the waiting task is cancelled, then pass that on.

        A change of the store must not stop half-way because a request was cancelled. When it was, and
        the change succeeds all the same, `undo` gets its result: nobody is there to receive it. Raises
        what the change raised, else CancelledError: after `shield_s` in any case, with a
        StoreTimeoutError as its cause.
        """
        waiting = Caller()
        task = asyncio.ensure_future(_change_for(waiting, change))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
        else:
            return task.result()
        waiting.gone = True
        try:
            await self._end(operation, task, undo)
        except StoreTimeoutError as in_doubt:
            cause = in_doubt
        else:
            raise cancelled
        finally:
            # The caller's own traceback, without a reference to this frame and what it holds.
            del task, undo, change
        raise cancelled from cause

    async def _end(
        self, operation: str, task: asyncio.Task[_T], undo: Callable[[_T], Awaitable[object]] | None
    ) -> None:
        """Wait `shield_s` for a change whose caller is gone, and for its undoing; then hold it, and raise."""

        async def end() -> None:
            result = await task
            if undo is not None:
                await undo(result)

        ending = asyncio.ensure_future(end())
        began = time.monotonic()
        while not ending.done() and (left := began + self._shield_s - time.monotonic()) > 0:
            try:
                await asyncio.wait({ending}, timeout=left)
            except asyncio.CancelledError:  # once more: it is passed on once, at the end
                continue
        if ending.done():
            ending.result()
            return
        _held.add(ending)
        self._given_up.add(ending)
        ending.add_done_callback(lambda ended: self._ended(operation, ended, time.monotonic() - began))
        raise StoreTimeoutError(
            f"{operation} of {self._log.store}: the store had not answered {self._shield_s:g} s after the caller was"
            " cancelled. What was begun goes on, and is undone where it can be; the session's next call waits for it",
            in_doubt=True,
        )

    def _ended(self, operation: str, ended: asyncio.Task[object], after_s: float) -> None:
        _held.discard(ended)
        self._given_up.discard(ended)
        level, how = logging.WARNING, "has ended, or was undone"
        if ended.cancelled():
            level, how = logging.ERROR, "was cut off with its event loop: whether it took place is not known"
        elif error := ended.exception():
            # Not the error's words: a database's may hold rows.
            level, how = logging.ERROR, f"has failed ({type(error).__name__})"
            if isinstance(error, PutBackError):
                self._lost = error
                how += "; the session's next call raises it"
        logger.log(
            level,
            "%s, which was given up when its caller was cancelled, %s after %.1f s",
            operation,
            how,
            after_s,
            extra=self._log.fields(operation=operation),
        )


async def _change_for(waiting: Caller, change: Awaitable[_T]) -> _T:
    caller.set(waiting)
    return await change

"""The changes that one session makes: finished once they are begun, whether or not their callers wait that long.

A caller waits for its change while each call of the store answers within `store_timeout_s`. One that was
cancelled waits `shield_s` for its change to end or to be undone. Then it is let go, and the change goes on
in a task of its own: `settle` is where the session's next call waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._support.bounded import until_done
from .._support.shielding import Caller, caller, ends_until
from ..errors import PutBackError, StoreTimeoutError
from .session_log import SessionLog
from .store_change import StoreChange

__all__ = ["ShieldedChanges"]

logger = logging.getLogger("encrypted_sessions")

_T = TypeVar("_T")

# The event loop itself keeps no task alive, and the session may be gone before its change has ended.
_held: set[asyncio.Task[object]] = set()


class ShieldedChanges:
    """What one session changes in its store, and what of it nobody waits for any more."""

    def __init__(self, shield_s: float, timeout_s: float | None, log: SessionLog) -> None:
        self.shield_s = shield_s
        self.timeout_s = timeout_s
        self._log = log
        self._given_up: dict[asyncio.Task[object], Caller] = {}
        self._lost: PutBackError | None = None

    def are_settled(self) -> bool:
        """Whether nothing was given up that has not ended, or left something behind."""
        return not self._given_up and self._lost is None

    async def settle(self) -> None:
        """Wait for what was given up, as long as a call of the store may take; can be cancelled at once.

        Raises StoreTimeoutError if it has not ended then, and PutBackError once where it left an item
        which the store did not take back.
        """
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        left = self.timeout_s
        # A change may itself call this session, by way of another one beneath it: that is not to wait for itself.
        within = caller.get()
        while mine := [
            task for task, waiting in self._given_up.items() if task.get_loop() is loop and waiting is not within
        ]:
            if left is not None and left <= 0:
                raise StoreTimeoutError(
                    f"{self._log.store} has still not completed an earlier change that was abandoned. After"
                    f" waiting {self.timeout_s:g} s, nothing else was started. Try again when the store answers"
                )
            await asyncio.wait(mine, timeout=left)
            if self.timeout_s is not None:
                left = began + self.timeout_s - time.monotonic()
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    async def finish(
        self,
        operation: str,
        change: Awaitable[_T],
        undo: Callable[[_T], Awaitable[object]] | None = None,
        *,
        is_cancelled_too: bool = False,
    ) -> _T:
        """Wait for `change` to end, also when the waiting task is cancelled, then pass that on.

        A change of the store must not stop half-way because a request was cancelled. When it was, and
        the change succeeds all the same, `undo` gets its result: nobody is there to receive it. A change that
        the store itself makes whole or not at all `is_cancelled_too`, which the store heeds or not.

        Raises what the change raised, else CancelledError: after `shield_s` in any case, with a
        StoreTimeoutError as its cause. Raises StoreTimeoutError when a call of the store takes too long.
        """
        waiting = Caller()
        begun, result = _begin(change, waiting)
        try:
            await self._while_it_answers(begun, waiting)
        except asyncio.CancelledError as error:
            cancelled: asyncio.CancelledError | None = error
        else:
            if begun.done():
                return result(begun)
            cancelled = None
        waiting.gone = True
        began = time.monotonic()
        ending = asyncio.ensure_future(_end(begun, result, undo))
        cause: StoreTimeoutError | None = None
        try:
            if cancelled is None:
                raise self._give_up(operation, ending, waiting, f"the store has not answered for {self.timeout_s:g} s")
            if is_cancelled_too and isinstance(begun, asyncio.Task):  # of a thread only the waiting would end
                begun.cancel()
            if not await ends_until(began + self.shield_s, ending):
                cause = self._give_up(
                    operation,
                    ending,
                    waiting,
                    f"the store had not answered {self.shield_s:g} s after the caller was cancelled",
                )
            elif not ending.cancelled():
                ending.result()
        finally:
            # The caller's own traceback, without a reference to this frame and what it holds.
            del begun, result, ending, undo, change
        if cause is not None:
            raise cancelled from cause
        raise cancelled

    async def _while_it_answers(self, begun: asyncio.Future[_T], waiting: Caller) -> None:
        """Wait for the end of a change, or for a call in it that takes longer than it may."""
        left = self.timeout_s
        while True:
            await until_done(begun, left, waiting)
            if begun.done():
                return
            assert self.timeout_s is not None, "a wait without a limit has ended"  # noqa: S101 - for the type checker
            # What lies between two calls, such as looking up a key, has bounds of its own.
            left = self.timeout_s
            if waiting.called_at is not None:
                left += waiting.called_at - time.monotonic()
                if left <= 0:
                    return

    def _give_up(self, operation: str, ending: asyncio.Task[None], waiting: Caller, problem: str) -> StoreTimeoutError:
        """Hold what goes on, and say so."""
        _held.add(ending)
        self._given_up[ending] = waiting
        began = time.monotonic()
        ending.add_done_callback(lambda ended: self._ended(operation, ended, time.monotonic() - began))
        return StoreTimeoutError(
            f"{operation} of {self._log.store}: {problem}. What was started continues, and is undone if possible;"
            " the session's next call waits for it",
            in_doubt=True,
        )

    def _ended(self, operation: str, ended: asyncio.Task[None], after_s: float) -> None:
        _held.discard(ended)
        self._given_up.pop(ended, None)
        level, how = logging.WARNING, "has ended, or was undone"
        if ended.cancelled():
            level, how = logging.ERROR, "was interrupted: whether it took place is not known"
        elif error := ended.exception():
            # Not the error's words: a database's may hold rows.
            level, how = logging.ERROR, f"has failed ({type(error).__name__})"
            if isinstance(error, PutBackError):
                self._lost = error
                how += "; the session's next call raises it"
        logger.log(
            level,
            "%s, which was abandoned when its caller was cancelled or the store did not answer, %s %.1f s later",
            operation,
            how,
            after_s,
            extra=self._log.fields(operation=operation),
        )


def _begin(change: Awaitable[_T], waiting: Caller) -> tuple[asyncio.Future[_T], Callable[[asyncio.Future[_T]], _T]]:
    """Have a change go on by itself; and what its result is then."""
    if isinstance(change, StoreChange):
        within = caller.set(waiting)
        try:
            begun = change.begin()
        finally:
            caller.reset(within)
        if asyncio.isfuture(begun):  # no task is needed for one call that nothing can stop half-way
            waiting.called_at = time.monotonic()
            return begun, change.result
        change = change.finish(begun)
    return asyncio.ensure_future(_change_for(waiting, change)), asyncio.Future.result


async def _change_for(waiting: Caller, change: Awaitable[_T]) -> _T:
    caller.set(waiting)
    try:
        return await change
    finally:
        if waiting.wake is not None:
            waiting.wake()


async def _end(
    begun: asyncio.Future[_T],
    result: Callable[[asyncio.Future[_T]], _T],
    undo: Callable[[_T], Awaitable[object]] | None,
) -> None:
    """The end of a change whose caller is gone: undone if it can be."""
    await asyncio.wait({begun})
    ended = result(begun)
    if undo is not None:
        await undo(ended)

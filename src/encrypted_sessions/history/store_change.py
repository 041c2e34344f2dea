"""One call of a store that changes something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._support.shielding import caller
from ..events.listening import LISTENING, running

if TYPE_CHECKING:
    from ..events.protocols import Running

__all__ = ["StoreChange"]

_T = TypeVar("_T")


class StoreChange(Generic[_T]):
    """Awaited as it is; or begun, by whoever may let it go (`ShieldedChanges`).

    `failure` says what to raise for what the store raised. With `removed`, the running operation is told before that
    rows are to be removed, and then how many that were by the call's result; None where nobody can tell.
    """

    __slots__ = ("_arguments", "_failure", "_operation", "_removed", "_statement")

    def __init__(
        self,
        failure: Callable[[Exception], Exception],
        statement: Callable[..., Awaitable[_T]],
        *arguments: Any,
        removed: Callable[[_T], int | None] | None = None,
    ) -> None:
        self._failure = failure
        self._statement = statement
        self._arguments = arguments
        self._removed = removed
        self._operation: Running | None = None

    def __await__(self) -> Generator[Any, None, _T]:
        return self.finish(self.begin()).__await__()

    def begin(self) -> Awaitable[_T]:
        """Call the store. What it gives, where that is a future, goes on by itself, and ends in `result`."""
        if self._removed is not None:
            self._operation = running()
            if self._operation is not None:
                self._operation.removing()
        if LISTENING.left:
            LISTENING.do_what_is_left()
        return self._statement(*self._arguments)

    async def finish(self, begun: Awaitable[_T]) -> _T:
        """Await what was begun. Whoever waits for it sees how long it takes."""
        waiting = caller.get()
        if waiting is not None:
            waiting.called_at = time.monotonic()
        try:
            return self._succeeded(await begun)
        except Exception as error:
            failure = self._failure(error)
            if failure is error:
                raise
        finally:
            if waiting is not None:
                waiting.called_at = None
        raise failure  # outside, so that a driver's error that quotes rows is not its context

    def result(self, ended: asyncio.Future[_T]) -> _T:
        """What a future gave that has ended."""
        try:
            return self._succeeded(ended.result())
        except Exception as error:
            failure = self._failure(error)
            if failure is error:
                raise
        raise failure

    def _succeeded(self, result: _T) -> _T:
        if self._operation is not None and self._removed is not None:
            rows = self._removed(result)
            if rows is not None:
                self._operation.removed(rows)
        return result

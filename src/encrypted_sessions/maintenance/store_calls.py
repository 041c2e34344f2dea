"""Calls of a store: one at a time, and again where it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from ..errors import StoreError, StoreUnavailableError
from ..stores.whole import WholeStore
from .interruption import LOOK_S, InterruptedRunError, wait

__all__ = ["StoreCalls", "checkpoint_store"]

#: Seconds between tries when the store does not answer.
_RETRY_WAITS_S = (0.2, 0.5, 1.0, 2.0)

#: Seconds that a call under way may still take when the run shall stop, then so many until it is given up.
_GRACE_S = 0.5
_BREAKS_OFF_S = 0.2

_T = TypeVar("_T")


class StoreCalls:
    """Makes a run's calls of its store. Waiting ends with InterruptedRunError when the run shall stop.

    So does a call that goes on for long then: whoever may make triggers can hold a change for ever.
    """

    def __init__(self, store: WholeStore, stop: Callable[[], bool]) -> None:
        self._store = store
        self._stop = stop
        self._broken_off = False
        self.lock = asyncio.Lock()
        """Held during each call: a store serves one task at a time."""

    async def with_retries(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """One call, and again if the store does not answer. A call in doubt changes nothing when it comes twice."""
        for wait_s in _RETRY_WAITS_S:
            with suppress(StoreUnavailableError):
                return await self._make(call)
            await wait(wait_s, self._stop)
        return await self._make(call)

    async def _make(self, call: Callable[[], Awaitable[_T]]) -> _T:
        async with self.lock:
            if self._broken_off:
                raise InterruptedRunError
            making = asyncio.ensure_future(call())
            try:
                while not (await asyncio.wait({making}, timeout=LOOK_S))[0]:
                    if self._stop():
                        return await self._hurry(making)
            finally:
                if not making.done():  # this task was cancelled: so is the call, which may end what it began
                    making.cancel()
                    await asyncio.wait({making})
            return making.result()

    async def _hurry(self, making: asyncio.Future[_T]) -> _T:
        """The result of a call that ends soon. Else it is broken off."""
        if (await asyncio.wait({making}, timeout=_GRACE_S))[0]:
            return making.result()
        self._broken_off = True
        self._store.interrupt()
        if not (await asyncio.wait({making}, timeout=_BREAKS_OFF_S))[0]:
            making.cancel()
            await asyncio.wait({making}, timeout=_BREAKS_OFF_S)
        if making.done() and not making.cancelled() and making.exception() is None:
            return making.result()
        raise InterruptedRunError


async def checkpoint_store(store: WholeStore) -> tuple[str, ...]:
    """What a store could not make gone of what was removed or replaced, in words."""
    try:
        return tuple(await store.checkpoint())
    except StoreError as error:
        return (str(error),)

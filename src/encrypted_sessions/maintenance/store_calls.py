"""Calls of a store: one at a time, and again where it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from ..errors import StoreError, StoreUnavailableError
from ..stores.whole import WholeStore
from .keys import wait

__all__ = ["StoreCalls", "checkpoint_store"]

#: Seconds between tries when the store does not answer.
_RETRY_WAITS_S = (0.2, 0.5, 1.0, 2.0)

_T = TypeVar("_T")


class StoreCalls:
    """Makes a run's calls of its store. Waiting ends with InterruptedRunError when the run shall stop."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self.lock = asyncio.Lock()
        """Held during each call: a store serves one task at a time."""

    async def with_retries(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """One call, and again if the store does not answer. A call in doubt changes nothing when it comes twice."""
        for wait_s in _RETRY_WAITS_S:
            with suppress(StoreUnavailableError):
                async with self.lock:
                    return await call()
            await wait(wait_s, self._stop)
        async with self.lock:
            return await call()


async def checkpoint_store(store: WholeStore) -> tuple[str, ...]:
    """What a store could not make gone of what was removed or replaced, in words."""
    try:
        return tuple(await store.checkpoint())
    except StoreError as error:
        return (str(error),)

"""Changes that are finished once they are begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def settle(change: Awaitable[_T]) -> _T:
    """Wait for `change` to end, also when the waiting task is cancelled, then pass that on.

    A change of the store must not stop half-way because a request was cancelled. Raises what the
    change raised, else CancelledError if there was a cancellation.
    """
    task = asyncio.ensure_future(change)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:  # noqa: BLE001, S110 - raised by task.result() below
            pass
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result

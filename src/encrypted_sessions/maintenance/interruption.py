"""Waiting that ends as soon as the run was told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["LOOK_S", "InterruptedRunError", "wait"]

#: Seconds between two looks at whether the run shall stop.
LOOK_S = 0.1


class InterruptedRunError(Exception):
    """The run was told to stop."""


async def wait(seconds: float, stop: Callable[[], bool]) -> None:
    """Let time pass. Raises InterruptedRunError as soon as the run shall stop."""
    ends = time.monotonic() + seconds
    while not stop():
        left = ends - time.monotonic()
        if left <= 0:
            return
        await asyncio.sleep(min(left, LOOK_S))
    raise InterruptedRunError

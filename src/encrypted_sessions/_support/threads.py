"""Work in the event loop's threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TypeVar

__all__ = ["in_thread"]

_T = TypeVar("_T")


def in_thread(work: Callable[..., _T], *arguments: object) -> asyncio.Future[_T]:
    """As `asyncio.to_thread`, but the future itself: whoever waits for it needs no coroutine or task around it."""
    run = partial(copy_context().run, work, *arguments)
    return asyncio.get_running_loop().run_in_executor(None, run)

"""What both suites need, so that they run without a plugin and without rewritten assertions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["expect", "in_an_event_loop"]

_Suite = TypeVar("_Suite")


def in_an_event_loop(test: Callable[[_Suite], Awaitable[None]]) -> Callable[[_Suite], None]:
    """A test that pytest can run by itself: each in an event loop of its own."""

    # Not `functools.wraps`: plugins for asynchronous tests would follow it to the coroutine function.
    def run(suite: _Suite) -> None:
        async def body() -> None:
            await test(suite)

        asyncio.run(body())

    run.__name__, run.__qualname__, run.__module__ = test.__name__, test.__qualname__, test.__module__
    run.__doc__ = test.__doc__
    return run


def expect(found: object, wanted: object, what: str) -> None:
    """Raise AssertionError unless both are equal; `what` says what was looked at."""
    # Spelled out: authors of stores may run their tests without assertions rewritten.
    if found != wanted:
        raise AssertionError(f"{what}: got {found!r} instead of {wanted!r}")

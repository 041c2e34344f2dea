"""Moments by which something is to have ended, with one timer for all of an event loop.

Nearly all that is waited for ends long before: a timer for each would cost more than some of it, and be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary, ref

__all__ = ["Deadlines", "deadlines"]


class Deadlines:
    """Calls back whoever has not been removed by its moment, by the clock of the running loop.

    The timer of the earliest moment is left to run out when nobody waits for it any more, and then set for the next.
    """

    __slots__ = ("_fires_at", "_moments")

    def __init__(self) -> None:
        self._moments: dict[Callable[[], object], float] = {}
        self._fires_at: float | None = None  # and not the timer, which holds its loop

    def add(self, callback: Callable[[], object], after_s: float) -> None:
        """Call `callback` after so many seconds, once."""
        loop = asyncio.get_running_loop()
        self._moments[callback] = moment = loop.time() + after_s
        if self._fires_at is None or moment < self._fires_at:
            self._set(loop, moment)

    def remove(self, callback: Callable[[], object]) -> None:
        """Do not call it, if it was not called."""
        self._moments.pop(callback, None)

    def _set(self, loop: asyncio.AbstractEventLoop, moment: float) -> None:
        self._fires_at = moment
        loop.call_at(moment, self._fire, moment)

    def _fire(self, moment: float) -> None:
        if moment != self._fires_at:
            return  # an earlier one was set after this
        self._fires_at = None
        loop = asyncio.get_running_loop()
        now = max(moment, loop.time())  # a loop may be early by the grain of its clock
        try:
            for callback in [callback for callback, due in self._moments.items() if due <= now]:
                if self._moments.pop(callback, None) is not None:
                    callback()
        finally:  # also where one raises: the others are still waited for
            if self._moments and self._fires_at is None:
                self._set(loop, min(self._moments.values()))


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines] = WeakKeyDictionary()
_newest: tuple[ref[asyncio.AbstractEventLoop], Deadlines] | None = None  # as most processes have one loop


def deadlines() -> Deadlines:
    """Those of the running loop."""
    global _newest  # noqa: PLW0603 - replaced as a whole, in whichever thread
    loop, newest = asyncio.get_running_loop(), _newest
    if newest is not None and newest[0]() is loop:
        return newest[1]
    found = _of_loops.get(loop)
    if found is None:
        for ended in [one for one in list(_of_loops) if one.is_closed()]:  # what was waited for there holds its loop
            _of_loops.pop(ended, None)
        found = _of_loops[loop] = Deadlines()
    _newest = ref(loop), found
    return found

"""The clock by which keys age."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["AgeClock"]


class AgeClock:
    """Seconds that pass by the larger of the wall clock and the monotonic one. It never goes back.

    The monotonic clock stands still while a machine is suspended, and then the wall clock alone
    knows that time has passed. The wall clock can be set back, and then the monotonic one goes on.
    """

    __slots__ = ("_ahead", "_monotonic", "_wall")

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        # How far the wall clock has been ahead at most. Only its growth counts, so the noise
        # between two readings does not add up.
        self._ahead = wall() - monotonic()

    def __call__(self) -> float:
        """The time now, in seconds since no particular moment."""
        monotonic = self._monotonic()
        ahead = self._wall() - monotonic
        self._ahead = max(self._ahead, ahead)
        return monotonic + self._ahead

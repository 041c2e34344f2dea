"""What is reported while a run goes on. Nothing is printed here: a callback gets it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Progress", "Ticker"]

#: Seconds between two reports.
_EVERY_S = 0.2


class Progress(NamedTuple):
    """The progress of a run.

    Attributes:
        seen: Rows that were looked at.
        total: An estimate of how many there are: they were counted at the start, and the store may change meanwhile.
        changed: Rows that were replaced or removed.
        elapsed_s: Seconds since the start.
    """

    seen: int
    total: int
    changed: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Rows looked at per second, so far."""
        return self.seen / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at this rate; None while it is not known."""
        return max(self.total - self.seen, 0) / self.rate if self.rate > 0 else None


class Ticker:
    """Calls back now and then, and once at the end."""

    def __init__(self, callback: Callable[[Progress], object] | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._began = self._last_call = time.monotonic()

    def tick(self, seen: int, changed: int, *, end: bool = False) -> None:
        """Say how far the run is, if it is time to."""
        if self._callback is None:
            return
        now = time.monotonic()
        if end or now - self._last_call >= _EVERY_S:
            self._last_call = now
            self._callback(Progress(seen, max(self._total, seen), changed, now - self._began))

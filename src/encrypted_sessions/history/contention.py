"""How much others hinder those who pop from one history: whoever lost the newest row to them waits by lot.

If all tried again at once, they would only hinder each other. While one gets through, it is best that the others stay
away, and the longer the more of them there are: so the pauses become longer with each row that was lost, and shorter
again with those that were not.
"""

from __future__ import annotations

import time
from math import inf

from .._support.lots import pause_by_lot

__all__ = ["Contention"]

#: How often the pause doubles: after so many rows that were lost.
_DOUBLINGS = 5

#: For so many rows that were not lost, one that was lost before counts no more.
_FORGETS_AFTER = 16

#: Nor does any that was lost so long ago, in seconds.
_FORGETS_AFTER_S = 1.0


class Contention:
    """What those of one event loop have seen of it."""

    __slots__ = ("_lost", "_lost_at", "_won")

    def __init__(self) -> None:
        self._lost, self._won, self._lost_at = 0, 0, -inf

    def won(self) -> None:
        """A row was removed."""
        if self._lost:
            self._won += 1
            if self._won == _FORGETS_AFTER:
                self._lost, self._won = self._lost - 1, 0

    def lost(self) -> None:
        """Others were faster."""
        now = time.monotonic()
        if now - self._lost_at > _FORGETS_AFTER_S:
            self._lost = 0
        self._lost, self._won, self._lost_at = min(self._lost + 1, 2 + _DOUBLINGS), 0, now

    async def pause(self) -> bool:
        """Let others go first, and say so, unless it was a single row that was lost: that may not happen again."""
        if self._lost <= 1:
            return False
        await pause_by_lot(2 ** (self._lost - 2))
        return True

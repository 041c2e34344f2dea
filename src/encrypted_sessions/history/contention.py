"""How much others hinder those who pop from one history: whoever lost the newest row to them waits by lot.

If all tried again at once, they would only hinder each other. While some get through, it is best that the others stay
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

#: How many of the newest rows are looked at, at most.
_MOST_AHEAD = 4


class Contention:
    """What those of one event loop have seen of it."""

    __slots__ = ("_alone", "_lost", "_lost_at", "_others", "_won", "is_there")

    def __init__(self) -> None:
        self.is_there = False
        """Whether others pop, too, as far as is known."""
        self._lost, self._won, self._alone, self._others, self._lost_at = 0, 0, 0, 0, -inf

    def won(self, others: int = 0) -> None:
        """A row was removed, and others have removed so many since one had looked."""
        if not (self.is_there or others):
            return
        self.is_there = True
        self._others = others
        self._won += 1
        self._alone = 0 if others else self._alone + 1
        if self._won >= _FORGETS_AFTER:
            self._lost, self._won = max(0, self._lost - 1), 0
        if self._alone >= _FORGETS_AFTER:
            self.is_there, self._alone = self._lost > 0, 0

    def lost(self) -> None:
        """Others were faster."""
        now = time.monotonic()
        if now - self._lost_at > _FORGETS_AFTER_S:
            self._lost = 0
        self._lost, self._won, self._lost_at = min(self._lost + 1, 2 + _DOUBLINGS), 0, now
        self.is_there, self._alone, self._others = True, 0, _MOST_AHEAD

    def ahead(self) -> int:
        """How many of the newest rows to look at, so that others leave one of them: more than they last took."""
        return min(2 + self._others, _MOST_AHEAD)

    async def pause(self) -> bool:
        """Let others go first, and say so, unless it was a single row that was lost: that may not happen again."""
        if self._lost <= 1:
            return False
        await pause_by_lot(2 ** (self._lost - 2))
        return True

"""Who pops from one history in one event loop does so in turn, so as not to hinder the others.

It is a courtesy: what a pop may remove is decided by the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..stores.rows import Row, RowStore

__all__ = ["Turn", "turn_of"]

#: How long one waits for the others, who may wait for a store that does not answer.
_LONGEST_WAIT_S = 0.5

#: For how long it is worth a try to remove what was told to be the newest row, without another look.
_WORTH_A_TRY_S = 1.0


class Turn:
    """What they share: one at a time, and the newest row, where an answer of the store told it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._newest: tuple[Row | None, float] = (None, 0.0)

    def note(self, newest: Row | None) -> None:
        """The newest row, as an answer of the store told it; None where none has."""
        self._newest = (newest, time.monotonic())

    def newest(self) -> Row | None:
        """The newest row, unless that is long ago; told once."""
        (row, told_at), self._newest = self._newest, (None, 0.0)
        return row if time.monotonic() - told_at < _WORTH_A_TRY_S else None

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for one's turn, but not for long."""
        if not self._lock.locked():
            async with self._lock:
                yield
            return
        waiting = asyncio.ensure_future(self._lock.acquire())
        try:
            await asyncio.wait({waiting}, timeout=_LONGEST_WAIT_S)
            yield
        finally:
            if waiting.done() and not waiting.cancelled():
                self._lock.release()
            waiting.cancel()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, Turn]] = WeakKeyDictionary()
_last_of: WeakKeyDictionary[object, Turn] = WeakKeyDictionary()  # so that it is there for the next pop


def turn_of(history: object, rows: RowStore) -> Turn:
    """The turn of a history whose rows these are, in the running loop."""
    turns = _turns.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    turn = turns.get(place := rows.place())
    if turn is None:
        turn = turns[place] = Turn()
    _last_of[history] = turn
    return turn

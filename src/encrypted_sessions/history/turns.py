"""Who pops from one history in one event loop does so in turn, so as not to hinder the others.

It is a courtesy: what a pop may remove is decided by the store.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
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
        self._is_taken = False
        self._waiting: deque[asyncio.Future[bool]] = deque()
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
        is_mine = await self._comes() if self._is_taken else True
        self._is_taken = True
        try:
            yield
        finally:
            if is_mine:
                self._pass_on()

    async def _comes(self) -> bool:
        """Whether one's turn has come after the wait. An `asyncio.Lock` would have to be waited for in a task."""
        loop = asyncio.get_running_loop()
        comes: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(comes)
        timer = loop.call_later(_LONGEST_WAIT_S, _end_waiting, comes)
        try:
            return await comes
        except asyncio.CancelledError:
            if not comes.cancelled() and comes.result():  # it came in this moment
                self._pass_on()
            raise
        finally:
            timer.cancel()

    def _pass_on(self) -> None:
        while self._waiting:
            comes = self._waiting.popleft()
            if not comes.done():
                comes.set_result(True)
                return
        self._is_taken = False


def _end_waiting(comes: asyncio.Future[bool]) -> None:
    if not comes.done():
        comes.set_result(False)


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

"""Who pops from one history in one event loop does so in turn, so as not to hinder the others.

Whoever has the turn reads a row for each who waits, and removes all of these rows in one step. It is a courtesy: what
a pop may remove is decided by the store.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import takewhile
from types import TracebackType
from typing import Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from .._support.deadlines import deadlines
from ..stores.rows import Row, RowStore
from .contention import Contention

__all__ = ["Along", "Turn", "turn_of"]

#: How long one waits for the others, who may wait for a store that does not answer.
_LONGEST_WAIT_S = 0.5

#: For how long it is worth a try to remove what was told to be the newest row, without another look.
_WORTH_A_TRY_S = 1.0


class Along:
    """A part in another's removal: the row that one gets with it, and how it ended."""

    __slots__ = ("ended", "is_coming", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.is_coming = False
        """Whether whoever was let along has looked at the row, and wants it."""
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether the row was removed, or what the store raised."""


class Turn:
    """What they share: one at a time, and the newest rows, where an answer of the store told them."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = None if loop is None else ref(loop)
        self._inside = 0
        self._waiting: deque[tuple[asyncio.Future[Along | bool], bool]] = deque()  # and whether for a turn alone
        self._newest: tuple[Sequence[Row], float] = ((), 0.0)
        self.contention = Contention()
        self._along: list[Along] = []  # those who have not left, newest first

    def note(self, newest: Sequence[Row]) -> None:
        """The newest rows, as an answer of the store told them; none where none has."""
        self._newest = (newest, time.monotonic())

    def newest(self) -> Sequence[Row]:
        """The newest rows, unless that is long ago; told once."""
        (rows, told_at), self._newest = self._newest, ((), 0.0)
        return rows if time.monotonic() - told_at < _WORTH_A_TRY_S else ()

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is this loop's."""
        return self._loop is not None and self._loop() is loop

    def waiting(self) -> int:
        """How many wait, or did until now."""
        return len(self._waiting)

    def taken(self, *, alone: bool = False) -> _Taken:
        """Wait for one's turn in an `async with`, but not for long. It gives a part in another's removal, if any.

        `alone` is for who could not go along: it has a turn to itself, and nobody goes along past it.
        """
        return _Taken(self, alone=alone)

    def come_at_once(self) -> bool:
        """Whether nobody had the turn, and it is one's own now."""
        if self._inside:
            return False
        self._inside = 1
        return True

    async def come(self, *, alone: bool) -> Along | bool:
        """Wait; whether one's turn has come, or a part in another's removal.

        An `asyncio.Lock` would have to be waited for in a task.
        """
        comes: asyncio.Future[Along | bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((comes, alone))

        def end() -> None:
            if not comes.done():
                comes.set_result(False)

        limits = deadlines()
        limits.add(end, _LONGEST_WAIT_S)
        try:
            return await comes
        except asyncio.CancelledError:
            if not comes.cancelled() and (came := comes.result()):  # it came in this moment
                self.leave(came)
            raise
        finally:
            limits.remove(end)
            while self._waiting and self._waiting[0][0].done():  # who went without a turn, or was cancelled
                self._waiting.popleft()

    async def go_along(self, rows: Iterable[Row]) -> list[Along]:
        """Let those who wait go along with whoever has the turn, each with the next of these rows; who comes.

        They look at their rows meanwhile. Nobody waits for one whose key is not there, and those after it do not come:
        what is removed lies at the end.
        """
        invited: list[Along] = []
        for row in rows:
            along = Along(row)
            if not self._next(along):
                break
            self._along.append(along)
            invited.append(along)
        coming: list[Along] = []
        if invited:
            try:
                await asyncio.sleep(0)
                coming = list(takewhile(lambda along: along.is_coming, invited))
            finally:
                for along in invited[len(coming) :]:
                    along.ended.set_result(False)
        return coming

    async def older_have_left(self, along: Along | None) -> None:
        """Wait, but not for long, until nobody is on the way with an older row: what is put back lies in order then."""
        until = time.monotonic() + _LONGEST_WAIT_S
        while self._along and self._along[-1] is not along and time.monotonic() < until:  # noqa: ASYNC110 - rare, and short
            await asyncio.sleep(0.002)

    def has_left(self, along: Along | None) -> None:
        """Whoever went along has its item, or nothing, or has put it back."""
        self._along = [other for other in self._along if other is not along]

    def leave(self, came: Along | bool = True) -> None:  # noqa: FBT001, FBT002 - as `come` has it
        """End one's turn, or one's way along with another's. The last one passes the turn on."""
        self._inside -= 1
        if not isinstance(came, bool):
            if came.is_coming and not came.ended.done():  # given up: what it takes too late is put back
                came.ended.add_done_callback(lambda ended: None if _is_removed(ended) else self.has_left(came))
            else:
                self.has_left(came)
        if not self._inside:
            self._next(True)  # noqa: FBT003 - as `come` has it

    def _next(self, what: Along | bool) -> bool:  # noqa: FBT001 - likewise
        """Whether somebody waits, and comes in now."""
        while self._waiting:
            comes, alone = self._waiting[0]
            if alone and what is not True and not comes.done():
                return False
            self._waiting.popleft()
            if not comes.done():
                self._inside += 1
                comes.set_result(what)
                return True
        return False


def _is_removed(ended: asyncio.Future[bool]) -> bool:
    return not ended.cancelled() and ended.exception() is None and ended.result()


class _Taken:
    """A turn, from when it comes to its end."""

    __slots__ = ("_alone", "_came", "_turn")

    def __init__(self, turn: Turn, *, alone: bool) -> None:
        self._turn = turn
        self._alone = alone
        self._came: Along | bool = False

    async def __aenter__(self) -> Along | None:
        self._came = came = self._turn.come_at_once() or await self._turn.come(alone=self._alone)
        return None if isinstance(came, bool) else came

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._came:
            self._turn.leave(self._came)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, Turn]] = WeakKeyDictionary()


class _Popped(Protocol):
    """A history, and the turn of its last pop: kept so that it is there for the next one."""

    last_turn: Turn | None


def turn_of(history: _Popped, rows: RowStore) -> Turn:
    """The turn of a history whose rows these are, in the running loop."""
    loop = asyncio.get_running_loop()
    last = history.last_turn
    if last is not None and last.is_of(loop):
        return last
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = WeakValueDictionary()
    turn = turns.get(place := rows.place())
    if turn is None:
        turn = turns[place] = Turn(loop)
    history.last_turn = turn
    return turn

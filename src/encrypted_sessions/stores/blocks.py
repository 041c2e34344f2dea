"""A store whose messages are a table: cut into blocks by its primary key."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from .whole import Block, StoredRow, WholeStore

__all__ = ["HIGHEST", "LOWEST", "SIZE", "Extent", "Look", "TableStore", "blocks_of_ids"]

#: The most rows in a block. What two runs at once do twice is a block that both have chosen.
SIZE = 500
#: Into how many pieces a part is cut.
_PIECES = 8
LOWEST, HIGHEST = -(2**63), 2**63 - 1


class Extent(NamedTuple):
    """What there is from one id to another: the lowest, the highest, and how many, as far as SIZE + 1."""

    first: int
    last: int
    rows: int


#: Looks from one id to another, both included.
Look = Callable[[int, int], Awaitable[Extent | None]]


async def blocks_of_ids(look: Look) -> AsyncIterator[Block]:
    """Ranges of ids that cover a table: cut up until they are small enough, the pieces in an order drawn by lot.

    Two runs at once that come to the same part go separate ways in it at every second halving, and meet
    again where both halves are done. Long gaps between ids cost little, and memory does not grow with
    the table.
    """
    whole = await look(LOWEST, HIGHEST)
    parts = [] if whole is None else [(whole.first, whole.last)]
    while parts:
        first, last = parts.pop()
        if last - first < SIZE:
            yield Block(first, last)
        elif found := await look(first, last):
            first, last, rows = found
            if rows <= SIZE:
                yield Block(first, last)
                continue
            width = ((last - first) // _PIECES // SIZE + 1) * SIZE  # so that ids without gaps make full blocks
            pieces = [(start, min(start + width - 1, last)) for start in range(first, last + 1, width)]
            parts += _by_lot(pieces)
    if whole is None:
        yield Block(LOWEST, HIGHEST)
    elif whole.last < HIGHEST:
        yield Block(whole.last + 1, HIGHEST)


def _by_lot(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same, either half first, and so in each half."""
    if len(pieces) < 2:
        return pieces
    halves = [_by_lot(pieces[: len(pieces) // 2]), _by_lot(pieces[len(pieces) // 2 :])]
    first = secrets.randbits(1)
    return halves[first] + halves[1 - first]


class TableStore(WholeStore):
    """Rows by an integer primary key."""

    # Of the sessions that are being read, the ids of the rows that they had when that was begun.
    _part: tuple[Sequence[str] | None, list[int]] = (None, [])

    def blocks(self) -> AsyncIterator[Block]:
        """As `WholeStore.blocks`."""
        return blocks_of_ids(self._look)

    async def rows(self, block: Block, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.rows`."""
        first = block.first if after is None else after.id + 1
        # Above the highest id there is no other, and no number for it.
        return [] if after is not None and after.id >= block.last else await self._between(first, block.last, count)

    async def rows_of_sessions(
        self, session_ids: Sequence[str], after: StoredRow | None, count: int
    ) -> list[StoredRow]:
        """As `WholeStore.rows_of_sessions`: first the ids of their rows, then the rows by id."""
        if after is None or self._part[0] is not session_ids:
            self._part = (session_ids, await self._ids_of(session_ids))
        ids = self._part[1]
        start, step = 0 if after is None else bisect_right(ids, after.id), min(count, SIZE)
        for first in range(start, len(ids), step):
            if rows := await self._with_ids(ids[first : first + step], session_ids):
                return rows
        return []

    @abstractmethod
    async def _ids_of(self, session_ids: Sequence[str]) -> list[int]:
        """The ids of all rows of these sessions, in their order."""

    @abstractmethod
    async def _with_ids(self, ids: Sequence[int], session_ids: Sequence[str]) -> list[StoredRow]:
        """The rows with these ids that are still of these sessions, by id."""

    @abstractmethod
    async def _look(self, first: int, last: int) -> Extent | None:
        """What there is from one id to another, both included."""

    @abstractmethod
    async def _between(self, first: int, last: int, count: int) -> list[StoredRow]:
        """The rows from one id to another, both included, up to `count`, by id."""

"""A whole store in memory, whose every call a test can make fail or wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from typing_extensions import Self

from encrypted_sessions.stores.whole import Block, StoredRow, WholeStore

_BLOCK = 100


class MemoryStore(WholeStore):
    """Rows by number, of one session unless others are appended.

    `before` is awaited with the name of each call, before it happens.
    """

    location = "a store in memory"

    def __init__(self, session_id: str, rows: Sequence[str]) -> None:
        self.session_id = session_id
        self.data: dict[int, bytes] = {number: row.encode() for number, row in enumerate(rows)}
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self.checkpointed = 0
        self._others: dict[int, str] = {}
        self._needs_opening = False

    def again(self) -> Self:
        """Another object over the same rows, which has to be entered before it is used."""
        other = type(self)(self.session_id, [])
        other.data, other._others, other._needs_opening = self.data, self._others, True
        return other

    def append(self, session_id: str, rows: Sequence[str]) -> None:
        for row in rows:
            number = max(self.data, default=-1) + 1
            self.data[number] = row.encode()
            self._others[number] = session_id

    def session_of(self, number: int) -> str:
        return self._others.get(number, self.session_id)

    async def open(self) -> None:
        self._needs_opening = False

    async def aclose(self) -> None:
        self._needs_opening = True

    async def count(self) -> int:
        await self.before("count")
        if self._needs_opening:
            raise RuntimeError("the store is not open; use it in 'async with'")
        return len(self.data)

    async def blocks(self) -> AsyncIterator[Block]:
        await self.before("blocks")
        for first in range(0, max(self.data, default=-1) + 1, _BLOCK):
            yield Block(first, first + _BLOCK - 1)

    async def rows(self, block: Block, after: StoredRow | None, count: int) -> list[StoredRow]:
        await self.before("rows")
        first = block.first if after is None else after.id + 1
        found = [number for number in self.data if first <= number <= block.last][:count]
        return list(map(self._stored, found))

    async def rows_unless(self, block: Block, openings: Sequence[str], count: int) -> list[StoredRow] | int:
        rows = await self.rows(block, None, count)
        begin = tuple(opening.encode() for opening in openings)
        all_of_them = [data for number, data in self.data.items() if block.first <= number <= block.last]
        return len(all_of_them) if rows and all(data.startswith(begin) for data in all_of_them) else rows

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        first = 0 if after is None else after.id + 1
        mine = [number for number in self.data if number >= first and self.session_of(number) == session_id]
        return list(map(self._stored, mine[:count]))

    def _stored(self, number: int) -> StoredRow:
        return StoredRow(number, self.session_of(number), self.data[number], None)

    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        await self.before("replace")
        done = [self.data.get(row.id) == row.data for row, _ in changes]
        self.data.update({row.id: new.encode() for (row, new), same in zip(changes, done, strict=True) if same})
        return done

    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        await self.before("remove")
        done = [self.data.get(row.id) == row.data for row in rows]
        for row, same in zip(rows, done, strict=True):
            if same:
                del self.data[row.id]
        return done

    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        await self.before("erase")
        gone = [number for number in self.data if self.session_of(number) in session_ids]
        if not dry_run:
            for number in gone:
                del self.data[number]
        return {"rows": len(gone)}

    async def checkpoint(self) -> Sequence[str]:
        await self.before("checkpoint")
        self.checkpointed += 1
        return ()


async def _nothing(_: str) -> None:
    pass

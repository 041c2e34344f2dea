"""What was decided about rows, written in batches: each row only if it is as it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from .._support.shielding import shield
from ..stores.whole import Block, StoredRow, WholeStore
from .operation import Defer, Operation, Remove

#: A row can be megabytes: so many bytes are held until they are written.
MOST_BYTES = 4 * 2**20


class Change(NamedTuple):
    """What was decided about a row."""

    block: Block
    row: StoredRow
    outcome: str
    change: str | Remove | Defer


class BatchWriter:
    """Writes while the walk goes on: one batch under way, and the next one gathered.

    `ask` makes a call of the store, and again if it does not answer.
    """

    def __init__(
        self,
        store: WholeStore,
        task: Operation,
        ask: Callable[[Callable[[], Awaitable[list[bool]]]], Awaitable[list[bool]]],
        *,
        batch: int,
        dry_run: bool,
    ) -> None:
        self._store = store
        self._task = task
        self._ask = ask
        self._dry_run = dry_run
        self.batch = batch
        """The most rows in one call."""
        self.begun = 0
        """Rows of which it was decided that they are to be changed, less those that were lost."""
        self.changed_of: dict[str, int] = {}
        """Rows that were changed, by what they were; in a dry run, that would have been."""
        self._pending: list[Change] = []
        self._pending_bytes = 0
        self.lost_rows = 0
        """Rows that somebody else changed first, since the last `take_lost`."""
        self._lost: list[Block] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, change: Change) -> None:
        """Have a row changed with the next batch."""
        self.begun += 1
        self._pending.append(change)
        self._pending_bytes += len(change.row.data)

    @property
    def is_due(self) -> bool:
        """Whether what was gathered makes a batch."""
        return len(self._pending) >= self.batch or self._pending_bytes > MOST_BYTES

    def take_lost(self) -> list[Block]:
        """The blocks in which somebody else was faster, to be walked once more."""
        lost, self._lost, self.lost_rows = self._lost, [], 0
        return lost

    async def write(self) -> None:
        """Begin to write what is pending, once the write before has ended."""
        await self.written()
        if self._pending:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            self._writing = asyncio.ensure_future(self._write_out(pending))
            if not self._store.overlaps:
                await self.written()

    async def written(self) -> None:
        """Wait for the write under way, also when this task is cancelled meanwhile."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await shield(writing)

    async def _write_out(self, pending: list[Change]) -> None:
        batch = self.batch
        for start in range(0, len(pending), batch):
            changes = pending[start : start + batch]
            if self._dry_run:
                done = [True] * len(changes)
            else:
                await self._task.before_writing([change.row for change in changes])
                done = await self._ask(partial(self._change, changes))
            for change, was_done in zip(changes, done, strict=True):
                if was_done:
                    self.changed_of[change.outcome] = self.changed_of.get(change.outcome, 0) + 1
                    continue
                self.begun -= 1
                self.lost_rows += 1
                if change.block not in self._lost[-1:]:
                    self._lost.append(change.block)

    async def _change(self, changes: Sequence[Change]) -> list[bool]:
        # A command removes or replaces, and none does both.
        if isinstance(changes[0].change, Remove):
            return await self._store.remove([change.row for change in changes])
        return await self._store.replace([(row, data) for _, row, _, data in changes if isinstance(data, str)])

"""What was decided about rows, written in batches: each row only if it is as it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

from .._support.shielding import shield
from ..stores.whole import Block, StoredRow
from .operation import REMOVE, Action, Operation
from .run import MOST_BYTES, Run

__all__ = ["BatchWriter", "Change"]


class Change(NamedTuple):
    """What was decided about a row."""

    block: Block
    row: StoredRow
    counts_as: Hashable
    becomes: str | Action


class BatchWriter:
    """Writes while rows are read: one batch under way, and the next one gathered."""

    def __init__(self, run: Run, operation: Operation) -> None:
        self._run = run
        self._operation = operation
        self._pending: list[Change] = []
        self._pending_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._conflicts: list[Block] = []
        self.conflicting_rows = 0
        """Rows that somebody else changed first, since the last `take_conflicts`."""

    def add(self, change: Change) -> None:
        """Have a row changed with the next batch."""
        self._run.scheduled += 1
        self._pending.append(change)
        self._pending_bytes += len(change.row.data)

    @property
    def is_due(self) -> bool:
        """Whether what was gathered makes a batch."""
        return len(self._pending) >= self._run.batch or self._pending_bytes > MOST_BYTES

    def take_conflicts(self) -> list[Block]:
        """The blocks in which somebody else was faster, to be visited once more."""
        blocks, self._conflicts, self.conflicting_rows = self._conflicts, [], 0
        return blocks

    async def write(self) -> None:
        """Begin to write what is pending, once the write before has ended."""
        await self.finish()
        if self._pending:
            is_large = self._pending_bytes > MOST_BYTES
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            self._writing = asyncio.ensure_future(self._write_out(pending))
            del pending  # large rows go as soon as they are written
            if is_large or not self._run.store.overlaps:
                await self.finish()

    async def finish(self) -> None:
        """Wait for the write under way, also when this task is cancelled meanwhile."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await shield(writing)

    async def _write_out(self, pending: list[Change]) -> None:
        run = self._run
        batch = run.batch
        for start in range(0, len(pending), batch):
            changes = pending[start : start + batch]
            if run.settings.dry_run:
                done = [True] * len(changes)
            else:
                await self._operation.before_writing([change.row for change in changes])
                done = await run.call(partial(self._change, changes))
            for change, was_done in zip(changes, done, strict=True):
                if was_done:
                    run.changed_of[change.counts_as] += 1
                    continue
                run.scheduled -= 1
                self.conflicting_rows += 1
                if change.block not in self._conflicts[-1:]:
                    self._conflicts.append(change.block)

    async def _change(self, changes: Sequence[Change]) -> list[bool]:
        # A command removes or replaces, and none does both.
        if changes[0].becomes is REMOVE:
            return await self._run.store.remove([change.row for change in changes])
        return await self._run.store.replace([(row, data) for _, row, _, data in changes if isinstance(data, str)])

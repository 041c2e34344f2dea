"""A whole store, row by row: read, classify, change, in small batches while agents go on.

While one page of rows is classified, the store writes the changes of the page before and reads the next.
What was read and classified is written only where it still lies as it was read; a block in which
somebody else was faster is visited once more at the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing

from keyproviders import KeyProviderError

from ..core.kids import shown_kid
from ..errors import StoreUnavailableError
from ..history.classified import GROUP, Classifier, ReadPolicy
from ..history.results import Classification
from ..stores.whole import HAS_NULL, Block, StoredRow
from .batch_writer import BatchWriter, Change
from .classified_row import ClassifiedRow
from .interruption import InterruptedRunError, wait
from .keys import NOT_OPENED
from .labels import LabelReader
from .operation import DEFER, REMOVE, Operation
from .page_reader import PageReader, Unread
from .progress import Ticker
from .realms import RealmError
from .replicas import ReplicaWatch
from .run import MOST_BYTES, STAYS_DONE, Run
from .store_calls import checkpoint_store

__all__ = ["Engine"]

#: How often a block is visited again because others changed rows in it first, with how much smaller batches,
#: and after how many seconds, each time twice as many: time for them to get on.
_REVISITS = 8
_SMALLER = 10
_REVISIT_AFTER_S, _REVISIT_AFTER_AT_MOST_S = 0.05, 1.0

#: What was deferred is decided when so many rows were looked at since the last time.
_DEFERRED_FOR_ROWS = 5_000

_GOES_ON = f"{STAYS_DONE}, and the next run continues from there"


class Engine:
    """Takes one operation through the whole store of its run."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._run: Run = operation.run
        run = self._run
        self._only = run.kid_filter
        self._classify: Callable[[Sequence[StoredRow]], Awaitable[list[ClassifiedRow]]]
        if run.keys is None:
            self._classify = LabelReader(run.time_slice).classify
        else:
            self._classifier = Classifier(run.keys, self._policy, run.time_slice, opens=operation.looks_inside)
            self._classify = self._open
        self._reader = PageReader(self._run, operation)
        self._writer = BatchWriter(self._run, operation)
        self._replicas = ReplicaWatch(self._run) if operation.concerns_replicas else None
        self._deferred: list[Change] = []
        self._deferred_bytes = self._rows_since_release = 0

    async def execute(self) -> None:
        """Go through the whole store, or up to where the run has to end. Raises what nobody expects."""
        run = self._run
        try:
            await self._go_through_store()
        except InterruptedRunError:
            run.end("interrupted", f"it was asked to stop; {_GOES_ON}")
        except (KeyProviderError, RealmError, StoreUnavailableError) as error:
            run.end_by(error, _GOES_ON)
        if self._writer.conflicting_rows:
            run.left["changed_meanwhile"] = self._writer.conflicting_rows
        if run.keys is not None:
            for kid, refusal in run.keys.refusals.items():
                run.notice(f"the key {shown_kid(kid)}: {refusal}")
        if self._operation.changes and not run.settings.dry_run:
            # Also when nothing was changed: a run before may have been killed, or kept from it by readers.
            run.incomplete = await checkpoint_store(run.store)
        run.was_through = run.stopped is None
        if self._replicas is not None:
            await self._replicas.wait()

    async def _go_through_store(self) -> None:
        run = self._run
        if self._replicas is not None:
            await self._replicas.begin()
        if self._operation.changes:
            await run.refuse_side_effects()
        await self._operation.begin_page()  # what cannot work at all shall say so at once, whatever the store holds
        only = run.settings.only
        if only is not None and (notice := only.notice()):
            run.notice(notice)
        # Of some sessions nobody knows how many rows they have.
        ticker = Ticker(run.settings.progress, await run.call(run.store.count) if only is None else 0)
        try:
            await self._go_through(self._reader.blocks(), ticker)
            run.first_pass = False
            for number in range(_REVISITS):
                if self._writer.conflicting_rows and not run.stopped:
                    run.batch = max(1, run.settings.batch // _SMALLER ** min(number + 1, 2))
                    # At once the first time: mostly another run of the same kind was there, and all is done.
                    wait_s = min(_REVISIT_AFTER_S * 2**number, _REVISIT_AFTER_AT_MOST_S) if number else 0.0
                    await wait(wait_s, run.settings.stop)
                    await self._go_through(_each(self._writer.take_conflicts()), ticker)
        finally:
            ticker.tick(run.seen, run.changed, end=True)

    async def _go_through(self, blocks: AsyncGenerator[Block, None], ticker: Ticker) -> None:
        try:
            await self._go_through_pages(blocks, ticker)
            await self._release_deferred()
            await self._writer.write()
        except (InterruptedRunError, KeyProviderError, RealmError):
            await self._writer.write()  # the current batch
            raise
        finally:
            await self._writer.finish()

    async def _go_through_pages(self, blocks: AsyncGenerator[Block, None], ticker: Ticker) -> None:
        run = self._run
        async with aclosing(self._reader.pages(blocks)) as pages:
            async for block, rows in pages:
                run.raise_if_interrupted()
                if isinstance(rows, Unread):
                    await self._skip(block, rows)
                else:
                    await self._work_on(block, rows)
                if self._writer.is_due:
                    await self._writer.write()
                ticker.tick(run.seen, run.changed)
                if run.stopped:
                    return

    # Classifying and deciding.

    async def _skip(self, block: Block, unread: Unread) -> None:
        await self._operation.begin_page()
        if self._operation.skipped_openings() != unread.openings:  # another key became active since
            async with aclosing(self._reader.pages_of(block)) as pages:
                async for rows in pages:
                    assert not isinstance(rows, Unread)  # noqa: S101 - without openings every row is read
                    await self._work_on(block, rows)
        else:
            self._run.count("not_opened", unread.rows)
            self._operation.skipped_unread(unread.rows)

    async def _work_on(self, block: Block, rows: list[StoredRow]) -> None:
        run, time_slice = self._run, self._run.time_slice
        await self._operation.begin_page()
        looked_at = self._rows_to_open(block, rows)
        if run.keys is not None:
            run.keys.begin_page(looked_at)
        for start in range(0, len(looked_at), GROUP):
            group = looked_at[start : start + GROUP]
            for classified in await self._classify(group):
                if not self._decide(block, classified):
                    return
                if time_slice.is_used_up():
                    await time_slice.checkpoint()
        self._rows_since_release += len(rows)
        if self._rows_since_release >= _DEFERRED_FOR_ROWS or self._deferred_bytes > MOST_BYTES:
            await self._release_deferred()

    def _rows_to_open(self, block: Block, rows: Sequence[StoredRow]) -> list[StoredRow]:
        """Those of the rows that there is a reason to open; the others are counted, and decided on."""
        to_open = []
        most, skips = self._run.settings.max_row_bytes, self._operation.skips
        only = self._only
        for row in rows:
            if row.unread is not None or len(row.data) > most:
                outcome = "malformed" if row.unread == HAS_NULL else "too_large"
                if not self._decide(block, ClassifiedRow(row, outcome)):
                    return []
            elif skips(row):
                self._run.count("not_opened")
            elif only is not None and (other := only.other_kid(row.data)) is not None:
                self._pass_over(other)
            else:
                to_open.append(row)
        return to_open

    def _decide(self, block: Block, classified: ClassifiedRow) -> bool:
        """Count a row and do with it what the operation says, unless that were more than the limit."""
        only, kid = self._only, classified.kid
        if only is not None and kid is not None and not only.takes(kid):  # a text that begins as if it named another
            self._pass_over(kid)
            return True
        self._run.count(classified.outcome)
        change = self._operation.decide(classified)
        if change is None:
            return True
        return self._schedule(Change(block, classified.row, self._operation.counted_as(classified), change))

    def _pass_over(self, kid: str) -> None:
        self._run.count("not_opened")
        self._run.pass_over(kid)

    def _policy(self) -> ReadPolicy:
        settings = self._run.settings
        return ReadPolicy(
            self._run.refresh_now(), settings.ttl, read_plaintext=True, upstream_until=settings.upstream_until
        )

    async def _open(self, rows: Sequence[StoredRow]) -> list[ClassifiedRow]:
        found = await self._classifier.classify(rows)
        return [self._classified(row, one) for row, one in zip(rows, found, strict=True)]

    def _classified(self, row: StoredRow, found: Classification) -> ClassifiedRow:
        outcome, envelope = found.outcome, found.envelope
        if envelope is None:
            return ClassifiedRow(row, outcome, item=found.item)
        if outcome not in NOT_OPENED:
            opener = envelope.verified_by
            return ClassifiedRow(row, outcome, envelope.kid, envelope.timestamp, None, envelope, opener)
        classified = ClassifiedRow(row, "not_opened", envelope.kid, envelope.timestamp, None, envelope)
        if outcome != "not_opened":
            self._run.leave(outcome, classified)
        return classified

    async def _release_deferred(self) -> None:
        """What becomes of the rows that were deferred. Few are held, so that memory does not grow."""
        deferred, self._deferred = self._deferred, []
        self._deferred_bytes = self._rows_since_release = 0
        if not self._run.stopped:
            for index in await self._operation.release_deferred([change.row for change in deferred]):
                if not self._schedule(deferred[index]._replace(becomes=REMOVE)):
                    return

    def _schedule(self, change: Change) -> bool:
        """Have a row changed, now or later, unless that were more than the limit."""
        run = self._run
        if change.becomes is DEFER:
            self._deferred.append(change)
            self._deferred_bytes += len(change.row.data)
            return True
        if run.scheduled == run.settings.limit:
            run.end("limit", f"{run.scheduled} rows were changed, as many as limit= allows; there are more")
            return False
        if run.scheduled == run.most_changes:
            run.end(
                "limit", f"{run.scheduled} rows were changed, as many as there were at the start: more were added since"
            )
            return False
        self._writer.add(change)
        return True


async def _each(blocks: Iterable[Block]) -> AsyncGenerator[Block, None]:
    for block in blocks:
        yield block

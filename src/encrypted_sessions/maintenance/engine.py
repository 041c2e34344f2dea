"""A whole store, row by row: read, classify, change, in small batches while agents go on.

While one page of rows is classified, the store writes the changes of the page before and reads the next.
What was read and classified is written only where it still lies as it was read; a block in which
somebody else was faster is walked once more at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from keyproviders import KeyProviderError, ProviderConfigError

from .._support.shielding import shield
from ..core.envelope import Envelope, parse_row
from ..core.outcomes import MAX_FINDINGS, shown_kid
from ..errors import StoreError, StoreUnavailableError
from ..history.reading import CLOCK_SKEW_S, ReadPolicy, TimeSlice, classify_envelope, open_envelope
from ..stores.whole import Block, StoredRow, WholeStore
from .batch_writer import MOST_BYTES, BatchWriter, Change
from .keys import InterruptedRunError, StoreKeys, wait
from .operation import REMOVE, ClassifiedRow, Defer, Operation
from .progress import Progress, Ticker
from .reports import RowFinding, Stopped

if TYPE_CHECKING:
    from keyproviders import KeyRing

#: How often a block is walked again because others changed rows in it first, with how much smaller batches,
#: and after how many seconds, each time twice as many: time for them to get on.
_AGAIN = 8
_SMALLER = 10
_AGAIN_AFTER_S, _AGAIN_AT_MOST_S = 0.05, 1.0

#: So many rows are read first, and then as many as make MOST_BYTES together.
_FIRST_PAGE = 8

#: What was put off is decided when so many rows were looked at since the last time.
_PUT_OFF_FOR = 5_000

#: Seconds between tries when the store does not answer.
_STORE_WAITS_S = (0.2, 0.5, 1.0, 2.0)

STAYS_DONE = "what was done so far stays done"
_GOES_ON = f"{STAYS_DONE}, and the next run goes on from there"

_T = TypeVar("_T")


def _now() -> float:
    """The wall clock, seconds since 1970."""
    return time.time()


class Settings(NamedTuple):
    """What is the same for every row of a run."""

    ttl: int | None
    upstream_key: str | None
    batch: int
    limit: int | None
    dry_run: bool
    progress: Callable[[Progress], object] | None
    stop: Callable[[], bool]

    def __repr__(self) -> str:
        return "Settings()"  # one of them is a secret


class _Passed(NamedTuple):
    """So many rows of a block all begin with one of these, and were not read."""

    openings: tuple[str, ...]
    rows: int


class Engine:
    """One run of one command over a store."""

    def __init__(self, store: WholeStore, ring: KeyRing | None, settings: Settings, task: Operation) -> None:
        self._store = store
        self._settings = settings
        self._task = task
        task.run = self
        self.keys = None if ring is None else StoreKeys(ring, settings.upstream_key, settings.stop)
        self.now = int(_now())
        self.found: dict[str, int] = {}
        self.left: dict[str, int] = {}
        self.findings: list[RowFinding] = []
        self.notices: list[str] = []
        self.stopped: Stopped | None = None
        self.stopped_because: str | None = None
        self._incomplete: tuple[str, ...] = ()
        self._started_at = _now()
        self._began = time.monotonic()
        self._time_slice = TimeSlice()
        self._using_store = asyncio.Lock()  # one call at a time
        self.first_time = True
        """False when blocks are walked again: rows of theirs have been counted."""
        self._writer = BatchWriter(store, task, self.ask, batch=settings.batch, dry_run=settings.dry_run)
        self._page = min(_FIRST_PAGE, settings.batch)
        self._put_off: list[Change] = []
        self._put_off_bytes = self._rows_since = 0

    # What tasks say.

    @property
    def changed(self) -> int:
        """Rows that were replaced or removed; in a dry run, that would have been."""
        return sum(self._writer.changed_of.values())

    @property
    def changed_of(self) -> Mapping[str, int]:
        """The same by what they were."""
        return self._writer.changed_of

    @property
    def begun(self) -> int:
        """Rows of which it was decided that they are to be changed."""
        return self._writer.begun

    def correct(self, classified: ClassifiedRow, outcome: str) -> ClassifiedRow:
        """A row that turned out to be something else than it was counted as."""
        if self.first_time:
            self.found[classified.outcome] -= 1
            if not self.found[classified.outcome]:
                del self.found[classified.outcome]
            self._count(outcome)
        return classified._replace(outcome=outcome)

    def leave(self, reason: str, classified: ClassifiedRow) -> None:
        """Count a row that is left although it should not be, and name it among the findings."""
        if self.first_time:
            self.left[reason] = self.left.get(reason, 0) + 1
            if len(self.findings) < MAX_FINDINGS:
                row = classified.row
                self.findings.append(
                    RowFinding(row.session_id, _in_words(row.id), classified.outcome, shown_kid(classified.kid))
                )

    def notice(self, sentence: str) -> None:
        """Tell whoever runs this something, once."""
        if sentence not in self.notices and len(self.notices) < MAX_FINDINGS:
            self.notices.append(sentence)

    # The run.

    async def go(self) -> None:
        """Walk through the whole store, or up to where it has to stop. Raises what nobody expects."""
        try:
            await self._go()
        except InterruptedRunError:
            self._stop("interrupted", f"it was told to stop; {_GOES_ON}")
        except KeyProviderError as error:
            if isinstance(error, ProviderConfigError) and not self.found:
                raise
            self._stop("provider", f"{error}; {_GOES_ON}")
        except StoreUnavailableError as error:
            self._stop("store", f"{error}; {_GOES_ON}")
        if self._writer.lost_rows:
            self.left["changed_meanwhile"] = self._writer.lost_rows
        if self.keys is not None:
            for kid, refusal in self.keys.refusals.items():
                self.notice(f"the key {shown_kid(kid)}: {refusal}")
        if self._task.changes and not self._settings.dry_run:
            # Also when nothing was changed: a run before may have been killed, or kept from it by readers.
            self._incomplete = await checkpointed(self._store)

    def told(self) -> dict[str, Any]:
        """What every report has."""
        return {
            "store": self._store.place,
            "found": self.found,
            "changed": self.changed,
            "left": self.left,
            "stopped": self.stopped,
            "stopped_because": self.stopped_because,
            "findings": tuple(self.findings),
            "notices": tuple(self.notices),
            "incomplete": self._incomplete,
            "started_at": self._started_at,
            "took_s": time.monotonic() - self._began,
            "dry_run": self._settings.dry_run,
        }

    async def _go(self) -> None:
        await self._task.begin_page()  # what cannot work at all shall say so at once, whatever the store holds
        ticker = Ticker(self._settings.progress, await self.ask(self._store.count))
        try:
            await self._walk(self._blocks(), ticker)
            self.first_time = False
            for number in range(_AGAIN):
                if self._writer.lost_rows and not self.stopped:
                    self._writer.batch = max(1, self._settings.batch // _SMALLER ** min(number + 1, 2))
                    # At once the first time: mostly another run of the same kind was there, and all is done.
                    wait_s = min(_AGAIN_AFTER_S * 2**number, _AGAIN_AT_MOST_S) if number else 0.0
                    await wait(wait_s, self._settings.stop)
                    await self._walk(_each(self._writer.take_lost()), ticker)
        finally:
            ticker.tick(sum(self.found.values()), self.changed, end=True)

    async def _walk(self, blocks: AsyncGenerator[Block, None], ticker: Ticker) -> None:
        try:
            await self._walk_pages(blocks, ticker)
            await self._decide()
            await self._writer.write()
        except (InterruptedRunError, KeyProviderError):
            await self._writer.write()  # the current batch
            raise
        finally:
            await self._writer.written()

    async def _walk_pages(self, blocks: AsyncGenerator[Block, None], ticker: Ticker) -> None:
        one_by_one = self._pages(blocks)
        async with aclosing(_one_ahead(one_by_one) if self._store.overlaps else one_by_one) as pages:
            async for block, rows in pages:
                if self._settings.stop():
                    raise InterruptedRunError
                if isinstance(rows, _Passed):
                    await self._pass(block, rows)
                else:
                    await self._take(block, rows)
                if self._writer.is_due:
                    await self._writer.write()
                ticker.tick(sum(self.found.values()), self.changed)
                if self.stopped:
                    return

    def _stop(self, how: Stopped, because: str) -> None:
        self.stopped, self.stopped_because = how, because

    # Reading.

    async def _blocks(self) -> AsyncGenerator[Block, None]:
        blocks = self._store.blocks()
        try:
            while True:
                async with self._using_store:
                    block = await anext(blocks, None)
                if block is None:
                    return
                yield block
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()

    async def _pages(
        self, blocks: AsyncGenerator[Block, None]
    ) -> AsyncGenerator[tuple[Block, list[StoredRow] | _Passed], None]:
        async with aclosing(blocks):
            async for block in blocks:
                async with aclosing(self._pages_of(block, self._task.passes())) as pages:
                    async for page in pages:
                        yield block, page

    async def _pages_of(
        self, block: Block, openings: tuple[str, ...] = ()
    ) -> AsyncGenerator[list[StoredRow] | _Passed, None]:
        count = min(self._page, self._writer.batch)
        rows: list[StoredRow] | int
        if openings:
            rows = await self.ask(partial(self._store.rows_unless, block, openings, count))
        else:
            rows = await self.ask(partial(self._store.rows, block, None, count))
        if isinstance(rows, int):
            yield _Passed(openings, rows)
            return
        while rows:
            size = sum(len(row.data) for row in rows)
            self._page = max(1, min(2 * count, count * MOST_BYTES // max(size, 1)))
            yield rows
            count = min(self._page, self._writer.batch)
            rows = await self.ask(partial(self._store.rows, block, rows[-1], count))

    async def ask(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What the store answers, once waiting has helped."""
        return await patiently(ask, self._settings.stop, self._using_store)

    async def refuse_a_fast_clock(self) -> None:
        """Raise StoreError where this machine's clock is ahead: what is in time would count as expired."""
        ours, theirs = _now(), await self.ask(self._store.clock)
        if theirs is not None and ours > theirs + CLOCK_SKEW_S:
            raise StoreError(
                f"this machine's clock is {ours - theirs:,.0f} s ahead of that of {self._store.place}, so what is in"
                " time would count as expired. Nothing was removed; compare the clocks (NTP), then run it again"
            )

    async def checkpoint(self) -> None:
        """Give the event loop a turn if one is due."""
        if self._time_slice.is_used_up():
            await self._time_slice.checkpoint()

    # Judging.

    async def _pass(self, block: Block, passed: _Passed) -> None:
        await self._task.begin_page()
        if self._task.passes() != passed.openings:  # since they were looked at, another key became active
            async with aclosing(self._pages_of(block)) as pages:
                async for rows in pages:
                    assert not isinstance(rows, _Passed)  # noqa: S101 - nothing is passed without openings
                    await self._take(block, rows)
        else:
            self._count("not_opened", passed.rows)
            self._task.passed(passed.rows)

    async def _take(self, block: Block, rows: list[StoredRow]) -> None:
        task, time_slice = self._task, self._time_slice
        await task.begin_page()
        parsed = []
        kids = set()
        for row in rows:
            if task.passes_by(row):
                self._count("not_opened")
                continue
            found = parse_row(row.data)
            parsed.append((row, found))
            if isinstance(found, Envelope):
                kids.add(found.kid)
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        if self.keys is not None:
            await self.keys.prepare(kids)
        self.now = int(_now())
        policy = ReadPolicy(self.now, self._settings.ttl, read_plaintext=False)
        for row, found in parsed:
            classified = self._classify(row, found, policy)
            self._count(classified.outcome)
            change = task.take(classified)
            if change is not None and not self._begin(Change(block, row, classified.outcome, change)):
                return
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        self._rows_since += len(rows)
        if self._rows_since >= _PUT_OFF_FOR or self._put_off_bytes > MOST_BYTES:
            await self._decide()

    async def _decide(self) -> None:
        """What becomes of the rows that were put off. Few are held, so that memory does not grow."""
        put_off, self._put_off = self._put_off, []
        self._put_off_bytes = self._rows_since = 0
        if not self.stopped:
            for place in await self._task.free([change.row for change in put_off]):
                if not self._begin(put_off[place]._replace(change=REMOVE)):
                    return

    def _begin(self, change: Change) -> bool:
        """Have a row changed, now or later, unless that were more than the limit."""
        if isinstance(change.change, Defer):
            self._put_off.append(change)
            self._put_off_bytes += len(change.row.data)
            return True
        if self._writer.begun == self._settings.limit:
            self._stop("limit", f"{self._writer.begun} rows were changed, as many as limit= allows; there are more")
            return False
        self._writer.add(change)
        return True

    def _classify(self, row: StoredRow, found: Envelope | dict[str, Any] | str, policy: ReadPolicy) -> ClassifiedRow:
        if isinstance(found, str):
            return ClassifiedRow(row, found)
        if isinstance(found, dict):
            return ClassifiedRow(row, "plaintext", item=found)
        if self.keys is None:
            return ClassifiedRow(row, "not_opened", found.kid, found.timestamp, envelope=found)
        opener = self.keys.opener(found.kid, row.session_id)
        if opener == "key_not_answered" or opener == "key_not_asked":  # noqa: PLR1714 - told apart by the type checker
            classified = ClassifiedRow(row, "not_opened", found.kid, found.timestamp, envelope=found)
            self.leave(str(opener), classified)
            return classified
        if self._task.looks_inside:
            outcome = open_envelope(found, opener, policy).outcome
        else:
            outcome = classify_envelope(found, opener, policy)
        return ClassifiedRow(
            row, outcome, found.kid, found.timestamp, None, found, None if isinstance(opener, str) else opener
        )

    def _count(self, outcome: str, rows: int = 1) -> None:
        if self.first_time:
            self.found[outcome] = self.found.get(outcome, 0) + rows


async def patiently(
    ask: Callable[[], Awaitable[_T]], stop: Callable[[], bool] = bool, alone: asyncio.Lock | None = None
) -> _T:
    """One call of a store, and again if it does not answer. A call in doubt changes nothing when it comes twice."""
    alone = alone or asyncio.Lock()
    for wait_s in _STORE_WAITS_S:
        with suppress(StoreUnavailableError):
            async with alone:
                return await ask()
        await wait(wait_s, stop)
    async with alone:
        return await ask()


async def checkpointed(store: WholeStore) -> tuple[str, ...]:
    """What a store could not make gone of what was removed or replaced, in words."""
    try:
        return tuple(await store.checkpoint())
    except StoreError as error:
        return (str(error),)


async def _each(blocks: Iterable[Block]) -> AsyncGenerator[Block, None]:
    for block in blocks:
        yield block


async def _one_ahead(pages: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
    """The same pages; the next one is read while one is worked on."""
    coming = asyncio.ensure_future(_next(pages))
    try:
        while (page := await shield(coming)) is not None:
            coming = asyncio.ensure_future(_next(pages))
            yield page
    finally:
        # A call of a store is not broken off: it would lose its connection.
        with suppress(Exception):
            await shield(coming)
        await pages.aclose()


async def _next(pages: AsyncGenerator[_T, None]) -> _T | None:
    return await anext(pages, None)


def _in_words(row_id: object) -> str:
    if isinstance(row_id, tuple):
        return " ".join(
            part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else str(part) for part in row_id
        )
    return str(row_id)

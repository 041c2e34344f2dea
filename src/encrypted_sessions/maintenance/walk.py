"""A whole store, row by row: read, judge, change, in small batches while agents go on.

While one page of rows is judged, the store writes the changes of the page before and reads the next.
What was read and judged is written only where it still lies as it was read; a block in which
somebody else was faster is walked once more at the end.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from encrypted_sessions.envelope import Envelope, parse_row
from encrypted_sessions.maintenance.keys import InterruptedRunError, StoreKeys, wait
from encrypted_sessions.maintenance.progress import Progress, Ticker
from encrypted_sessions.maintenance.reports import RowFinding, Stopped
from encrypted_sessions.maintenance.stores.base import Block, StoredRow, StoreError, StoreUnavailableError, WholeStore
from encrypted_sessions.outcomes import MAX_FINDINGS, shown_kid
from encrypted_sessions.reading import CLOCK_SKEW_S, Breather, Terms, judge_envelope, open_envelope
from encrypted_sessions.sealing import Opener
from encrypted_sessions.settling import settle
from keyproviders import KeyProviderError, ProviderConfigError

if TYPE_CHECKING:
    from keyproviders import KeyRing

#: How often a block is walked again because others changed rows in it first, with how much smaller batches,
#: and after how many seconds, each time twice as many: time for them to get on.
_AGAIN = 8
_SMALLER = 10
_AGAIN_AFTER_S, _AGAIN_AT_MOST_S = 0.05, 1.0

#: A row can be megabytes: so many rows are read first, and then as many as make so many bytes together.
_FIRST_PAGE = 8
_MOST_BYTES = 4 * 2**20

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


class Judged(NamedTuple):
    """A row and what it is.

    `outcome` is an outcome's name, or "not_opened". `timestamp` is proven where the outcome says so.
    `item` is set for plaintext, and `envelope` where the row is one; `opener` where its key was there.
    """

    row: StoredRow
    outcome: str
    kid: str | None = None
    timestamp: int | None = None
    item: dict[str, Any] | None = None
    envelope: Envelope | None = None
    opener: Opener | None = None


class Remove:
    """The change of a row that goes."""


REMOVE = Remove()


class Later:
    """The change of a row on which `Task.free` decides, once more rows were seen."""


LATER = Later()


class _Change(NamedTuple):
    """What was decided about a row."""

    block: Block
    row: StoredRow
    outcome: str
    change: str | Remove | Later


class _Passed(NamedTuple):
    """So many rows of a block all begin with one of these, and were not read."""

    openings: tuple[str, ...]
    rows: int


class Task(ABC):
    """What one command does with rows. `run` is set while the walk goes on."""

    run: Walk
    #: Whether the command is there to change rows.
    changes: ClassVar[bool] = True
    #: False where `take` itself finds out whether an authentic row holds an item: it says so to `Walk.correct`.
    looks_inside: ClassVar[bool] = True

    async def begin_page(self) -> None:  # noqa: B027 - most commands need nothing
        """What is needed before the rows of a page are taken."""

    def passes_by(self, row: StoredRow) -> bool:  # noqa: ARG002 - for those that pass rows by
        """Whether a row is none of this command's business, by its label alone. It counts as "not_opened"."""
        return False

    def passes(self) -> tuple[str, ...]:
        """How the texts of such rows begin, or () where that alone does not tell."""
        return ()

    def passed(self, rows: int) -> None:  # noqa: B027 - likewise
        """So many rows of a block were passed by unread, for they all begin as `passes` said."""

    @abstractmethod
    def take(self, judged: Judged) -> str | Remove | Later | None:
        """What to put in a row's place; None leaves it as it is."""

    async def free(self, rows: Sequence[StoredRow]) -> Sequence[int]:  # noqa: ARG002 - for those that put rows off
        """Which of the rows that were put off are to be removed, by their places."""
        return ()

    async def before_writing(self, rows: Sequence[StoredRow]) -> None:  # noqa: B027 - likewise
        """What must be done before these rows are changed."""


class Walk:
    """One run of one command over a store."""

    def __init__(self, store: WholeStore, ring: KeyRing | None, settings: Settings, task: Task) -> None:
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
        self.changed_of: dict[str, int] = {}
        self._begun = 0  # changes that were decided, written or not
        self.stopped: Stopped | None = None
        self.stopped_because: str | None = None
        self._incomplete: tuple[str, ...] = ()
        self._started_at = _now()
        self._began = time.monotonic()
        self._breather = Breather()
        self._using_store = asyncio.Lock()  # one call at a time
        self.first_time = True
        """False when blocks are walked again: rows of theirs have been counted."""
        self._again: list[Block] = []
        self._missed = 0
        self._size = settings.batch
        self._pending: list[_Change] = []
        self._writing: asyncio.Task[None] | None = None
        self._page = min(_FIRST_PAGE, settings.batch)
        self._pending_bytes = 0
        self._put_off: list[_Change] = []
        self._put_off_bytes = self._rows_since = 0

    # What tasks say.

    @property
    def changed(self) -> int:
        """Rows that were replaced or removed; in a dry run, that would have been."""
        return sum(self.changed_of.values())

    @property
    def begun(self) -> int:
        """Rows of which it was decided that they are to be changed."""
        return self._begun

    def correct(self, judged: Judged, outcome: str) -> Judged:
        """A row that turned out to be something else than it was counted as."""
        if self.first_time:
            self.found[judged.outcome] -= 1
            if not self.found[judged.outcome]:
                del self.found[judged.outcome]
            self._count(outcome)
        return judged._replace(outcome=outcome)

    def leave(self, reason: str, judged: Judged) -> None:
        """Count a row that is left although it should not be, and name it among the findings."""
        if self.first_time:
            self.left[reason] = self.left.get(reason, 0) + 1
            if len(self.findings) < MAX_FINDINGS:
                row = judged.row
                self.findings.append(
                    RowFinding(row.session_id, _in_words(row.id), judged.outcome, shown_kid(judged.kid))
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
        if self._missed:
            self.left["changed_meanwhile"] = self._missed
        if self.keys is not None:
            for kid, refusal in self.keys.refusals.items():
                self.notice(f"the key {shown_kid(kid)}: {refusal}")
        if self._task.changes and not self._settings.dry_run:
            # Also when nothing was changed: a run before may have been killed, or kept from it by readers.
            self._incomplete = await settled(self._store)

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
                if self._again and not self.stopped:
                    self._size = max(1, self._settings.batch // _SMALLER ** min(number + 1, 2))
                    # At once the first time: mostly another run of the same kind was there, and all is done.
                    wait_s = min(_AGAIN_AFTER_S * 2**number, _AGAIN_AT_MOST_S) if number else 0.0
                    await wait(wait_s, self._settings.stop)
                    again, self._again, self._missed = self._again, [], 0
                    await self._walk(_each(again), ticker)
        finally:
            ticker.tick(sum(self.found.values()), self.changed, end=True)

    async def _walk(self, blocks: AsyncGenerator[Block, None], ticker: Ticker) -> None:
        try:
            await self._walk_pages(blocks, ticker)
            await self._decide()
            await self._write()
        except (InterruptedRunError, KeyProviderError):
            await self._write()  # the current batch
            raise
        finally:
            await self._written()

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
                if len(self._pending) >= self._size or self._pending_bytes > _MOST_BYTES:
                    await self._write()
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
        count = min(self._page, self._size)
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
            self._page = max(1, min(2 * count, count * _MOST_BYTES // max(size, 1)))
            yield rows
            count = min(self._page, self._size)
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

    async def breathe(self) -> None:
        """Give the event loop a turn if one is due."""
        if self._breather.is_due():
            await self._breather.take()

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
        task, breather = self._task, self._breather
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
            if breather.is_due():
                await breather.take()
        if self.keys is not None:
            await self.keys.prepare(kids)
        self.now = int(_now())
        terms = Terms(self.now, self._settings.ttl, read_plaintext=False)
        for row, found in parsed:
            judged = self._judge(row, found, terms)
            self._count(judged.outcome)
            change = task.take(judged)
            if change is not None and not self._begin(_Change(block, row, judged.outcome, change)):
                return
            if breather.is_due():
                await breather.take()
        self._rows_since += len(rows)
        if self._rows_since >= _PUT_OFF_FOR or self._put_off_bytes > _MOST_BYTES:
            await self._decide()

    async def _decide(self) -> None:
        """What becomes of the rows that were put off. Few are held, so that memory does not grow."""
        put_off, self._put_off = self._put_off, []
        self._put_off_bytes = self._rows_since = 0
        if not self.stopped:
            for place in await self._task.free([change.row for change in put_off]):
                if not self._begin(put_off[place]._replace(change=REMOVE)):
                    return

    def _begin(self, change: _Change) -> bool:
        """Have a row changed, now or later, unless that were more than the limit."""
        if isinstance(change.change, Later):
            self._put_off.append(change)
            self._put_off_bytes += len(change.row.data)
            return True
        if self._begun == self._settings.limit:
            self._stop("limit", f"{self._begun} rows were changed, as many as limit= allows; there are more")
            return False
        self._begun += 1
        self._pending.append(change)
        self._pending_bytes += len(change.row.data)
        return True

    def _judge(self, row: StoredRow, found: Envelope | dict[str, Any] | str, terms: Terms) -> Judged:
        if isinstance(found, str):
            return Judged(row, found)
        if isinstance(found, dict):
            return Judged(row, "plaintext", item=found)
        if self.keys is None:
            return Judged(row, "not_opened", found.kid, found.timestamp, envelope=found)
        opener = self.keys.opener(found.kid, row.session_id)
        if opener == "key_not_answered" or opener == "key_not_asked":  # noqa: PLR1714 - told apart by the type checker
            judged = Judged(row, "not_opened", found.kid, found.timestamp, envelope=found)
            self.leave(str(opener), judged)
            return judged
        if self._task.looks_inside:
            outcome = open_envelope(found, opener, terms).outcome
        else:
            outcome = judge_envelope(found, opener, terms)
        return Judged(
            row, outcome, found.kid, found.timestamp, None, found, None if isinstance(opener, str) else opener
        )

    def _count(self, outcome: str, rows: int = 1) -> None:
        if self.first_time:
            self.found[outcome] = self.found.get(outcome, 0) + rows

    # Writing.

    async def _write(self) -> None:
        """Begin to write what is pending, once the write before has ended."""
        await self._written()
        if self._pending:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            self._writing = asyncio.ensure_future(self._write_out(pending))
            if not self._store.overlaps:
                await self._written()

    async def _written(self) -> None:
        """Wait for the write under way, also when this task is cancelled meanwhile."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await settle(writing)

    async def _write_out(self, pending: list[_Change]) -> None:
        size = self._size
        for start in range(0, len(pending), size):
            changes = pending[start : start + size]
            if self._settings.dry_run:
                done = [True] * len(changes)
            else:
                await self._task.before_writing([change.row for change in changes])
                done = await self.ask(partial(self._change, changes))
            for change, was_done in zip(changes, done, strict=True):
                if was_done:
                    self.changed_of[change.outcome] = self.changed_of.get(change.outcome, 0) + 1
                    continue
                self._missed += 1
                self._begun -= 1
                if change.block not in self._again[-1:]:
                    self._again.append(change.block)

    async def _change(self, changes: Sequence[_Change]) -> list[bool]:
        # A command removes or replaces, and none does both.
        if isinstance(changes[0].change, Remove):
            return await self._store.remove([change.row for change in changes])
        return await self._store.replace([(row, data) for _, row, _, data in changes if isinstance(data, str)])


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


async def settled(store: WholeStore) -> tuple[str, ...]:
    """What a store could not make gone of what was removed or replaced, in words."""
    try:
        return tuple(await store.settle())
    except StoreError as error:
        return (str(error),)


async def _each(blocks: Iterable[Block]) -> AsyncGenerator[Block, None]:
    for block in blocks:
        yield block


async def _one_ahead(pages: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
    """The same pages; the next one is read while one is worked on."""
    coming = asyncio.ensure_future(_next(pages))
    try:
        while (page := await settle(coming)) is not None:
            coming = asyncio.ensure_future(_next(pages))
            yield page
    finally:
        # A call of a store is not broken off: it would lose its connection.
        with suppress(Exception):
            await settle(coming)
        await pages.aclose()


async def _next(pages: AsyncGenerator[_T, None]) -> _T | None:
    return await anext(pages, None)


def _in_words(row_id: object) -> str:
    if isinstance(row_id, tuple):
        return " ".join(
            part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else str(part) for part in row_id
        )
    return str(row_id)

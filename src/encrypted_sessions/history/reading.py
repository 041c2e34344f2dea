"""From stored rows to items: classify each row, walk a history backwards, say what was found.

The order of questions is fixed: is it an envelope of a known version; what does the place say of
its key; does the check hold; is it in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..core.envelope import Envelope, NoEnvelope, Plain, parse, parse_row
from ..core.outcomes import Classification, Outcome, OutcomeCounts
from ..core.suites.fernet_v1 import NotAnItem, Opener, Unauthentic
from ..errors import ScanBudgetError
from ..stores import Cursor, Row
from .keychain import Keychain
from .pairing import unpaired

#: A clock may be this many seconds behind the writer's before a row counts as from the future.
CLOCK_SKEW_S = 60

#: A search backwards with a limit ends after so many rows in a row ...
EXPIRED_ROWS_THAT_END_A_SEARCH = 64
#: ... that expired more than this many seconds ago: clocks and long batches differ by less.
EXPIRED_FOR_SURE_S = 120

#: Rows classified at once. So few that what is made of them is gone before the interpreter's garbage collection
#: counts it as long-lived: collections of everything, which stop the event loop, come up a tenth as often.
_GROUP = 32

#: Work between two looks at the event loop's other tasks, in seconds.
_SLICE_S = 0.003


class ReadPolicy:
    """What a row is measured against: the time, the session's ttl (None: no end), its policy."""

    __slots__ = ("now", "read_plaintext", "ttl")

    def __init__(self, now: int, ttl: int | None, *, read_plaintext: bool) -> None:
        self.now = now
        self.ttl = ttl
        self.read_plaintext = read_plaintext

    def has_expired(self, timestamp: int) -> bool:
        """Whether what was sealed then is older than the ttl."""
        return self.ttl is not None and self.now > timestamp + self.ttl


class TimeSlice:
    """The work that one task does before it gives the event loop a turn."""

    def __init__(self) -> None:
        self._slice_ends = time.perf_counter() + _SLICE_S

    def is_used_up(self) -> bool:
        """Whether the slice is used up."""
        return time.perf_counter() > self._slice_ends

    async def checkpoint(self) -> None:
        """Let other tasks run, then start a new slice."""
        await asyncio.sleep(0)
        self._slice_ends = time.perf_counter() + _SLICE_S


class Classifier:
    """Finds out what rows are, on one walk through a history. Each key is asked for once.

    Gives the event loop a turn whenever a slice of work is used up.
    """

    def __init__(self, keychain: Keychain, policy: ReadPolicy) -> None:
        self._keychain = keychain
        self._policy = policy
        self._openers: dict[str, Opener | Outcome] = {}
        self._time_slice = TimeSlice()

    async def classify(self, rows: Sequence[Row]) -> list[Classification]:
        """One classification for each row, in the same order.

        Raises what the key provider raises when it cannot answer.
        """
        time_slice = self._time_slice
        parsed = []
        for row in rows:
            parsed.append(parse_stored(row.data))
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        await self._find({found.kid for found in parsed if isinstance(found, Envelope)})
        classifications: list[Classification] = []
        for found in parsed:
            if isinstance(found, Envelope):
                classifications.append(open_envelope(found, self._openers[found.kid], self._policy))
            elif isinstance(found, dict):
                classifications.append(Classification("plaintext", item=found if self._policy.read_plaintext else None))
            else:
                classifications.append(Classification(found))
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        return classifications

    async def _find(self, kids: set[str]) -> None:
        unknown = kids.difference(self._openers)
        if unknown:
            for kid, cipher in (await self._keychain.find(unknown)).items():
                self._openers[kid] = cipher if isinstance(cipher, str) else cipher.opener()


def parse_stored(data: object) -> Envelope | Plain | NoEnvelope:
    """Take apart what a store gave: a row's text, or the object where it gives no text."""
    return parse_row(data) if isinstance(data, (str, bytes)) else parse(data)


def open_envelope(envelope: Envelope, opener: Opener | Outcome, policy: ReadPolicy) -> Classification:
    """What a well-formed envelope is, its key's opener (or why there is none) in hand."""
    outcome = classify_envelope(envelope, opener, policy)
    item = None
    if outcome == "ok" and not isinstance(opener, str):
        try:
            item = opener.open(envelope.token)
        except NotAnItem:
            outcome = "malformed"
    return Classification(outcome, envelope.kid, envelope.timestamp, item)


def classify_envelope(envelope: Envelope, opener: Opener | Outcome, policy: ReadPolicy) -> Outcome:
    """The same without a look at the content: what is "ok" may hold no item."""
    timestamp = envelope.timestamp
    expired = policy.has_expired(timestamp)
    if isinstance(opener, str):
        return "expired_unverified" if opener == "unknown_key" and expired else opener
    try:
        opener.verify(envelope.token)
    except Unauthentic:
        return "unauthentic"
    if expired:
        return "expired"
    return "not_yet_valid" if timestamp > policy.now + CLOCK_SKEW_S else "ok"


class Scan:
    """A walk through a history: its items, oldest first, what else was met, and the newest row."""

    __slots__ = ("counts", "items", "newest")

    def __init__(self, items: list[dict[str, object]], counts: OutcomeCounts, newest: Row | None) -> None:
        self.items = items
        self.counts = counts
        self.newest = newest

    def __repr__(self) -> str:
        return f"Scan({len(self.items)} items, {self.counts.outcomes()!r})"


async def scan(
    cursor: Cursor,
    keychain: Keychain,
    policy: ReadPolicy,
    *,
    limit: int | None,
    budget: int | None = None,
) -> Scan:
    """Walk backwards from the newest row until `limit` items are found, or to the oldest row.

    With a limit, the walk also ends after 64 consecutive rows that expired more than two minutes
    ago. `budget` bounds the rows fetched: ScanBudgetError when it is used up before the end.
    """
    counts = OutcomeCounts()
    classifier = Classifier(keychain, policy)
    items: list[dict[str, object]] = []  # newest first, until the end
    kinds: list[Outcome] = []
    newer_than_gap = 0  # items newer than the oldest row that was left out
    newest: Row | None = None
    long_expired = 0
    fetched: list[Row] = []  # and not classified yet, oldest first
    complete = ended_early = False

    while not (complete or ended_early) and (limit is None or len(items) < limit):
        wanted = None if limit is None else limit - len(items)
        if not fetched:
            # The first page is what a history without gaps needs, and no row more.
            if wanted is not None and newest is not None:
                wanted = max(wanted, EXPIRED_ROWS_THAT_END_A_SEARCH)
            fetched = await _fetch(cursor, wanted, budget)
            newest = newest or (fetched[0] if fetched else None)
            fetched.reverse()
        # No row more than can be returned: a key is asked for only when its row comes up.
        count = _GROUP if limit is None else min(_GROUP, limit - len(items))
        group = fetched[: -count - 1 : -1]
        del fetched[-count:]  # so that sealed rows and items are not all in memory at once
        for classification in await classifier.classify(group):
            counts.add(classification)
            if classification.item is not None:
                items.append(classification.item)
                kinds.append(classification.outcome)
                long_expired = 0
                continue
            newer_than_gap = len(items)
            if classification.outcome == "expired" and _expired_for_sure(classification, policy):
                long_expired += 1
                if limit is not None and long_expired == EXPIRED_ROWS_THAT_END_A_SEARCH:
                    ended_early = True
                    break
            else:
                long_expired = 0
        complete = cursor.exhausted and not fetched

    items.reverse()
    kinds.reverse()
    since = 0 if ended_early else len(items) - newer_than_gap
    if since < len(items):
        lost = unpaired(items, since=since)
        for index in sorted(lost, reverse=True):
            counts.move(kinds[index], to="unpaired")
            del items[index]
    return Scan(items, counts, newest)


async def _fetch(cursor: Cursor, count: int | None, budget: int | None) -> list[Row]:
    if budget is None:
        return await cursor.fetch(count)
    rows = await cursor.fetch(count, at_most=budget - cursor.fetched)
    if not rows and not cursor.exhausted:
        raise ScanBudgetError(
            f"max_scan_items: {budget} rows were read and the history is not complete. Raise"
            " max_scan_items, ask for fewer items with limit=, or remove old rows from the store."
        )
    return rows


def _expired_for_sure(classification: Classification, policy: ReadPolicy) -> bool:
    assert classification.timestamp is not None  # noqa: S101 - an expired row has been opened
    return policy.has_expired(classification.timestamp + EXPIRED_FOR_SURE_S)

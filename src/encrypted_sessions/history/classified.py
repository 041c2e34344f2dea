"""Find out what rows are: the one place where that is decided, and the one walk that fetches rows for it.

The order of questions is fixed: is it an envelope of a known version; what does the place say of
its key; does the check hold; is it in time; was its key still to write then.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from ..core.cipher import NotAnItem, Opener, SessionCipher, Unauthentic
from ..core.envelope import UPSTREAM_KID, Envelope, NoEnvelope, Plain, parse, parse_row
from ..core.outcomes import Outcome
from ..errors import ScanBudgetError
from ..stores.access import Cursor
from ..stores.rows import TOO_LARGE, Row
from .keychain import Keychain
from .results import Classification

if TYPE_CHECKING:
    from ..events.protocols import Judging
    from .protocols import Openers, StoredData

__all__ = [
    "CLOCK_SKEW_S",
    "GROUP",
    "Classifier",
    "HistoryWalk",
    "ReadPolicy",
    "SessionOpeners",
    "TimeSlice",
    "claimed",
    "is_late",
]

#: A clock may be this many seconds behind the writer's before a row counts as from the future.
CLOCK_SKEW_S = 60

#: Rows classified at once. So few that what is made of them is gone before the interpreter's garbage collection
#: counts it as long-lived: collections of everything, which stop the event loop, come up a tenth as often.
GROUP = 32

#: Work between two looks at the event loop's other tasks, in seconds.
_SLICE_S = 0.003

#: One part of so many of the time that a read may wait for keys is no longer used for asking.
_LAST_PART = 20


RowT = TypeVar("RowT", bound="StoredData")


#: When each of some rows was added, seconds since 1970; None where the store does not say.
AddedAt = Callable[[Sequence[RowT]], Awaitable[Sequence["float | None"]]]


class ReadPolicy:
    """What a row is measured against: the time, the session's ttl (None: no end), its policy.

    `upstream_until` and `plaintext_until`, in seconds since 1970, end what is let in for moving over.
    Without `tells_expired` and `tells_late` a row counts as what else it is, also where it has expired, or its key had
    stopped writing.
    """

    __slots__ = ("now", "plaintext_until", "read_plaintext", "tells_expired", "tells_late", "ttl", "upstream_until")

    def __init__(
        self,
        now: int,
        ttl: int | None,
        *,
        read_plaintext: bool,
        plaintext_until: float | None = None,
        upstream_until: float | None = None,
        tells_expired: bool = True,
        tells_late: bool = True,
    ) -> None:
        self.now = now
        self.ttl = ttl
        self.read_plaintext = read_plaintext
        self.plaintext_until = plaintext_until
        self.upstream_until = upstream_until
        self.tells_expired = tells_expired
        self.tells_late = tells_late

    def has_expired(self, envelope: Envelope) -> bool:
        """Whether an envelope is past the end that its writer gave it, or older than the ttl."""
        now, expires, ttl = self.now, envelope.expires, self.ttl
        return (ttl is not None and now > envelope.timestamp + ttl) or (expires is not None and now > expires)

    def lets_in_plaintext(self, added_at: float | None) -> bool:
        """Whether a plaintext row is returned; without a time of its own, the clock decides."""
        until = self.plaintext_until
        return self.read_plaintext and (until is None or (self.now if added_at is None else added_at) <= until)

    def claims_to_be_expired(self, data: object) -> bool:
        """Whether a row's data is an envelope that says it has expired. No proof of it."""
        found = _parse(data)
        return isinstance(found, Envelope) and self.has_expired(found)


class TimeSlice:
    """The work that one task does before it gives the event loop a turn."""

    def __init__(self) -> None:
        self.ends_at = perf_counter() + _SLICE_S
        """By `perf_counter`: for loops in which a call takes too long."""

    def begin(self) -> None:
        """Start a new slice: other tasks have just had their turn."""
        self.ends_at = perf_counter() + _SLICE_S

    def is_used_up(self) -> bool:
        """Whether the slice is used up."""
        return perf_counter() > self.ends_at

    def never_ends(self) -> None:
        """Keep the event loop, for what is little work."""
        self.ends_at = inf

    async def checkpoint(self) -> None:
        """Let other tasks run, then start a new slice."""
        await asyncio.sleep(0)
        self.begin()


class SessionOpeners:
    """What opens the rows of one session, on one walk through it. Each key is asked for once."""

    def __init__(self, keychain: Keychain, *, asks: bool = True) -> None:
        self._keychain = keychain
        self._openers: dict[tuple[str, int], Opener | str] = {}
        self._left_s = keychain.wait_s if asks else 0.0

    async def prepare(self, envelopes: Iterable[Envelope]) -> None:
        """Ask for those keys that were not asked for yet, all at once."""
        await self.ask({(found.kid, found.version) for found in envelopes})

    async def ask(self, wanted: set[tuple[str, int]]) -> None:
        """The same for kids, and the versions of what they sealed."""
        unknown = wanted.difference(self._openers)
        if unknown:
            # Side by side, and no longer in all than one look-up may take. The store's own time does not count.
            if self._left_s < self._keychain.wait_s / _LAST_PART:
                self._left_s = 0.0  # too little to ask in: that nothing came in it would look like an outage
            began = time.monotonic()
            answers = await self._keychain.find({kid for kid, _ in unknown}, self._left_s)
            self._left_s -= time.monotonic() - began
            for kid, version in unknown:
                self._keep(kid, version, answers[kid])

    def opener(self, envelope: Envelope, row: object) -> Opener | str:  # noqa: ARG002 - all rows are of one session
        """What was found."""
        return self._openers[envelope.kid, envelope.version]

    def answer(self, kid: str, version: int) -> Opener | str:
        """The same for a kid and a version that were asked for."""
        return self._openers[kid, version]

    async def known(self, kid: str, version: int) -> Opener | str | None:
        """The same for a kid of which the answer is known, so that no place has to be asked; else None."""
        answer = (await self._keychain.find((kid,), 0.0))[kid]
        return None if answer == "key_not_asked" else self._keep(kid, version, answer)

    def _keep(self, kid: str, version: int, answer: SessionCipher | Outcome) -> Opener | str:
        found = self._openers[kid, version] = answer if isinstance(answer, str) else answer.opener(version)
        return found


class Classifier(Generic[RowT]):
    """Finds out what rows are, by the policy of the moment at which their keys are there.

    Gives the event loop a turn whenever a slice of work is used up. Without `opens`, rows that are
    in time are only verified: what is "ok" may then hold no item. `judged` takes note of each group of rows.
    """

    def __init__(
        self,
        openers: Openers[RowT],
        policy: Callable[[], ReadPolicy],
        time_slice: TimeSlice | None = None,
        added_at: AddedAt[RowT] | None = None,
        max_row_bytes: int = sys.maxsize,
        oldest_suite: int = 0,
        judged: Judging | None = None,
        *,
        opens: bool = True,
    ) -> None:
        self._openers = openers
        self._policy = policy
        self._time_slice = time_slice = time_slice or TimeSlice()
        #: Called when other tasks have just run: while a store was waited for, no time was worked.
        self.begin_slice = time_slice.begin
        self._opens = opens
        self._added_at = added_at
        self._max_row_bytes = max_row_bytes
        self._oldest_suite = oldest_suite
        self._judged = judged

    async def classify_one(self, row: RowT) -> Classification:
        """The classification of a row, without giving the event loop a turn where its key is there."""
        (classification,) = await self.classify_few([row])
        return classification

    async def classify_few(self, rows: Sequence[RowT]) -> list[Classification]:
        """The same for rows that are few and small."""
        self._time_slice.never_ends()
        return await self.classify(rows)

    async def classify(self, rows: Sequence[RowT]) -> list[Classification]:
        """One classification for each row, in the same order.

        Raises what the key provider raises when it cannot answer.
        """
        classifications = await self._decide(rows)
        if self._judged is not None:
            self._judged(classifications)
        return classifications

    async def _decide(self, rows: Sequence[RowT]) -> list[Classification]:
        return await self._judge(rows, await self._take_apart(rows))

    async def _take_apart(self, rows: Sequence[RowT]) -> list[Envelope | Plain | NoEnvelope | Literal["too_large"]]:
        time_slice = self._time_slice
        parsed: list[Envelope | Plain | NoEnvelope | Literal["too_large"]] = []
        limit = self._max_row_bytes
        for row in rows:
            data = row.data
            if type(data) is bytes and len(data) <= limit:  # as nearly all are: no call more for them
                parsed.append(parse_row(data))
            else:
                parsed.append(_parse_within(limit, data))
            if perf_counter() > time_slice.ends_at:
                await time_slice.checkpoint()
        return parsed

    async def _judge(
        self, rows: Sequence[RowT], parsed: Sequence[Envelope | Plain | NoEnvelope | Literal["too_large"]]
    ) -> list[Classification]:
        time_slice = self._time_slice
        oldest = self._oldest_suite
        await self._openers.prepare(
            [found for found in parsed if isinstance(found, Envelope) and found.version >= oldest]
        )
        policy = self._policy()
        times: Mapping[int, float | None] = {}
        if policy.read_plaintext and policy.plaintext_until is not None:
            times = await self._times_of_plaintext(rows, parsed)
        classifications = []
        for index, (row, found) in enumerate(zip(rows, parsed, strict=True)):
            if isinstance(found, Envelope):
                if found.version < oldest:
                    classifications.append(Classification("outdated", found))
                else:
                    classifications.append(self._classify(found, self._openers.opener(found, row), policy))
            elif isinstance(found, dict):
                let_in = policy.lets_in_plaintext(times.get(index))
                classifications.append(Classification("plaintext", None, found if let_in else None))
            else:
                classifications.append(Classification(found))
            if perf_counter() > time_slice.ends_at:
                await time_slice.checkpoint()
        return classifications

    def _classify(self, envelope: Envelope, opener: Opener | str, policy: ReadPolicy) -> Classification:
        if isinstance(opener, str):
            expired = opener == "unknown_key" and policy.tells_expired and policy.has_expired(envelope)
            return Classification("expired_unverified" if expired else opener, envelope)
        outcome = claimed(envelope, opener, policy)
        try:
            if outcome == "ok" and self._opens:
                return Classification("ok", envelope, opener.open(envelope))  # which verifies first
            opener.verify(envelope)
            return Classification(outcome, envelope)
        except Unauthentic:
            return Classification("unauthentic", envelope)
        except NotAnItem:
            return Classification("malformed", envelope)

    async def _times_of_plaintext(self, rows: Sequence[RowT], parsed: Sequence[object]) -> Mapping[int, float | None]:
        """By the places of the plaintext among the rows, when each was added, as far as the store says so."""
        places = [place for place, found in enumerate(parsed) if isinstance(found, dict)]
        if not places or self._added_at is None:
            return {}
        return dict(zip(places, await self._added_at([rows[place] for place in places]), strict=True))


class HistoryWalk:
    """A walk through one session's rows, from the newest on: fetched by pages, classified by groups.

    `first` is how many rows the first page has at least, and `then_at_least` each other one, if the store has so many.
    `budget` bounds the rows fetched.
    """

    def __init__(
        self,
        cursor: Cursor,
        classifier: Classifier[Row],
        *,
        first: int = 1,
        then_at_least: int = 1,
        budget: int | None = None,
    ) -> None:
        self._cursor = cursor
        self._classifier = classifier
        self._first = first
        self._then_at_least = then_at_least
        self._budget = budget
        self._fetched: list[Row] = []  # and not classified yet, oldest first
        self.newest: Row | None = None
        """The row that the walk began with."""

    def is_complete(self) -> bool:
        """Whether every row was classified, as far as is known without another look."""
        return self._cursor.exhausted and not self._fetched

    async def advance(self, wanted: int | None, *, group: int = GROUP) -> list[tuple[Row, Classification]]:
        """The next rows, and what they are: see `take`. Raises what the key provider raises, too."""
        rows = await self.take(wanted, group=group)
        return list(zip(rows, await self._classifier.classify(rows), strict=True))

    async def take(self, wanted: int | None, *, group: int = GROUP) -> list[Row]:
        """The next rows, newest first: at most `group`, and no more than `wanted` (None: all).

        No row more than is wanted, because a key is asked for only when its row comes up.

        Raises ScanBudgetError when the budget is used up before the end, and what the store raises.
        """
        if not self._fetched:
            # The first page is what a history without gaps needs, and no row more.
            at_least = self._first if self.newest is None else self._then_at_least
            most = None if wanted is None else max(wanted, at_least)
            fetched = await (self._cursor.fetch(most) if self._budget is None else self._fetch(most, self._budget))
            self._fetched = fetched
            if fetched and self.newest is None:
                self.newest = fetched[0]
            fetched.reverse()
            self._classifier.begin_slice()
        count = group if wanted is None else min(group, wanted)
        rows = self._fetched[: -count - 1 : -1]
        del self._fetched[-count:]  # so that sealed rows and items are not all in memory at once
        return rows

    def fetched_ahead(self) -> list[Row]:
        """The rows that come next, newest first, as far as they were fetched."""
        return self._fetched[::-1]

    async def ends_here(self) -> bool:
        """Whether there is no other row: one is fetched, if need be, and left out."""
        return self.is_complete() or not (self._fetched or await self._cursor.fetch(1))

    async def _fetch(self, count: int | None, budget: int) -> list[Row]:
        rows = await self._cursor.fetch(count, at_most=budget - self._cursor.fetched)
        if not rows and not self._cursor.exhausted:
            raise ScanBudgetError(
                f"max_scan_items: {budget} rows were read, and the history is not complete."
                " Raise max_scan_items, request fewer items with limit=, or remove old rows from the store."
            )
        return rows


def claimed(envelope: Envelope, opener: Opener, policy: ReadPolicy) -> Outcome:
    """What an envelope is if what it claims is true."""
    if policy.upstream_until is not None and _is_forged_upstream(envelope, policy.upstream_until):
        return "unauthentic"
    if policy.tells_expired and policy.has_expired(envelope):
        return "expired"
    if envelope.timestamp > policy.now + CLOCK_SKEW_S:
        return "not_yet_valid"
    if opener.written_until is not None and policy.tells_late and is_late(envelope.timestamp, opener):
        return "late_key"
    return "ok"


def is_late(timestamp: int, opener: Opener) -> bool:
    """Whether that is after the opener's key had stopped writing."""
    until = opener.written_until
    return until is not None and timestamp > until + CLOCK_SKEW_S


def _is_forged_upstream(envelope: Envelope, until: float) -> bool:
    """Whether the SDK's string made this after nobody was to write with it any more."""
    return envelope.kid == UPSTREAM_KID and envelope.timestamp > until


def _parse_within(limit: int, data: object) -> Envelope | Plain | NoEnvelope | Literal["too_large"]:
    """Take apart what a store gave, unless that is larger than `limit`. Runs for every row."""
    if type(data) is bytes:
        return "too_large" if len(data) > limit else parse_row(data)
    if data is TOO_LARGE:
        return "too_large"
    if isinstance(data, str):
        # UTF-8 has up to four bytes for a character: few characters need no count.
        few = len(data) * 4 <= limit
        return parse_row(data) if few or len(data.encode("utf-8", "replace")) <= limit else "too_large"
    found = _parse(data)
    if isinstance(found, Envelope):
        return found if len(found.body) <= limit else "too_large"
    if isinstance(found, dict) and sum(len(part) for part in found.values() if isinstance(part, str)) > limit:
        return "too_large"
    return found


def _parse(data: object) -> Envelope | Plain | NoEnvelope:
    """Take apart what a store gave: a row's text, or the object where it gives no text."""
    return parse_row(data) if isinstance(data, (str, bytes)) else parse(data)

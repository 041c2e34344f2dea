"""One run of a command over a store: its settings, what it has counted so far, and what its report says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from keyproviders import KeyProviderError, KeyRing, ProviderConfigError

from .._support.similar import did_you_mean
from ..core.kids import shown_kid
from ..core.outcomes import MAX_FINDINGS
from ..errors import StoreUnavailableError
from ..history.classified import CLOCK_SKEW_S, TimeSlice
from ..stores.unsuitable import UnsuitableStoreError
from ..stores.whole import PAGE_BYTES, SideEffect, WholeStore
from .classified_row import ClassifiedRow
from .interruption import InterruptedRunError
from .keys import StoreKeys
from .kid_filter import KidFilter, OtherKeys
from .progress import Progress
from .realms import RealmError, Realms
from .reports import ReplicaState, RowFinding, Stopped
from .session_filter import SessionFilter
from .store_calls import StoreCalls

__all__ = ["MOST_BYTES", "STAYS_DONE", "Run", "Settings"]

#: So many bytes are held until they are written.
MOST_BYTES = PAGE_BYTES

STAYS_DONE = "what was done so far stays done"

#: What a row is whose key no given place has.
_KEY_NOT_GIVEN = ("unknown_key", "expired_unverified")

_T = TypeVar("_T")


class Settings(NamedTuple):
    """What is the same for every row of a run."""

    ttl: int | None
    upstream_key: str | None
    upstream_until: float | None
    batch: int
    limit: int | None
    dry_run: bool
    max_row_bytes: int
    allow_triggers: frozenset[str]
    replica_wait_s: float
    progress: Callable[[Progress], object] | None
    stop: Callable[[], bool]
    only: SessionFilter | None = None
    """The sessions that the run is there for; None for all."""
    kids: tuple[str, ...] = ()
    """Only rows that name one of these; () for all."""
    realms: Realms = Realms()
    """What rows of suite 2 may be bound to."""

    @property
    def is_limited(self) -> bool:
        """Whether it was said which rows the run is there for."""
        return bool(self.kids) or self.only is not None

    def __repr__(self) -> str:
        return "Settings()"  # one of them is a secret


class Run:
    """What the engine, a command's operation and its report share. `keys` is None for a run without keys."""

    def __init__(self, store: WholeStore, rings: Sequence[KeyRing] | None, settings: Settings) -> None:
        self.store = store
        store.max_row_bytes = settings.max_row_bytes
        self.settings = settings
        self.keys = None if rings is None else StoreKeys(rings, settings.upstream_key, settings.stop, settings.realms)
        self.kid_filter = KidFilter(settings.kids) if settings.kids else None
        self.other_keys = OtherKeys()
        self.calls = StoreCalls(store, settings.stop)
        self.time_slice = TimeSlice()
        self.batch = settings.batch
        """The most rows in one call. Fewer once others were found to change the same rows."""
        self.first_pass = True
        """False while blocks are visited again: their rows have been counted."""
        self.scheduled = 0
        """Rows that are to be changed, or were, less those that somebody else changed first."""
        self.changed_of: Counter[Any] = Counter()
        """Rows that were replaced or removed, by what they were; in a dry run, that would have been."""
        self.found: dict[str, int] = {}
        self.left: dict[str, int] = {}
        self.findings: list[RowFinding] = []
        self.notices: list[str] = []
        self.stopped: Stopped | None = None
        self.stopped_because: str | None = None
        self.was_through = False
        """Whether it went through the whole store: what stops it after that leaves no row out."""
        self.incomplete: tuple[str, ...] = ()
        self.replicas: tuple[ReplicaState, ...] = ()
        self.replicas_unseen: str | None = None
        self.started_at = _now()
        self._began = time.monotonic()
        self._clock_compared = False
        self.most_changes: int | None = None
        """The most rows that may be changed, where a change may add rows."""
        self.now = int(self.started_at)
        """The second that rows are measured against."""

    @property
    def changed(self) -> int:
        """Rows that were replaced or removed; in a dry run, that would have been."""
        return sum(self.changed_of.values())

    @property
    def seen(self) -> int:
        """Rows that were looked at."""
        return sum(self.found.values())

    # What was found.

    def count(self, outcome: str, rows: int = 1) -> None:
        """Count rows as looked at."""
        if self.first_pass:
            self.found[outcome] = self.found.get(outcome, 0) + rows

    def recount(self, classified: ClassifiedRow, outcome: str) -> ClassifiedRow:
        """A row that turned out to be something else than it was counted as."""
        if self.first_pass:
            self.found[classified.outcome] -= 1
            if not self.found[classified.outcome]:
                del self.found[classified.outcome]
            self.count(outcome)
        return classified._replace(outcome=outcome)

    def leave(self, reason: str, classified: ClassifiedRow) -> None:
        """Count a row that is left although it should not be, and name it among the findings.

        What is others' business is none of that: where sessions were chosen, rows of keys that nobody gave; where
        keys were, rows that name none.
        """
        if reason in _KEY_NOT_GIVEN and self.settings.only is not None and not self.settings.kids:
            self.pass_over(classified.kid)
        elif self.settings.kids and classified.kid is None and reason != "too_large":
            return  # and too_large is of nobody knows which key
        elif self.first_pass:
            self.left[reason] = self.left.get(reason, 0) + 1
            if len(self.findings) < MAX_FINDINGS:
                row = classified.row
                self.findings.append(
                    RowFinding(row.session_id, _format_row_id(row.id), classified.outcome, shown_kid(classified.kid))
                )

    def leave_missing(self, sessions: int) -> None:
        """Count sessions that were named, and of which there is no trace."""
        if sessions:
            self.left["sessions_missing"] = self.left.get("sessions_missing", 0) + sessions

    def pass_over(self, kid: str | None) -> None:
        """Count a row of a key that this run is not there for."""
        if self.first_pass:
            self.other_keys.add(kid)

    def notice_unmet_kids(self, *known: str | None) -> None:
        """Say which of the kids that were given no row names, but for `known` ones."""
        if self.kid_filter is not None and self.stopped is None:
            for kid in self.settings.kids:
                if kid not in self.kid_filter.met and kid not in known:
                    meant = did_you_mean(kid, self.other_keys.rows, within=True)
                    self.notice(f"no row names {kid}{meant}; inventory shows which keys rows name")

    def notice(self, sentence: str) -> None:
        """Tell whoever runs this something, once."""
        if sentence not in self.notices and len(self.notices) < MAX_FINDINGS:
            self.notices.append(sentence)

    def report_fields(self) -> dict[str, Any]:
        """What every report has."""
        return {
            "store": self.store.location,
            "only": None if self.settings.only is None else str(self.settings.only),
            "found": self.found,
            "changed": self.changed,
            "left": self.left,
            "stopped": self.stopped,
            "stopped_because": self.stopped_because,
            "findings": tuple(self.findings),
            "notices": tuple(self.notices),
            "incomplete": self.incomplete,
            "replicas": self.replicas,
            "replicas_unseen": self.replicas_unseen,
            "started_at": self.started_at,
            "took_s": time.monotonic() - self._began,
            "dry_run": self.settings.dry_run,
            "kids": self.settings.kids,
            "other_keys": self.other_keys.rows,
        }

    # How it goes on, and ends.

    def end(self, how: Stopped, because: str) -> None:
        """Have the run end before it was through the whole store."""
        self.stopped, self.stopped_because = how, because

    def end_by(self, error: KeyProviderError | RealmError | StoreUnavailableError, goes_on: str) -> None:
        """The same because of an error. Raises what is a wrong setting, or a wrong answer, if nothing was done yet."""
        how: Stopped = "store"
        if isinstance(error, KeyProviderError):
            if isinstance(error, ProviderConfigError) and not self.found:
                raise error
            how = "provider"
        elif isinstance(error, RealmError):
            if error.is_wrong_answer and not self.changed:
                raise error.cause
            how = "realm"
        self.end(how, f"{error}; {goes_on}")

    def raise_if_interrupted(self) -> None:
        """Raise InterruptedRunError if the run was told to stop."""
        if self.settings.stop():
            raise InterruptedRunError

    async def call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """What the store answers, once waiting has helped."""
        return await self.calls.with_retries(call)

    async def refuse_side_effects(self) -> None:
        """Raise StoreError where the store does more than what it is told, unless that was allowed by name."""
        found = await self.call(self.store.side_effects)
        refused = [effect for effect in found if effect.name not in self.settings.allow_triggers]
        if refused:
            raise UnsuitableStoreError(
                f"{self.store.location} has {_named(refused)}: they can copy plaintext elsewhere,"
                " or remove more than is counted. Nothing was changed. Remove it for the"
                " run, or allow it by its name (allow_triggers=, or on the command line"
                " --allow-trigger NAME)"
            )
        if found:
            self.most_changes = await self.call(self.store.count)
            self.notice(
                f"{_named(found)} was allowed: so it is not guaranteed that replaced or removed rows are"
                " kept nowhere else, that written rows stay as they were written, and that no other row was"
                " changed or removed"
            )

    # Time.

    def refresh_now(self) -> int:
        """Look at the clock: the second that further rows are measured against."""
        self.now = int(_now())
        return self.now

    async def refuse_a_fast_clock(self) -> None:
        """Raise StoreError where this machine's clock is ahead: what is in time would count as expired.

        The store's clock is asked for once in a run.
        """
        await self._compare_clocks(1, "ahead of", "rows that have not expired would count as expired")

    async def refuse_a_slow_clock(self) -> None:
        """Raise StoreError where this machine's clock is behind: what is in time would count as from the future."""
        await self._compare_clocks(-1, "behind", "rows that have not expired would count as not yet valid")

    async def _compare_clocks(self, sign: int, how: str, harm: str) -> None:
        if self._clock_compared:
            return
        ours, theirs = _now(), await self.call(self.store.clock)
        ahead = 0.0 if theirs is None else (ours - theirs) * sign
        if ahead > CLOCK_SKEW_S:
            raise UnsuitableStoreError(
                f"this machine's clock is {ahead:,.0f} s {how} that of {self.store.location}, so {harm}. Nothing was"
                " removed; compare the clocks (NTP), then run it again"
            )
        self._clock_compared = True


def _named(effects: Sequence[SideEffect]) -> str:
    more = len(effects) - MAX_FINDINGS
    return ", ".join(map(str, effects[:MAX_FINDINGS])) + (f" and {more} more" if more > 0 else "")


def _now() -> float:
    """The wall clock, seconds since 1970."""
    return time.time()


def _format_row_id(row_id: object) -> str:
    if isinstance(row_id, tuple):
        return " ".join(
            part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else str(part) for part in row_id
        )
    return str(row_id)

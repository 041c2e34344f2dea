"""Counts of a whole store in little memory: rows by kid, version and outcome, and sessions in each."""

from __future__ import annotations

from ..core.envelope import VERSION
from ..core.outcomes import shown_kid
from .classified_row import ClassifiedRow
from .reports import Group

#: Groups at most. Whoever writes to the store chooses the kids; further ones are counted without a name.
MOST_GROUPS = 300

#: Hashes of session ids kept in each group. Up to twice so many sessions are counted exactly, more with an
#: error of some 3 % (the k smallest of n evenly spread numbers tell n).
_KEPT = 1_024
_LOWEST, _ALL = -(2**63), 2**64


class Distinct:
    """How many different texts there were."""

    __slots__ = ("_below", "_kept")

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._below: int | None = None

    def add(self, text: str) -> None:
        """One more, new or not."""
        number = hash(text)  # 64 bits, keyed anew in each process: nobody can choose ids that mislead
        if self._below is None or number < self._below:
            self._kept.add(number)
            if len(self._kept) > 2 * _KEPT:
                smallest = sorted(self._kept)[:_KEPT]
                self._kept = set(smallest)
                self._below = smallest[-1]

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate."""
        return self._below is None

    def count(self) -> int:
        """How many."""
        if self._below is None:
            return len(self._kept)
        kth = sorted(self._kept)[_KEPT - 1]
        return round((_KEPT - 1) * _ALL / (kth - _LOWEST))


class _GroupCount:
    __slots__ = ("items", "newest", "oldest", "sessions", "size")

    def __init__(self) -> None:
        self.items = self.size = 0
        self.sessions = Distinct()
        self.oldest: int | None = None
        self.newest: int | None = None

    def add(self, classified: ClassifiedRow) -> None:
        row = classified.row
        self.items += 1
        self.size += row.size
        self.sessions.add(row.session_id)
        time = classified.timestamp
        if time is None and row.created_at is not None:
            time = int(row.created_at)
        if time is not None:
            self.oldest = time if self.oldest is None else min(self.oldest, time)
            self.newest = time if self.newest is None else max(self.newest, time)


class Aggregation:
    """Rows, counted by kid, version and outcome."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str | None, int | None, str], _GroupCount] = {}
        self.too_many_groups = False

    def add(self, classified: ClassifiedRow) -> None:
        """One more row."""
        version = None if classified.envelope is None else VERSION
        name = (classified.kid, version, classified.outcome)
        count = self._counts.get(name)
        if count is None:
            kid = shown_kid(classified.kid)
            if len(self._counts) >= MOST_GROUPS:
                kid, self.too_many_groups = None, True
            count = self._counts.setdefault((kid, version, classified.outcome), _GroupCount())
        count.add(classified)

    def groups(self) -> tuple[Group, ...]:
        """As the report has them, in the order of kids."""
        return tuple(
            Group(
                kid=kid,
                version=version,
                outcome=outcome,
                items=count.items,
                sessions=count.sessions.count(),
                sessions_exact=count.sessions.exact,
                oldest=count.oldest,
                newest=count.newest,
                size=count.size,
            )
            for (kid, version, outcome), count in sorted(
                self._counts.items(), key=lambda pair: (pair[0][0] or "~", pair[0][2])
            )
        )

"""Counts of a whole store in little memory: rows by kid, version and outcome, and sessions in each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..core.envelope import Envelope
from ..core.kids import shown_kid
from .ages import TimeAxis
from .classified_row import ClassifiedRow
from .distinct_counter import DistinctCounter
from .reports import AgeBucket, Group

__all__ = ["MOST_GROUPS", "PROVEN_TIMES", "Aggregation", "end_of", "rows_by_suite"]

#: Outcomes of rows whose time is proven.
PROVEN_TIMES = ("ok", "expired", "not_yet_valid")

#: Groups at most. Whoever writes to the store chooses the kids; further ones are counted without a name.
MOST_GROUPS = 300


@dataclass(slots=True)
class _GroupCount:
    axis: TimeAxis
    items: int = 0
    size: int = 0
    oldest: int | None = None
    newest: int | None = None
    end: float = 0
    sessions: DistinctCounter = field(default_factory=DistinctCounter)
    by_age: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.by_age = self.axis.new_counts()

    def add(self, classified: ClassifiedRow, ttl: int | None) -> None:
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
            bucket = self.axis.bucket(time)
            self.by_age[bucket] = self.by_age.get(bucket, 0) + 1
        self.end = max(self.end, end_of(classified.envelope, ttl))


def end_of(envelope: Envelope | None, ttl: int | None) -> float:
    """When a row expires, by what it says; `math.inf` for never."""
    if envelope is None:
        return math.inf
    by_reader = math.inf if ttl is None else envelope.timestamp + ttl
    return by_reader if envelope.expires is None else min(envelope.expires, by_reader)


class Aggregation:
    """Rows, counted by kid, version and outcome; `ttl` is the reader's."""

    def __init__(self, ttl: int | None = None) -> None:
        self._ttl = ttl
        self._counts: dict[tuple[str | None, int | None, str], _GroupCount] = {}
        # Times that are only claimed do not move the axis of those that are proven.
        self._axis = TimeAxis()
        self.too_many_groups = False
        """Whether there were more kids than groups are kept for."""

    def add(self, classified: ClassifiedRow) -> None:
        """One more row."""
        version = None if classified.envelope is None else classified.envelope.version
        count = self._counts.get((classified.kid, version, classified.outcome))
        if count is None:
            kid = shown_kid(classified.kid)
            if len(self._counts) >= MOST_GROUPS:
                kid, self.too_many_groups = None, True
            axis = self._axis if classified.outcome in PROVEN_TIMES else TimeAxis()
            count = self._counts.setdefault((kid, version, classified.outcome), _GroupCount(axis))
        count.add(classified, self._ttl)

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
                end=None if math.isinf(count.end) else int(count.end),
            )
            for (kid, version, outcome), count in sorted(
                self._counts.items(), key=lambda pair: (pair[0][0] or "~", pair[0][2])
            )
        )

    def ages(self) -> tuple[AgeBucket, ...]:
        """As the report has them, the oldest first. What claims to be from long before or after is at the end."""
        axis, items = self._axis, dict[tuple[int, str | None, str], int]()
        for (kid, _, outcome), count in self._counts.items():
            # Of claimed times the newest first: that is where those rows are that somebody still writes.
            for bucket, some in sorted(count.by_age.items(), reverse=True):
                at = bucket if count.axis is axis else axis.reach(bucket * count.axis.width_s)
                items[at, kid, outcome] = items.get((at, kid, outcome), 0) + some
        width = axis.width_s
        return tuple(
            AgeBucket(start=at * width, end=(at + 1) * width, kid=kid, outcome=outcome, items=some)
            for (at, kid, outcome), some in sorted(
                items.items(), key=lambda one: (one[0][0], one[0][1] or "~", one[0][2])
            )
        )


def rows_by_suite(groups: Iterable[Group]) -> dict[int, int]:
    """How many rows name which suite."""
    rows: Counter[int] = Counter()
    for group in groups:
        if group.version is not None:
            rows[group.version] += group.items
    return dict(sorted(rows.items()))

"""Counts of a whole store in little memory: rows by kid, version and outcome, and sessions in each."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.kids import shown_kid
from .classified_row import ClassifiedRow
from .distinct_counter import DistinctCounter
from .reports import Group

__all__ = ["MOST_GROUPS", "Aggregation"]

#: Groups at most. Whoever writes to the store chooses the kids; further ones are counted without a name.
MOST_GROUPS = 300


@dataclass(slots=True)
class _GroupCount:
    items: int = 0
    size: int = 0
    oldest: int | None = None
    newest: int | None = None
    sessions: DistinctCounter = field(default_factory=DistinctCounter)

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
        """Whether there were more kids than groups are kept for."""

    def add(self, classified: ClassifiedRow) -> None:
        """One more row."""
        version = None if classified.envelope is None else classified.envelope.version
        count = self._counts.get((classified.kid, version, classified.outcome))
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

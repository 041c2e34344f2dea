"""Counts of a whole store in little memory: rows by kid, version and outcome, and sessions in each."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.envelope import VERSION
from ..core.outcomes import shown_kid
from .operation import ClassifiedRow
from .reports import Group, KeyUse

#: Groups at most. Whoever writes to the store chooses the kids; further ones are counted without a name.
MOST_GROUPS = 300

#: Hashes of session ids kept in each group. Up to twice so many sessions are counted exactly, more with an
#: error of some 3 % (the k smallest of n evenly spread numbers tell n).
_KEPT = 1_024
_LOWEST, _ALL = -(2**63), 2**64

#: Outcomes of rows that have been opened, so that their timestamps are proven.
PROVEN = ("ok", "expired", "not_yet_valid")
#: ... of rows that only their key opens.
_NEEDING = ("ok", "not_yet_valid", "key_disabled")
#: ... of rows that may need the key that they name.
IN_DOUBT = ("unknown_key", "expired_unverified", "not_opened")


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


class _Count:
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


class Groups:
    """Rows, counted by kid, version and outcome."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str | None, int | None, str], _Count] = {}
        self.too_many = False

    def add(self, classified: ClassifiedRow) -> None:
        """One more row."""
        version = None if classified.envelope is None else VERSION
        name = (classified.kid, version, classified.outcome)
        count = self._counts.get(name)
        if count is None:
            kid = shown_kid(classified.kid)
            if len(self._counts) >= MOST_GROUPS:
                kid, self.too_many = None, True
            count = self._counts.setdefault((kid, version, classified.outcome), _Count())
        count.add(classified)

    def told(self) -> tuple[Group, ...]:
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


def key_uses(groups: Iterable[Group], active_kid: str | None, held: Iterable[str], ttl: int | None) -> list[KeyUse]:
    """What needs each key: those that rows name, the active one, and those that the ring holds."""
    by_kid: dict[str, list[Group]] = {kid: [] for kid in (active_kid, *held) if kid is not None}
    for group in groups:
        if group.kid is not None:
            by_kid.setdefault(group.kid, []).append(group)
    uses = []
    for kid, named in by_kid.items():
        needing = [group for group in named if group.outcome in _NEEDING]
        newest = max((group.newest for group in needing if group.newest is not None), default=None)
        proven = all(group.outcome in PROVEN for group in needing)
        uses.append(
            KeyUse(
                kid=kid,
                active=kid == active_kid,
                needed_by=sum(group.items for group in needing),
                unproven=sum(group.items for group in named if group.outcome in IN_DOUBT),
                newest=newest if proven else None,
                free_from=None if ttl is None or newest is None or not proven else newest + ttl + 1,
            )
        )
    return uses

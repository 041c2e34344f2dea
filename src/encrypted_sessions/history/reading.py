"""From stored rows to items: walk a history backwards, say what was found."""

from __future__ import annotations

from ..stores.access import Cursor
from ..stores.rows import Row
from .classified import HistoryWalk, ReadPolicy
from .pairing import unpaired
from .plainly_ok import ReadingClassifier
from .results import Classification, OutcomeCounts

__all__ = ["EXPIRED_FOR_SURE_S", "EXPIRED_ROWS_THAT_END_A_SEARCH", "FoundItems", "read_items"]

#: A search backwards with a limit ends after so many rows in a row ...
EXPIRED_ROWS_THAT_END_A_SEARCH = 64
#: ... that expired more than this many seconds ago: clocks and long batches differ by less.
EXPIRED_FOR_SURE_S = 120

#: Rows opened at once: of most of them nothing is made but their items.
_GROUP = 128

_ONLY_ITEMS = frozenset({dict})


class FoundItems:
    """The items of a history, oldest first, what else was met, and the newest row."""

    __slots__ = ("counts", "items", "newest")

    def __init__(self, items: list[dict[str, object]], counts: OutcomeCounts, newest: Row | None) -> None:
        self.items = items
        self.counts = counts
        self.newest = newest

    def __repr__(self) -> str:
        return f"FoundItems({len(self.items)} items, {self.counts.outcomes()!r})"


async def read_items(
    cursor: Cursor,
    classifier: ReadingClassifier,
    policy: ReadPolicy,
    *,
    limit: int | None,
    budget: int | None = None,
) -> FoundItems:
    """Walk backwards from the newest row until `limit` items are found, or to the oldest row.

    With a limit, the walk also ends after 64 consecutive rows that expired more than two minutes
    ago. `budget` bounds the rows fetched: ScanBudgetError when it is used up before the end.
    """
    counts = OutcomeCounts()
    walk = HistoryWalk(
        cursor,
        classifier,
        then_at_least=EXPIRED_ROWS_THAT_END_A_SEARCH,
        budget=budget,
    )
    items: list[dict[str, object]] = []  # newest first, until the end
    not_ok: dict[int, str] = {}  # which of them, and what they are instead: plaintext that was let in
    newer_than_gap = 0  # items newer than the oldest row that was left out
    long_expired = 0
    ended_early = False

    while not (walk.is_complete() or ended_early) and (limit is None or len(items) < limit):
        wanted = None if limit is None else limit - len(items)
        group = await classifier.read(await walk.take(wanted, group=_GROUP))
        if _ONLY_ITEMS.issuperset(map(type, group)):  # as nearly always: all at once
            counts.add_ok(len(group))
            items += group  # type: ignore[arg-type]  # as was seen
            long_expired = 0
            continue
        for one in group:
            classification = one if isinstance(one, Classification) else Classification("ok", None, one)
            counts.add(classification)
            if classification.item is not None:
                if classification.outcome != "ok":
                    not_ok[len(items)] = classification.outcome
                items.append(classification.item)
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

    items.reverse()
    newest = len(items) - 1
    since = 0 if ended_early else len(items) - newer_than_gap
    if since <= newest:
        lost = unpaired(items, since=since)
        for index in sorted(lost, reverse=True):
            counts.move(not_ok.get(newest - index, "ok"), to="unpaired")
            del items[index]
    return FoundItems(items, counts, walk.newest)


def _expired_for_sure(classification: Classification, policy: ReadPolicy) -> bool:
    assert classification.envelope is not None  # noqa: S101 - an expired row has been opened
    # By the ttl, older rows have expired too. The end that a writer gave one row says nothing of others.
    ttl = policy.ttl
    return ttl is not None and policy.now - EXPIRED_FOR_SURE_S > classification.envelope.timestamp + ttl

"""Remove the newest item, and never one that cannot be read.

Where rows are addressable: classify rows from the newest on, then remove in one step what is due, if
nothing changed meanwhile. Two processes never get the same item, and a process that is killed has
removed an item only together with those expired after it. Tasks of one event loop remove theirs in one step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from ..events.listening import running
from ..stores.plain import PlainStore
from ..stores.rows import HistoryMovedError, Row
from .guarded import GuardedRows
from .popped import count, opened, put_back_row, refusal
from .popping_among import pop_among
from .popping_plain import pop_plain
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory, start_again_while_it_moves
from .turns import Along, Turn, turn_of

__all__ = ["pop"]

#: Expired rows removed in one step; a longer heap takes several.
_REMOVED_AT_ONCE = 256

#: How many may go along with the pop that has its turn.
_MOST_ALONG = 31

#: How often others may take it, which is half a minute: then they never leave it time.
_MOST_CONFLICTS = 200


async def pop(history: SealedHistory, keywords: dict[str, Any]) -> dict[str, object] | None:
    """The newest item, removed; None when there is none.

    Raises UnreadableItemsError for a newest row that cannot be read, and what the key provider
    raises when it cannot answer: then nothing was removed but expired rows.
    """
    if isinstance(history.rows, PlainStore):
        return await pop_plain(history, keywords)
    turn = turn_of(history, history.rows)
    alone = False
    while True:
        async with turn.taken(alone=alone) as along:
            if along is None:
                return await _pop_row(history, history.rows, turn)
            item = await _pop_along(history, history.rows, along, turn)
            if item is not None:
                return item
            alone = not along.is_coming  # what its row is has to be looked at again, or said


class _PopCandidate:
    """What a pop is to remove from the end of a history, and what stopped the walk."""

    def __init__(self) -> None:
        self.counts = OutcomeCounts()
        self.newest: Row | None = None
        self.due: list[Row] = []
        self.item: dict[str, object] | None = None
        self.unreadable: Classification | None = None
        self.complete = False
        self.ahead: list[Row] = []
        """Rows that come next if `due` is the newest row alone, and an item."""


async def _pop_row(history: SealedHistory, rows: GuardedRows, turn: Turn) -> dict[str, object] | None:
    conflicts = 0
    looks_at_one = True

    async def find_and_remove() -> _PopCandidate:
        nonlocal conflicts, looks_at_one
        # What the answer to a conflict told of the new tail is worth a try at once, and after a pause it is old.
        if conflicts and await turn.contention.pause():
            turn.note(())
        # One look for all who wait is worth more than none for one of them.
        others = 0 if conflicts else min(turn.waiting(), _MOST_ALONG)
        told = turn.newest()
        conflicts += 1
        if turn.contention.is_there and rows.removes_one_of() and not others:
            among = _PopCandidate()
            among.item = await pop_among(history, rows, turn, told)
            if among.item is not None:
                return among
            told = ()
        found = await _newest(history, rows, told) if not others and (told or looks_at_one) else None
        if found is None:
            looks_at_one = False  # a walk finds what it has not
            found = await _find_candidate(history, others)
        if found.due and found.newest is not None:
            await _remove_due(history, rows, found, found.newest, turn)
        return found

    while True:
        found = await start_again_while_it_moves(find_and_remove, _MOST_CONFLICTS)
        conflicts = 0
        if found.unreadable is not None:
            raise refusal(history, found.unreadable, found.counts)
        if found.item is not None or found.complete:
            return found.item
        # Expired rows are gone now, as many as go in one step: what lies before them is next.


async def _remove_due(history: SealedHistory, rows: GuardedRows, found: _PopCandidate, newest: Row, turn: Turn) -> None:
    """Remove what was found, with the rows of those who go along. Raises HistoryMovedError if others were first."""
    along = await turn.go_along(found.ahead)
    removal = rows.remove_together(found.due, newest, along) if along else rows.remove(found.due, newest)
    removed = await _remove(history, rows, removal, found, turn)
    foreseen = rows.foreseen()
    turn.note(() if foreseen is None else (foreseen,))
    if not removed:
        turn.contention.lost()
        raise HistoryMovedError
    turn.contention.won()


async def _pop_along(history: SealedHistory, rows: GuardedRows, along: Along, turn: Turn) -> dict[str, object] | None:
    """The item in one's row, if whoever has the turn removes it with their own."""
    operation = running()
    counted = None if operation is None else operation.tally()
    found = await _foreseen(history, along.row)
    if found is not None and not along.ended.done():
        along.is_coming = True
        if await _remove(history, rows, rows.removed_along(along), found, turn, along):
            return found.item
    if operation is not None:
        operation.back_to(counted)
    return None


async def _newest(history: SealedHistory, rows: GuardedRows, told: Sequence[Row]) -> _PopCandidate | None:
    """The newest row, as an answer told it or as it is now. If it is an item, as nearly always, no walk is needed.

    None for what is to be walked over.
    """
    if told:
        return await _foreseen(history, told[0])
    found = _PopCandidate()
    looked_at = await rows.page(None, 1)
    if not looked_at:
        found.complete = True
        return found
    found.newest = row = looked_at[0]
    classification = await history.classifier(counts=False).classify_one(row)
    if classification.item is not None:
        found.due, found.item = [row], classification.item
    elif classification.outcome == "expired" or classification.outcome in history.passed_over:
        return None
    else:
        found.counts.add(classification)
        found.unreadable = classification
    count(classification)
    return found


async def _foreseen(history: SealedHistory, row: Row) -> _PopCandidate | None:
    """What an answer of the store said is the newest row, if that is an item: no look is needed to try to remove it."""
    found = _PopCandidate()
    for classification in await opened(history, [row]):
        count(classification)
        found.newest, found.due, found.item = row, [row], classification.item
        return found
    return None


async def _remove(
    history: SealedHistory,
    rows: GuardedRows,
    removal: Awaitable[bool],
    found: _PopCandidate,
    turn: Turn,
    along: Along | None = None,
) -> bool:
    """Wait for the removal of what was found, whose item goes back if nobody is there to receive it."""

    async def undo(removed: bool) -> None:  # noqa: FBT001 - the result of `remove`
        if removed and found.item is not None:
            await put_back_row(history, rows, found.due[-1], found.item, turn, along)

    return await history.changes.finish("pop_item", removal, undo)


async def _find_candidate(history: SealedHistory, others: int) -> _PopCandidate:
    """What is to be removed, and what lies before it: a row for each of so many others."""
    found = _PopCandidate()
    walk = history.walk({}, first=1 + others, then_at_least=_REMOVED_AT_ONCE)
    while len(found.due) < _REMOVED_AT_ONCE and not walk.is_complete():
        for row, classification in await walk.advance(1):
            found.newest = walk.newest
            found.counts.add(classification)
            if classification.item is not None:
                if not found.due:
                    found.ahead = walk.fetched_ahead()
                found.due.append(row)
                found.item = classification.item
                return found
            if classification.outcome == "expired":
                found.due.append(row)
            elif classification.outcome not in history.passed_over:
                found.unreadable = classification
                return found
    found.complete = walk.is_complete()
    return found

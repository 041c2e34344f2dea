"""Remove the newest item, and never one that cannot be read.

Where rows are addressable: classify rows from the newest on, then remove in one step what is due, if
nothing changed meanwhile. Two processes never get the same item, and a process that is killed has
removed an item only together with those expired after it. Elsewhere: let the store pop, and put
back what does not open.
"""

from __future__ import annotations

from typing import Any

from keyproviders import KeyProviderError

from .._support.lots import pause_by_lot
from ..core.exact_json import decode_json
from ..errors import PutBackError, UnreadableItemsError
from ..events.listening import running
from ..stores.plain import PlainStore
from ..stores.rows import HistoryMovedError, Row, RowStore
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory, start_again_while_it_moves
from .turns import Turn, turn_of

__all__ = ["pop"]

#: Expired rows removed in one step; a longer heap takes several.
_REMOVED_AT_ONCE = 256

#: How many may go along with the pop that has its turn.
_MOST_ALONG = 31

#: How often the pause of a pop doubles, by which others go first who took the newest row before it.
_DOUBLINGS = 5

#: How often others may take it, which is half a minute: then they never leave it time.
_MOST_CONFLICTS = 200


async def pop(history: SealedHistory, keywords: dict[str, Any]) -> dict[str, object] | None:
    """The newest item, removed; None when there is none.

    Raises UnreadableItemsError for a newest row that cannot be read, and what the key provider
    raises when it cannot answer: then nothing was removed but expired rows.
    """
    if isinstance(history.rows, PlainStore):
        return await _pop_whole(history, keywords)
    turn = turn_of(history, history.rows)
    async with turn.taken() as row:
        if row is None:
            return await _pop_row(history, history.rows, turn)
        item = await _pop_along(history, history.rows, row, turn)
        if item is not None:
            return item
    async with turn.taken(alone=True):
        return await _pop_row(history, history.rows, turn)


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


async def _pop_row(history: SealedHistory, rows: RowStore, turn: Turn) -> dict[str, object] | None:
    conflicts = 0
    looks_at_one = True

    async def find_and_remove() -> _PopCandidate:
        nonlocal conflicts, looks_at_one
        if conflicts > 1:
            # What the answer to a first conflict told of the new tail is worth a try at once. If all went on so, they
            # would only hinder each other: of those who wait by lot one gets through.
            await pause_by_lot(2 ** min(conflicts - 2, _DOUBLINGS))
            turn.note(None)
        # One look for all who wait is worth more than none for one of them.
        others = min(turn.waiting(), _MOST_ALONG) if rows.is_asked_in_order() and not conflicts else 0
        told = turn.newest()
        found = None
        if not others and (told is not None or looks_at_one):
            found = await _newest(history, rows, told)
        if found is None:
            looks_at_one = False  # a walk finds what it has not
            found = await _find_candidate(history, others)
            turn.go_along(found.ahead)
        conflicts += 1
        if found.due and found.newest is not None:
            removed = await _remove(history, rows, found, found.newest, turn)
            turn.note(rows.foreseen())
            if not removed:
                raise HistoryMovedError
        return found

    while True:
        found = await start_again_while_it_moves(find_and_remove, _MOST_CONFLICTS)
        conflicts = 0
        if found.unreadable is not None:
            raise _refusal(history, found.unreadable, found.counts)
        if found.item is not None or found.complete:
            return found.item
        # Expired rows are gone now, as many as go in one step: what lies before them is next.


async def _pop_along(history: SealedHistory, rows: RowStore, row: Row, turn: Turn) -> dict[str, object] | None:
    """The item that comes next once those before are gone, removed; None where it does not come out like that."""
    operation = running()
    counted = None if operation is None else operation.tally()
    found = await _foreseen(history, row)
    if found is not None and await _remove(history, rows, found, row, turn, row):
        return found.item
    if operation is not None:
        operation.back_to(counted)
    return None


async def _newest(history: SealedHistory, rows: RowStore, told: Row | None) -> _PopCandidate | None:
    """The newest row, as an answer told it or as it is now. If it is an item, as nearly always, no walk is needed.

    None for what is to be walked over.
    """
    if told is not None:
        return await _foreseen(history, told)
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
    _count(classification)
    return found


async def _foreseen(history: SealedHistory, row: Row) -> _PopCandidate | None:
    """What an answer of the store said is the newest row, if that is an item: no look is needed to try to remove it.

    Anything else may be true no more, and is looked at.
    """
    try:
        # Others may begin with the rows before this one as soon as they get a turn.
        classification = await history.classifier(counts=False).classify_one(row)
    except KeyProviderError:
        return None
    if classification.item is None:
        return None
    _count(classification)
    found = _PopCandidate()
    found.newest, found.due, found.item = row, [row], classification.item
    return found


async def _remove(
    history: SealedHistory, rows: RowStore, found: _PopCandidate, newest: Row, turn: Turn, along: Row | None = None
) -> bool:
    async def undo(removed: bool) -> None:  # noqa: FBT001 - the result of `remove`
        if removed and found.item is not None:
            await turn.older_have_left(along)
            data = found.due[-1].data
            taken: Any = decode_json(data) if isinstance(data, (str, bytes)) else data
            (stored,) = rows.stored_as([taken], [found.item])
            await _put_back(history, stored, {})

    return await history.changes.finish("pop_item", rows.remove(found.due, newest), undo)


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


async def _pop_whole(history: SealedHistory, keywords: dict[str, Any]) -> dict[str, object] | None:
    while True:
        # A look first: what cannot be read is then not even popped, unless it came in between.
        for row in await history.cursor(keywords).fetch(1):
            await _refuse_unreadable(history, row, is_first_look=True)
        stored, classification = await _pop_or_put_back(history, keywords)
        if stored is None or classification.item is not None:
            return classification.item


async def _pop_or_put_back(history: SealedHistory, keywords: dict[str, Any]) -> tuple[object, Classification]:
    """What the store popped, and what it is. A caller that was cancelled gets nothing: back it goes."""

    async def pop_what_opens() -> tuple[object, Classification]:
        stored = await history.store.pop_item(**keywords)
        if stored is None:
            return None, Classification("ok")
        try:
            return stored, await _refuse_unreadable(history, Row(None, stored))
        except BaseException:
            await _put_back(history, stored, keywords)
            raise

    async def undo(popped: tuple[object, Classification]) -> None:
        stored, classification = popped
        if classification.item is not None:
            await _put_back(history, stored, keywords)

    return await history.changes.finish("pop_item", pop_what_opens(), undo)


async def _refuse_unreadable(history: SealedHistory, row: Row, *, is_first_look: bool = False) -> Classification:
    (classification,) = await history.classifier(counts=not is_first_look).classify([row])
    if classification.item is None and classification.outcome != "expired":
        if is_first_look:  # and the last: it counts
            _count(classification)
        counts = OutcomeCounts()
        counts.add(classification)
        raise _refusal(history, classification, counts)
    return classification


async def _put_back(history: SealedHistory, stored: Any, keywords: dict[str, Any]) -> None:
    try:
        await history.store.add_items([stored], **keywords)
    except Exception as error:
        raise PutBackError(
            "pop_item took an item from the store but could not return it, and the store did not accept"
            f" it back ({type(error).__name__}). This error's attribute `stored` has it as it was stored: add it with"
            " session.underlying_session.add_items([error.stored])",
            stored=stored,
        ) from error
    operation = running()
    if operation is not None:
        operation.put_back(1)


def _count(classification: Classification) -> None:
    """Have the running operation know of a row that its walk has not counted."""
    operation = running()
    if operation is not None:
        operation.judged([classification], 0)


def _refusal(history: SealedHistory, classification: Classification, counts: OutcomeCounts) -> UnreadableItemsError:
    return history.log.refusal(
        counts,
        {classification.outcome: counts.count(classification.outcome)},
        consequence="It is the next to pop, and it stays where it is.",
        ways_out="pop_item removes only items that it can read, whatever on_unreadable is.",
    )

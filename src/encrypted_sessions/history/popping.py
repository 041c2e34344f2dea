"""Remove the newest item, and never one that cannot be read.

Where rows are addressable: classifier rows from the newest on, then remove in one step what is due, if
nothing changed meanwhile. Two processes never get the same item, and a process that is killed has
removed an item only together with those expired after it. Elsewhere: let the store pop, and put
back what does not open.
"""

from __future__ import annotations

from typing import Any

from .._support.shielding import shield
from ..core.exact_json import decode_json
from ..core.outcomes import PASSED_OVER, Classification, OutcomeCounts
from ..errors import PutBackError, UnreadableItemsError
from ..stores import HistoryMovedError, PlainStore, Row, RowStore
from ..stores.plain import call
from .sealed_history import SealedStore, start_again_while_it_moves

#: Expired rows removed in one step; a longer heap takes several.
_REMOVED_AT_ONCE = 256


async def pop(store: SealedStore, keywords: dict[str, Any]) -> dict[str, object] | None:
    """The newest item, removed; None when there is none.

    Raises UnreadableItemsError for a newest row that cannot be read, and what the key provider
    raises when it cannot answer: then nothing was removed but expired rows.
    """
    if isinstance(store.rows, PlainStore):
        return await _pop_whole(store, keywords)
    return await _pop_row(store, store.rows)


class _Tail:
    """The end of a history: what is due to be removed, and what stopped the walk."""

    def __init__(self) -> None:
        self.counts = OutcomeCounts()
        self.newest: Row | None = None
        self.due: list[Row] = []
        self.item: dict[str, object] | None = None
        self.unreadable: Classification | None = None
        self.complete = False


async def _pop_row(store: SealedStore, rows: RowStore) -> dict[str, object] | None:
    async def classify_and_remove() -> _Tail:
        tail = await _classify_tail(store)
        if tail.due and tail.newest is not None and not await _remove(store, rows, tail, tail.newest):
            raise HistoryMovedError
        return tail

    while True:
        tail = await start_again_while_it_moves(classify_and_remove)
        if tail.unreadable is not None:
            raise _refusal(tail.unreadable, tail.counts)
        if tail.item is not None or tail.complete:
            return tail.item
        # Expired rows are gone now, as many as go in one step: what lies before them is next.


async def _remove(store: SealedStore, rows: RowStore, tail: _Tail, newest: Row) -> bool:
    async def undo(removed: bool) -> None:  # noqa: FBT001 - the result of `remove`
        if removed and tail.item is not None:
            data = tail.due[-1].data
            await _put_back(store, decode_json(data) if isinstance(data, (str, bytes)) else data, {})

    return await shield(rows.remove(tail.due, newest), undo)


async def _classify_tail(store: SealedStore) -> _Tail:
    tail = _Tail()
    cursor, classifier = store.cursor({}), store.classifier()
    while len(tail.due) < _REMOVED_AT_ONCE:
        for row in await cursor.fetch(1 if tail.newest is None else _REMOVED_AT_ONCE):
            tail.newest = tail.newest or row
            # One by one: a key is asked for only when its row comes up.
            (classification,) = await classifier.classify([row])
            tail.counts.add(classification)
            if classification.item is not None:
                tail.due.append(row)
                tail.item = classification.item
                return tail
            if classification.outcome == "expired":
                tail.due.append(row)
            elif classification.outcome not in PASSED_OVER:
                tail.unreadable = classification
                return tail
        if cursor.exhausted:
            tail.complete = True
            return tail
    return tail


async def _pop_whole(store: SealedStore, keywords: dict[str, Any]) -> dict[str, object] | None:
    while True:
        # A look first: what cannot be read is then not even popped, unless it came in between.
        for row in await store.cursor(keywords).fetch(1):
            await _refuse_unreadable(store, row)
        stored, classification = await _pop_or_put_back(store, keywords)
        if stored is None or classification.item is not None:
            return classification.item


async def _pop_or_put_back(store: SealedStore, keywords: dict[str, Any]) -> tuple[object, Classification]:
    """What the store popped, and what it is. A caller that was cancelled gets nothing: back it goes."""

    async def pop_what_opens() -> tuple[object, Classification]:
        stored = await call(store.session.pop_item, **keywords)
        if stored is None:
            return None, Classification("ok")
        try:
            return stored, await _refuse_unreadable(store, Row(None, stored))
        except BaseException:
            await _put_back(store, stored, keywords)
            raise

    async def undo(popped: tuple[object, Classification]) -> None:
        stored, classification = popped
        if classification.item is not None:
            await _put_back(store, stored, keywords)

    return await shield(pop_what_opens(), undo)


async def _refuse_unreadable(store: SealedStore, row: Row) -> Classification:
    (classification,) = await store.classifier().classify([row])
    if classification.item is None and classification.outcome != "expired":
        counts = OutcomeCounts()
        counts.add(classification)
        raise _refusal(classification, counts)
    return classification


async def _put_back(store: SealedStore, stored: Any, keywords: dict[str, Any]) -> None:
    try:
        await call(store.session.add_items, [stored], **keywords)
    except Exception as error:
        raise PutBackError(
            "pop_item took an item from the store, could not return it, and the store did not take it back"
            f" ({type(error).__name__}). It is, as it was stored, this error's attribute `stored`: add it with"
            " session.underlying_session.add_items([error.stored])",
            stored=stored,
        ) from error


def _refusal(classification: Classification, counts: OutcomeCounts) -> UnreadableItemsError:
    return UnreadableItemsError.of(
        counts.outcomes(),
        counts.findings,
        raising=(classification.outcome,),
        consequence="It is the next to pop, and it stays where it is.",
        ways_out="pop_item removes only what it can read, whatever on_unreadable says.",
    )

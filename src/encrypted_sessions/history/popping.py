"""Remove the newest item, and never one that cannot be read.

Where rows are addressable: judge rows from the newest on, then remove in one step what is due, if
nothing changed meanwhile. Two processes never get the same item, and a process that is killed has
removed an item only together with those expired after it. Elsewhere: let the store pop, and put
back what does not open.
"""

from __future__ import annotations

from typing import Any

from .._support.shielding import settle
from ..core.exact_json import decode_json
from ..core.outcomes import PASSED_OVER, Tally, Verdict
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
        self.tally = Tally()
        self.newest: Row | None = None
        self.due: list[Row] = []
        self.item: dict[str, object] | None = None
        self.unreadable: Verdict | None = None
        self.complete = False


async def _pop_row(store: SealedStore, rows: RowStore) -> dict[str, object] | None:
    async def judge_and_remove() -> _Tail:
        tail = await _judge_tail(store)
        if tail.due and tail.newest is not None and not await _remove(store, rows, tail, tail.newest):
            raise HistoryMovedError
        return tail

    while True:
        tail = await start_again_while_it_moves(judge_and_remove)
        if tail.unreadable is not None:
            raise _refusal(tail.unreadable, tail.tally)
        if tail.item is not None or tail.complete:
            return tail.item
        # Expired rows are gone now, as many as go in one step: what lies before them is next.


async def _remove(store: SealedStore, rows: RowStore, tail: _Tail, newest: Row) -> bool:
    async def undo(removed: bool) -> None:  # noqa: FBT001 - the result of `remove`
        if removed and tail.item is not None:
            data = tail.due[-1].data
            await _put_back(store, decode_json(data) if isinstance(data, (str, bytes)) else data, {})

    return await settle(rows.remove(tail.due, newest), undo)


async def _judge_tail(store: SealedStore) -> _Tail:
    tail = _Tail()
    cursor, judge = store.cursor({}), store.judge()
    while len(tail.due) < _REMOVED_AT_ONCE:
        for row in await cursor.fetch(1 if tail.newest is None else _REMOVED_AT_ONCE):
            tail.newest = tail.newest or row
            # One by one: a key is asked for only when its row comes up.
            (verdict,) = await judge.verdicts([row])
            tail.tally.add(verdict)
            if verdict.item is not None:
                tail.due.append(row)
                tail.item = verdict.item
                return tail
            if verdict.outcome == "expired":
                tail.due.append(row)
            elif verdict.outcome not in PASSED_OVER:
                tail.unreadable = verdict
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
        stored, verdict = await _pop_or_put_back(store, keywords)
        if stored is None or verdict.item is not None:
            return verdict.item


async def _pop_or_put_back(store: SealedStore, keywords: dict[str, Any]) -> tuple[object, Verdict]:
    """What the store popped, and what it is. A caller that was cancelled gets nothing: back it goes."""

    async def pop_what_opens() -> tuple[object, Verdict]:
        stored = await call(store.session.pop_item, **keywords)
        if stored is None:
            return None, Verdict("ok")
        try:
            return stored, await _refuse_unreadable(store, Row(None, stored))
        except BaseException:
            await _put_back(store, stored, keywords)
            raise

    async def undo(popped: tuple[object, Verdict]) -> None:
        stored, verdict = popped
        if verdict.item is not None:
            await _put_back(store, stored, keywords)

    return await settle(pop_what_opens(), undo)


async def _refuse_unreadable(store: SealedStore, row: Row) -> Verdict:
    (verdict,) = await store.judge().verdicts([row])
    if verdict.item is None and verdict.outcome != "expired":
        tally = Tally()
        tally.add(verdict)
        raise _refusal(verdict, tally)
    return verdict


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


def _refusal(verdict: Verdict, tally: Tally) -> UnreadableItemsError:
    return UnreadableItemsError.of(
        tally.outcomes(),
        tally.findings,
        raising=(verdict.outcome,),
        consequence="It is the next to pop, and it stays where it is.",
        ways_out="pop_item removes only what it can read, whatever on_unreadable says.",
    )

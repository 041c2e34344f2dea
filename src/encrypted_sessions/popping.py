"""Remove the newest item, and never one that cannot be read.

Where rows are addressable: judge rows from the newest on, then remove in one step what is due, if
nothing changed meanwhile. Two processes never get the same item, and a process that is killed has
removed an item only together with those expired after it. Elsewhere: let the store pop, and put
back what does not open.
"""

from __future__ import annotations

import asyncio
from typing import Any

from encrypted_sessions.errors import UnreadableItemsError
from encrypted_sessions.outcomes import PASSED_OVER, Tally, Verdict
from encrypted_sessions.reading import Breather, judge
from encrypted_sessions.rows import HistoryMovedError, PlainStore, Row, RowStore
from encrypted_sessions.rows.plain import call
from encrypted_sessions.sealed_store import ATTEMPTS, SealedStore, always_changing
from encrypted_sessions.settling import settle

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
    for _ in range(ATTEMPTS):
        try:
            tail = await _judge_tail(store)
        except HistoryMovedError:
            await asyncio.sleep(0)
            continue
        if tail.due and tail.newest is not None and not await settle(rows.remove(tail.due, tail.newest)):
            await asyncio.sleep(0)
            continue
        if tail.unreadable is not None:
            raise _refusal(tail.unreadable, tail.tally)
        if tail.item is not None or tail.complete:
            return tail.item
    raise always_changing()


async def _judge_tail(store: SealedStore) -> _Tail:
    tail = _Tail()
    cursor = store.cursor({})
    terms, breather = store.terms(), Breather()
    while len(tail.due) < _REMOVED_AT_ONCE:
        for row in await cursor.fetch(1 if tail.newest is None else _REMOVED_AT_ONCE):
            tail.newest = tail.newest or row
            # One by one: a key is asked for only when its row comes up.
            (verdict,) = await judge([row], store.keychain, terms, breather)
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
        stored, verdict = await _pop_or_put_back(store, keywords)
        if stored is None or verdict.item is not None:
            return verdict.item


async def _pop_or_put_back(store: SealedStore, keywords: dict[str, Any]) -> tuple[object, Verdict]:
    """What the store popped, and what it is. A caller that was cancelled gets nothing: back it goes."""
    popping = asyncio.ensure_future(_pop_what_opens(store, keywords))
    try:
        return await settle(popping)
    except asyncio.CancelledError:
        if not popping.cancelled() and popping.exception() is None:
            stored, verdict = popping.result()
            if verdict.item is not None:
                await settle(_put_back(store, stored, keywords))
        raise


async def _pop_what_opens(store: SealedStore, keywords: dict[str, Any]) -> tuple[object, Verdict]:
    stored = await call(store.session.pop_item, **keywords)
    if stored is None:
        return None, Verdict("ok")
    try:
        (verdict,) = await judge([Row(None, stored)], store.keychain, store.terms(), Breather())
    except BaseException:
        await _put_back(store, stored, keywords)
        raise
    if verdict.item is None and verdict.outcome != "expired":
        await _put_back(store, stored, keywords)
        tally = Tally()
        tally.add(verdict)
        raise _refusal(verdict, tally)
    return stored, verdict


async def _put_back(store: SealedStore, stored: object, keywords: dict[str, Any]) -> None:
    await call(store.session.add_items, [stored], **keywords)


def _refusal(verdict: Verdict, tally: Tally) -> UnreadableItemsError:
    return UnreadableItemsError.of(
        tally.outcomes(),
        tally.findings,
        raising=(verdict.outcome,),
        consequence="It is the next to pop, and it stays where it is.",
        ways_out="pop_item removes only what it can read, whatever on_unreadable says.",
    )

"""Pop from a store without addressable rows: let the store pop, and put back what does not open."""

from __future__ import annotations

from typing import Any

from ..stores.rows import Row
from .popped import count, put_back, refusal
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory

__all__ = ["pop_plain"]


async def pop_plain(history: SealedHistory, keywords: dict[str, Any]) -> dict[str, object] | None:
    """The newest item, as the store pops it, and put back if it does not open."""
    while True:
        # A look first: what cannot be read is then not even popped, unless it came in between.
        for row in await history.cursor(keywords).fetch(1):
            await _refuse_unreadable(history, row, is_first_look=True)
        stored, classification = await _pop_orput_back(history, keywords)
        if stored is None or classification.item is not None:
            return classification.item


async def _pop_orput_back(history: SealedHistory, keywords: dict[str, Any]) -> tuple[object, Classification]:
    """What the store popped, and what it is. A caller that was cancelled gets nothing: back it goes."""

    async def pop_what_opens() -> tuple[object, Classification]:
        stored = await history.store.pop_item(**keywords)
        if stored is None:
            return None, Classification("ok")
        try:
            return stored, await _refuse_unreadable(history, Row(None, stored))
        except BaseException:
            await put_back(history, stored, keywords)
            raise

    async def undo(popped: tuple[object, Classification]) -> None:
        stored, classification = popped
        if classification.item is not None:
            await put_back(history, stored, keywords)

    return await history.changes.finish("pop_item", pop_what_opens(), undo)


async def _refuse_unreadable(history: SealedHistory, row: Row, *, is_first_look: bool = False) -> Classification:
    (classification,) = await history.classifier(counts=not is_first_look).classify([row])
    if classification.item is None and classification.outcome != "expired":
        if is_first_look:  # and the last: it counts
            count(classification)
        counts = OutcomeCounts()
        counts.add(classification)
        raise refusal(history, classification, counts)
    return classification

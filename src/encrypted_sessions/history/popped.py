"""What became of a row that was popped: counted, refused, or put back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from keyproviders import KeyProviderError

from ..core.exact_json import decode_json
from ..errors import PutBackError, UnreadableItemsError
from ..events.listening import running
from ..stores.rows import Row
from .guarded import GuardedRows
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory
from .turns import Along, Turn

__all__ = ["count", "opened", "put_back", "put_back_row", "refusal"]


async def opened(history: SealedHistory, rows: Sequence[Row]) -> list[Classification]:
    """What rows are that are said to be the newest, or to come next, as far as they are items. They do not count yet.

    Anything else may be true no more, and is looked at: so no place is asked for a key here, nor does anybody wait.
    """
    try:
        found = await history.classifier(counts=False, asks=False).classify_few(rows)
    except KeyProviderError:
        return []
    return list(takewhile(lambda one: one.item is not None, found))


async def put_back_row(
    history: SealedHistory, rows: GuardedRows, row: Row, item: object, turn: Turn, along: Along | None = None
) -> None:
    """Add a row again that was removed for nobody, after those of others that are older."""
    await turn.older_have_left(along)
    taken: Any = decode_json(row.data) if isinstance(row.data, (str, bytes)) else row.data
    (stored,) = rows.stored_as([taken], [item])
    try:
        await put_back(history, stored, {})
    finally:
        turn.has_left(along)


async def put_back(history: SealedHistory, stored: Any, keywords: dict[str, Any]) -> None:
    """Add an item again, as it was stored, that nobody received."""
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


def count(classification: Classification) -> None:
    """Have the running operation know of a row that its walk has not counted."""
    operation = running()
    if operation is not None:
        operation.judged([classification], 0)


def refusal(history: SealedHistory, classification: Classification, counts: OutcomeCounts) -> UnreadableItemsError:
    """The error for a row that is not popped."""
    return history.log.refusal(
        counts,
        {classification.outcome: counts.count(classification.outcome)},
        consequence="It is the next to pop, and it stays where it is.",
        ways_out="pop_item removes only items that it can read, whatever on_unreadable is.",
    )

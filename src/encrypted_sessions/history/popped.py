"""What became of a row that was popped: counted, refused, or put back."""

from __future__ import annotations

from typing import Any

from ..errors import PutBackError, UnreadableItemsError
from ..events.listening import running
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory

__all__ = ["count", "put_back", "refusal"]


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

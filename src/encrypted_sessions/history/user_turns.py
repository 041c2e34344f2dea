"""The user's turns of one branch, opened in this process, oldest first: to be shown, and to be searched."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, cast

from ..errors import ScanBudgetError
from ..stores.sizes import PAGE
from ..stores.sqlite.branch_rows import BranchRows, UserMessage
from .classified import Classifier, TimeSlice
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory

__all__ = ["containing", "find_turns"]

#: The characters of a turn's content that are shown where it is shown in short.
SHOWN = 100

#: What tells whether a turn's content is looked for.
Wanted = Callable[[object], bool]


async def find_turns(
    history: SealedHistory,
    rows: BranchRows,
    counts: OutcomeCounts,
    *,
    wanted: Wanted | None = None,
    shown: int | None = None,
    first_alone: bool = False,
    budget: int | None = None,
) -> list[dict[str, Any]]:
    """The turns of a branch, as the SDK's class gives them; those `wanted`, if that is given.

    `counts` counts what was looked at. A turn whose question is not read is none. `shown` cuts the content
    that is shown in short.

    Raises ScanBudgetError, with what was found, when more than `budget` user messages would have to be opened,
    and what the store and the key provider raise.
    """
    turns: list[dict[str, Any]] = []
    time_slice = TimeSlice()
    async with aclosing(_opened(history, rows, budget, turns)) as pages:
        async for page in pages:
            for message, classification in page:
                counts.add(classification)
                if classification.item is None:
                    continue
                content = classification.item.get("content", "")
                if wanted is None or wanted(content):
                    turns.append(_turn(message, content, shown))
                    if first_alone:
                        return turns
                if time_slice.is_used_up():
                    await time_slice.checkpoint()
    return turns


async def _opened(
    history: SealedHistory, rows: BranchRows, budget: int | None, found: list[dict[str, Any]]
) -> AsyncGenerator[Iterable[tuple[UserMessage, Classification]], None]:
    classifier = cast("Classifier[Any]", history.classifier())  # which asks for a row's data, and for when it was added
    last: UserMessage | None = None
    left = budget
    while True:
        # One more than may be opened, to know whether there are more.
        count = PAGE if left is None else min(PAGE, left + 1)
        page: Sequence[UserMessage] = await history.calls.read(
            "read the user's messages", rows.user_messages, last, count, in_place=True
        )
        if not page:
            return
        exceeds = left is not None and len(page) > left
        opened = page[:left] if exceeds else page
        yield zip(opened, await classifier.classify(opened), strict=True)
        if exceeds:
            raise ScanBudgetError(
                f"max_scan_items: {budget} user messages were opened, and there are more in this branch. This"
                " error's attribute `found` has what was found in them. Raise max_scan_items, or search a shorter"
                " branch",
                found=found,
            )
        last = page[-1]
        left = None if left is None else left - len(page)


def containing(term: str) -> Wanted:
    """Whether a content has a text with `term` in it: letters of ASCII in either case, as SQLite's LIKE has it."""
    search = re.compile(re.escape(term), re.IGNORECASE | re.ASCII).search

    def contains(content: object) -> bool:
        if isinstance(content, str):
            return search(content) is not None
        return any(search(text) is not None for text in _texts_of_parts(content))

    return contains


def _texts_of_parts(content: object) -> list[str]:
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return []
    return [text for part in content if isinstance(text := part.get("text", ""), str)]


def _turn(message: UserMessage, content: Any, shown: int | None) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return {
        "turn": message.turn,
        "content": text if shown is None or len(text) <= shown else f"{text[:shown]}...",
        "full_content": content,
        "timestamp": message.created_at,
        "can_branch": True,
    }

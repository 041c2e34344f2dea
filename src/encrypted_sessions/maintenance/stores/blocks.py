"""A table cut into blocks by its primary key."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from encrypted_sessions.maintenance.stores.base import Block

#: The most ids in a block.
WIDTH = 5_000
LOWEST, HIGHEST = -(2**63), 2**63 - 1

#: The lowest and the highest id there is from one id to another, both included.
Extremes = Callable[[int, int], Awaitable[tuple[int, int] | None]]


async def blocks_of_ids(extremes: Extremes) -> AsyncIterator[Block]:
    """Ranges of ids that cover a table, halved until they are small enough, either half first.

    Long gaps between ids cost nothing, and nothing is kept but one way down the tree of halves.
    """
    whole = await extremes(LOWEST, HIGHEST)
    parts = [] if whole is None else [whole]
    while parts:
        found = await extremes(*parts.pop())
        if found is None:
            continue
        first, last = found
        if last - first < WIDTH:
            yield Block(first, last)
            continue
        middle = first + (last - first) // 2
        halves = [(first, middle), (middle + 1, last)]
        parts += halves if secrets.randbelow(2) else halves[::-1]
    if whole is None:
        yield Block(LOWEST, HIGHEST)
    elif whole[1] < HIGHEST:
        yield Block(whole[1] + 1, HIGHEST)

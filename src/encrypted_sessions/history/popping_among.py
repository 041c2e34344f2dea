"""Pop where others do so at the same time: open a few rows, and remove whichever of them is the newest then.

By the time that a row was opened, others have taken it, and perhaps the next one. What they left is opened already.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..stores.rows import HistoryMovedError, RemovedRow, Row
from .guarded import GuardedRows
from .popped import count, opened, put_back_row
from .sealed_history import SealedHistory
from .turns import Turn

__all__ = ["pop_among"]

#: How many of the newest rows are asked for.
_AHEAD = 4

#: And how many bytes these may have together: they are opened at once, and sent to the store again.
_MOST_BYTES = 2**16

_KID = re.compile(rb'"kid":\s*"([^"]*)')


async def pop_among(
    history: SealedHistory, rows: GuardedRows, turn: Turn, told: Sequence[Row]
) -> dict[str, object] | None:
    """The newest item, removed; None if the newest row is no small item, or there is none.

    `told` is what is known of the newest rows. Raises HistoryMovedError if others took, or added, so many rows that the
    newest one is none of those.
    """
    looked_at = _small_and_of_one_key((told or await rows.page(None, _AHEAD))[: turn.contention.ahead()])
    found = dict(zip(looked_at, await opened(history, looked_at), strict=False))
    if not found:
        return None

    async def undo(removed: RemovedRow) -> None:
        if removed.row is not None:
            await put_back_row(history, rows, removed.row, found[removed.row].item, turn)

    removed = await history.changes.finish("pop_item", rows.remove_one_of(list(found), _AHEAD), undo)
    turn.note(removed.newest)
    if removed.row is None:
        if removed.newest:
            turn.contention.lost()
        raise HistoryMovedError
    turn.contention.won(list(found).index(removed.row))
    count(found[removed.row])
    return found[removed.row].item


def _small_and_of_one_key(newest: Sequence[Row]) -> list[Row]:
    """Rows up to the first of another key than the newest has, which is asked for when it is its turn."""
    found: list[Row] = []
    left = _MOST_BYTES
    for row in newest:
        left -= len(row.data) if isinstance(row.data, bytes) else _MOST_BYTES
        if left < 0 or _kid_of(row.data) != _kid_of(newest[0].data):
            break
        found.append(row)
    return found


def _kid_of(data: object) -> bytes | None:
    """What a row names as its key, at a glance."""
    found = _KID.search(data) if isinstance(data, bytes) else None
    return None if found is None else found[1]

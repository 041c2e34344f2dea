"""Pop where others do so at the same time: open a few rows, and remove whichever of them is the newest then.

By the time that a row was opened, others have taken it, and perhaps the next one. What they left is opened already.
"""

from __future__ import annotations

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


async def pop_among(
    history: SealedHistory, rows: GuardedRows, turn: Turn, told: Sequence[Row]
) -> dict[str, object] | None:
    """The newest item, removed; None if the newest row is no small item, or there is none.

    `told` is what is known of the newest rows. Raises HistoryMovedError if others took, or added, so many rows that the
    newest one is none of those.
    """
    looked_at = _small((told or await rows.page(None, _AHEAD))[: turn.contention.ahead()])
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


def _small(newest: Sequence[Row]) -> list[Row]:
    """As many of the newest as are small together."""
    found: list[Row] = []
    left = _MOST_BYTES
    for row in newest:
        left -= len(row.data) if isinstance(row.data, bytes) else _MOST_BYTES
        if left < 0:
            break
        found.append(row)
    return found

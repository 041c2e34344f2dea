"""What rows are by their labels alone, for a run without keys."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.envelope import Envelope, parse_row
from ..history.classified import TimeSlice
from ..stores.whole import StoredRow
from .classified_row import ClassifiedRow

__all__ = ["LabelReader"]


class LabelReader:
    """Tells envelopes, plaintext and what is neither apart, and opens nothing."""

    def __init__(self, time_slice: TimeSlice) -> None:
        self._time_slice = time_slice

    async def classify(self, rows: Sequence[StoredRow]) -> list[ClassifiedRow]:
        """What each row is, in the same order."""
        time_slice = self._time_slice
        classified = []
        for row in rows:
            found = parse_row(row.data)
            if isinstance(found, Envelope):
                classified.append(ClassifiedRow(row, "not_opened", found.kid, found.timestamp, None, found))
            elif isinstance(found, dict):
                classified.append(ClassifiedRow(row, "plaintext", item=found))
            else:
                classified.append(ClassifiedRow(row, found))
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        return classified

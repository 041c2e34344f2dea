"""What rows are by their labels alone, for a run without keys."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.envelope import Envelope, parse_row
from ..history.classified import TimeSlice
from ..history.results import Classification
from ..stores.whole import StoredRow

__all__ = ["LabelReader"]


class LabelReader:
    """Tells envelopes, plaintext and what is neither apart, and opens nothing."""

    def __init__(self, time_slice: TimeSlice) -> None:
        self._time_slice = time_slice

    async def classify(self, rows: Sequence[StoredRow]) -> list[Classification]:
        """One classification for each row, in the same order."""
        time_slice = self._time_slice
        classifications = []
        for row in rows:
            found = parse_row(row.data)
            if isinstance(found, Envelope):
                classifications.append(Classification("not_opened", found))
            elif isinstance(found, dict):
                classifications.append(Classification("plaintext", None, found))
            else:
                classifications.append(Classification(found))
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        return classifications

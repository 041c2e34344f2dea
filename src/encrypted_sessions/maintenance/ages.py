"""When rows were sealed, counted in so few buckets that a store of any size fits into little memory.

A bucket is a day wide at first. When there would be too many, each two become one: their width doubles.
"""

from __future__ import annotations

__all__ = ["MOST_BUCKETS", "TimeAxis"]

#: Buckets at most, of one axis.
MOST_BUCKETS = 120

_DAY_S = 86_400


class TimeAxis:
    """Buckets of one width, by their number since 1970, and all that is counted in them."""

    def __init__(self) -> None:
        self.width_s = _DAY_S
        self.first: int | None = None
        self.last = 0
        self._counts: list[dict[int, int]] = []

    def new_counts(self) -> dict[int, int]:
        """Counts by bucket, which become those of wider buckets when the width doubles."""
        counts: dict[int, int] = {}
        self._counts.append(counts)
        return counts

    def bucket(self, time: int) -> int:
        """The bucket of a time, in seconds since 1970; the axis reaches there from now on."""
        bucket = time // self.width_s
        if self.first is None:
            self.first = self.last = bucket
        elif not self.first <= bucket <= self.last:
            self.first, self.last = min(self.first, bucket), max(self.last, bucket)
            while self.last - self.first >= MOST_BUCKETS:
                self._double()
                bucket //= 2
        return bucket

    def reach(self, time: int) -> int:
        """The bucket of a time that is only claimed: the axis reaches there if no bucket has to become wider for it.

        Else it is the bucket at the nearer end.
        """
        bucket = time // self.width_s
        if self.first is None:
            self.first = self.last = bucket
        bucket = min(max(bucket, self.last - MOST_BUCKETS + 1), self.first + MOST_BUCKETS - 1)
        self.first, self.last = min(self.first, bucket), max(self.last, bucket)
        return bucket

    def _double(self) -> None:
        assert self.first is not None  # noqa: S101 - likewise
        self.width_s *= 2
        self.first //= 2
        self.last //= 2
        for counts in self._counts:
            former = list(counts.items())
            counts.clear()
            for bucket, items in former:
                counts[bucket // 2] = counts.get(bucket // 2, 0) + items

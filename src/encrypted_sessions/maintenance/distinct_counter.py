"""How many different texts there were, in little memory (the sketch of the k minimum values)."""

from __future__ import annotations

__all__ = ["DistinctCounter"]

#: Hashes that are kept, the lowest ones. Up to twice so many texts are counted exactly, more with an error of some
#: 3 %: the k smallest of n evenly spread numbers tell n.
_KEPT = 1_024
_LOWEST, _ALL = -(2**63), 2**64


class DistinctCounter:
    """Counts texts, each once."""

    __slots__ = ("_below", "_kept")

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._below: int | None = None

    def add(self, text: str) -> None:
        """One more, new or not."""
        number = hash(text)  # 64 bits, keyed anew in each process: nobody can choose ids that mislead
        if self._below is None or number < self._below:
            self._kept.add(number)
            if len(self._kept) > 2 * _KEPT:
                smallest = sorted(self._kept)[:_KEPT]
                self._kept = set(smallest)
                self._below = smallest[-1]

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate."""
        return self._below is None

    def count(self) -> int:
        """How many."""
        if self._below is None:
            return len(self._kept)
        kth = sorted(self._kept)[_KEPT - 1]
        return round((_KEPT - 1) * _ALL / (kth - _LOWEST))

"""Which expired tool calls may go: those that nothing answers which is in time.

Reading leaves an output out because it meets its expired call. With the call gone it would return
that output alone, which a model refuses.
"""

from __future__ import annotations

from collections.abc import Collection

from .classified import ReadPolicy
from .pairing import Pair, answer_to
from .results import Classification

__all__ = ["AnswersInTime"]

#: Outcomes of rows that will never be read again, so that they answer nothing.
_SILENT = ("erased", "malformed", "unauthentic")


class AnswersInTime:
    """The calls (of `calls`, if given) that are answered by rows which came after them and are in time."""

    def __init__(self, policy: ReadPolicy, calls: Collection[Pair] | None = None) -> None:
        self._policy = policy
        self._calls = calls
        self._pairs: set[Pair] = set()
        self._unknown = False

    def add(self, classification: Classification) -> None:
        """Take in what one of these rows answers. One that may be read one day, and not now, may answer any call."""
        envelope = classification.envelope
        if envelope is not None and self._policy.has_expired(envelope):
            return
        if classification.item is None:
            # In suite 2 what is of another realm is unauthentic here, and is read there.
            elsewhere = classification.outcome == "unauthentic" and envelope is not None and envelope.says_expires
            self._unknown = self._unknown or elsewhere or classification.outcome not in _SILENT
            return
        answered = answer_to(classification.item)
        if answered is not None and (self._calls is None or answered in self._calls):
            self._pairs.add(answered)

    def include(self, call: Pair) -> bool:
        """Whether this call is answered, or may be."""
        return self._unknown or call in self._pairs

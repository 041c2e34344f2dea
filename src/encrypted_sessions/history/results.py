"""What became of rows: of one, of all, and of a read as its caller gets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.envelope import Envelope
from ..core.kids import shown_kid
from ..core.outcomes import MAX_FINDINGS, UNREADABLE, Outcome

if TYPE_CHECKING:
    from agents import TResponseInputItem

    from ..core.finding import Finding

__all__ = ["Classification", "History", "OutcomeCounts"]


class History:
    """What `EncryptedSession.read` found. Its repr shows no item.

    Attributes:
        items: What could be read, oldest first.
        outcomes: How many rows were examined, by outcome; "ok" is always there.
        findings: Up to 20 rows that could not be read, newest first.
    """

    __slots__ = ("findings", "items", "outcomes")

    def __init__(
        self, items: list[TResponseInputItem], outcomes: Mapping[str, int], findings: tuple[Finding, ...]
    ) -> None:
        self.items = items
        self.outcomes = outcomes
        self.findings = findings

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return (self.items, self.outcomes, self.findings) == (other.items, other.outcomes, other.findings)

    __hash__ = None  # type: ignore[assignment]  # items can be changed

    def __repr__(self) -> str:
        return f"History({len(self.items)} items, outcomes={self.outcomes!r}, findings={self.findings!r})"


class Classification:
    """What became of one row, which is an `envelope`, or None. Where a walk only reads, what is "ok" may have none.

    `item` is set for "ok" alone, and for plaintext that is let in. `outcome` may also be the reason
    for which maintenance did not open a row.
    """

    __slots__ = ("envelope", "item", "kid", "outcome")

    def __init__(
        self,
        outcome: str,
        envelope: Envelope | None = None,
        item: dict[str, object] | None = None,
        kid: str | None = None,
    ) -> None:
        self.outcome = outcome
        self.envelope = envelope
        self.item = item
        self.kid = kid if envelope is None else envelope.kid
        """What the row names as its key."""

    @property
    def timestamp(self) -> int | None:
        """When the row claims to have been sealed, which is proven where the outcome says so."""
        return None if self.envelope is None else self.envelope.timestamp

    def __repr__(self) -> str:
        return f"Classification({self.outcome!r}, kid={shown_kid(self.kid)!r}, timestamp={self.timestamp})"


class OutcomeCounts:
    """Counts classifications, newest row first, and keeps the findings worth naming."""

    def __init__(self) -> None:
        self._counts = {"ok": 0}  # not a Counter, which takes as long to make as to classify a row
        self.findings: list[Finding] = []
        self._refused: dict[str, int] = {}
        self._position = 0

    def count(self, outcome: str) -> int:
        """How many rows ended as that."""
        return self._counts.get(outcome, 0)

    def are_ok(self) -> bool:
        """Whether each row that was counted is ok."""
        return self._counts["ok"] == self._position

    def add_ok(self, rows: int) -> None:
        """Count the next older rows, all of which are ok."""
        self._counts["ok"] += rows
        self._position += rows

    def add(self, classification: Classification) -> None:
        """Count the next older row."""
        outcome = classification.outcome
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        if classification.item is None and outcome != "expired":
            if outcome in UNREADABLE:
                self._refused[outcome] = self._refused.get(outcome, 0) + 1
            if len(self.findings) < MAX_FINDINGS:
                from ..core.finding import Finding  # noqa: PLC0415 - in most stores all rows can be read

                self.findings.append(Finding(self._position, outcome, shown_kid(classification.kid)))
        self._position += 1

    def move(self, outcome: str, to: Outcome) -> None:
        """Count one row of `outcome` as another one after all."""
        self._counts[outcome] -= 1
        self._counts[to] = self._counts.get(to, 0) + 1

    def outcomes(self) -> dict[str, int]:
        """The counts by name, "ok" always, another only if it was met."""
        return {name: count for name, count in self._counts.items() if count or name == "ok"}

    @property
    def refused(self) -> dict[str, int]:
        """The counts of what raises. Plaintext that was let in is not among it."""
        return {name: self._refused[name] for name in UNREADABLE if name in self._refused}

"""What reading can find: each stored row ends as exactly one of these, and none as another."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from .envelope import KID_CHARACTERS

if TYPE_CHECKING:
    from agents import TResponseInputItem

Outcome = Literal[
    "ok",
    "expired",
    "expired_unverified",
    "erased",
    "not_yet_valid",
    "key_disabled",
    "unknown_key",
    "unauthentic",
    "plaintext",
    "malformed",
    "unsupported",
    "unpaired",
]

#: Outcomes that raise under on_unreadable="raise".
UNREADABLE: tuple[Outcome, ...] = (
    "not_yet_valid",
    "key_disabled",
    "unknown_key",
    "unauthentic",
    "plaintext",
    "malformed",
    "unsupported",
)

#: Outcomes that are left out whatever the policy, and stay where they are.
PASSED_OVER: tuple[Outcome, ...] = ("expired_unverified", "erased")

#: What each means, and what to do about it.
EXPLANATIONS: Mapping[str, str] = MappingProxyType(
    {
        "expired_unverified": "its key is gone, and it claims to be older than the ttl; it is left where it is.",
        "erased": "its key was destroyed for good, so nobody can read it again.",
        "not_yet_valid": "sealed more than 60 s in the future: a clock is skewed, here or where it"
        " was written. Compare the clocks (NTP), then read again.",
        "key_disabled": "its key is disabled at its place and may come back. Enable it there, then read again.",
        "unknown_key": "no place that this process asks has a key with this kid. Add the old key there, or its"
        " place to also_read=; rows of the Agents SDK's own class (kid 'hkdf-v1') need upstream_key=.",
        "unauthentic": "altered, or sealed with another key. Check that this process uses the key,"
        " and the session id, that wrote it. Where it was altered, `encrypted-sessions discard` removes"
        " it, and keeps a copy.",
        "plaintext": "not encrypted. If it was written before encryption was switched on and you"
        " trust who wrote it, plaintext='read' returns it, and `encrypted-sessions encrypt` seals it.",
        "malformed": "not an envelope of this library, not of the SDK's class, and no plain item:"
        " damaged, or written by something else. `encrypted-sessions discard` removes such rows, and"
        " keeps a copy.",
        "unsupported": "written by a later release. Upgrade encrypted-sessions.",
    }
)

MAX_FINDINGS = 20

# A kid is shown only if it looks like one: rows can be written by anybody who can write the store.
_KID_CHARACTERS = frozenset(KID_CHARACTERS)
_LONGEST_KID = 128


class Finding(NamedTuple):
    """One row that was not returned.

    `position` counts from the newest row, which is 0. `kid` is what the row names, None where it
    names none or something that is no kid.
    """

    position: int
    outcome: str
    kid: str | None

    def place(self) -> str:
        """Position, outcome and kid in a few words."""
        return f"{self.position} {self.outcome}" + (f" (kid {self.kid})" if self.kid else "")


class History:
    """What `EncryptedSession.read` found. Its repr shows no item.

    `items` in order, oldest first. `outcomes` counts every row that was looked at, by name, "ok"
    always included. `findings` tells of up to 20 rows that could not be read, newest first.
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
    """What became of one row. `item` is set for "ok" alone, and for plaintext that is let in."""

    __slots__ = ("item", "kid", "outcome", "timestamp")

    def __init__(
        self,
        outcome: Outcome,
        kid: str | None = None,
        timestamp: int | None = None,
        item: dict[str, object] | None = None,
    ) -> None:
        self.outcome = outcome
        self.kid = kid
        self.timestamp = timestamp
        self.item = item

    def __repr__(self) -> str:
        return f"Classification({self.outcome!r}, kid={shown_kid(self.kid)!r}, timestamp={self.timestamp})"


class OutcomeCounts:
    """Counts classifications, newest row first, and keeps the findings worth naming."""

    def __init__(self) -> None:
        self._counts = {"ok": 0}  # not a Counter, which takes as long to make as to classify a row
        self.findings: list[Finding] = []
        self._position = 0

    def count(self, outcome: str) -> int:
        """How many rows ended as that."""
        return self._counts.get(outcome, 0)

    def add(self, classification: Classification) -> None:
        """Count the next older row."""
        outcome = classification.outcome
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        if classification.item is None and outcome != "expired" and len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(self._position, classification.outcome, shown_kid(classification.kid)))
        self._position += 1

    def move(self, outcome: Outcome, to: Outcome) -> None:
        """Count one row of `outcome` as another one after all."""
        self._counts[outcome] -= 1
        self._counts[to] = self._counts.get(to, 0) + 1

    def outcomes(self) -> dict[str, int]:
        """The counts by name, "ok" always, another only if it was met."""
        return {name: count for name, count in self._counts.items() if count or name == "ok"}

    def met(self, outcomes: tuple[Outcome, ...]) -> bool:
        """Whether any row ended as one of `outcomes`."""
        return any(map(self._counts.get, outcomes))


def shown_kid(kid: str | None) -> str | None:
    """A kid that may be shown: None for what does not look like one."""
    return kid if kid and len(kid) <= _LONGEST_KID and _KID_CHARACTERS.issuperset(kid) else None


def describe(counts: Mapping[str, int]) -> str:
    """Counts in words, as logs and errors give them: "2 unauthentic, 1 plaintext"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

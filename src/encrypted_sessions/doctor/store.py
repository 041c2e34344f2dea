"""Would a process with these keys be able to read what is in a store? By the labels that rows carry.

Nothing is opened and nothing changed: that is what `verify` is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from keyproviders import KeyProviderError, KeyRing, redact_frames

from ..core.envelope import UPSTREAM_KID
from ..maintenance import inventory
from ..maintenance.keys import StoreKeys

if TYPE_CHECKING:
    from ..stores.whole import WholeStore

__all__ = ["ANSWERS", "Answer", "StoreCheck", "StoreDiagnosis", "examine_store"]

Answer = Literal[
    "held",
    "erased",
    "key_disabled",
    "unknown_key",
    "key_not_answered",
    "key_not_asked",
    "plaintext",
    "malformed",
    "unsupported",
]

#: What each answer means, and what to do about it.
ANSWERS: Mapping[Answer, str] = MappingProxyType(
    {
        "held": "their key is at hand",
        "erased": "their key was destroyed for good: reading leaves them out",
        "key_disabled": "their key is disabled: enable it at its place",
        "unknown_key": "none of the places that were asked has their key: add the old key, or its place (also_read=)",
        "key_not_answered": "their key's place refused to answer, or did not answer",
        "key_not_asked": "rows name too many keys that do not exist, so this one was not asked for",
        "plaintext": "not encrypted: `encrypted-sessions encrypt` seals them; plaintext='read' returns them",
        "malformed": "damaged, or written by something else",
        "unsupported": "written by a later release: upgrade encrypted-sessions",
    }
)

#: Answers with which a session reads on.
_FINE: tuple[Answer, ...] = ("held", "erased")


class StoreCheck(NamedTuple):
    """Rows of one label: `kid` is None where they name none. `words` say what the answer means."""

    kid: str | None
    rows: int
    answer: Answer
    words: str

    @property
    def ok(self) -> bool:
        """Whether such rows are no hindrance to reading."""
        return self.answer in _FINE


class StoreDiagnosis(NamedTuple):
    """What was found in `place`; `problem` says why there may be more, None if that was all.

    `notices` are sentences on how the store keeps its rows. They make a diagnosis no bad one.
    """

    place: str
    checks: tuple[StoreCheck, ...]
    problem: str | None
    notices: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that were looked at."""
        return sum(check.rows for check in self.checks)

    def has(self, answer: Answer) -> bool:
        """Whether that was the answer for any of the rows."""
        return any(check.answer == answer for check in self.checks)

    @property
    def ok(self) -> bool:
        """Whether this process could read what is there, as far as labels tell."""
        return self.problem is None and all(check.ok for check in self.checks)


@redact_frames
async def examine_store(
    store: WholeStore, rings: Sequence[KeyRing], *, upstream_key: str | None = None
) -> StoreDiagnosis:
    """Ask `rings` for every key that rows of an entered `store` name. Raises StoreError."""
    report = await inventory(store)
    labels: Counter[tuple[str | None, str]] = Counter()
    for group in report.groups:
        labels[group.kid, group.outcome] += group.items
    keys = StoreKeys(rings, upstream_key, bool)
    checks: list[StoreCheck] = []
    problem = report.stopped_because
    for (kid, outcome), rows in labels.most_common():  # what most rows name is asked for first
        answer = _as_answer(outcome)
        if kid is not None:
            try:
                found = await keys.answer(kid)
                answer = _as_answer(found) if isinstance(found, str) else "held"
            except KeyProviderError as error:
                answer, problem = "key_not_answered", str(error)
        words = ANSWERS[answer]
        if kid == UPSTREAM_KID and answer == "unknown_key":
            words = "rows of the SDK's class: sessions need upstream_key=, and this command --upstream-key"
        checks.append(StoreCheck(kid, rows, answer, words))
    checks.sort(key=lambda check: (check.kid or "~", check.answer))
    return StoreDiagnosis(report.store, tuple(checks), problem, tuple(await store.notices()))


def _as_answer(name: str) -> Answer:
    found: Answer
    for found in get_args(Answer):
        if found == name:
            return found
    return "unknown_key"  # a label that is no kid

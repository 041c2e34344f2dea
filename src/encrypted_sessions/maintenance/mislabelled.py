"""Rows that do not open under the key that they name, and the key that opens them all the same.

Whoever can write to the store can have an old row name the active key. It opens for nobody then, and yet
the key that sealed it is what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

from ..core.cipher import Opener, Unauthentic
from ..core.envelope import Envelope
from .aggregation import end_of
from .classified_row import ClassifiedRow
from .realms import Realms, session_opener
from .run import Run

__all__ = ["UNOPENED", "MislabelledRows", "NeededAllTheSame"]

#: Outcomes of rows that the key that they name has not opened: what they say of it is not proven.
UNOPENED = ("unauthentic", "erased", "key_disabled", "unknown_key", "expired_unverified")


class NeededAllTheSame(NamedTuple):
    """How many rows a key opens that name another one, the newest of their timestamps, and the last of their ends."""

    items: int
    newest: int
    end: float


class MislabelledRows:
    """Finds them, and counts them by the key that opens them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._noted: list[ClassifiedRow] = []
        self._has_listed = False
        self.by_kid: dict[str, NeededAllTheSame] = {}

    def note(self, classified: ClassifiedRow) -> None:
        """One more row to try."""
        self._noted.append(classified)

    async def try_other_keys(self) -> None:
        """Try every key of the places on the rows that were noted; then none is noted any more.

        First those at hand. The others that the places list are fetched once a run, where a row needs it.
        """
        run, noted = self._run, self._noted
        self._noted = []
        if not noted:
            return
        assert run.keys is not None  # noqa: S101 - without keys no row has such an outcome
        noted = await self._try(noted, await run.keys.held())
        if noted and not self._has_listed:
            self._has_listed = True
            noted = await self._try(noted, await run.keys.listed())
        for classified in noted:
            if classified.outcome == "unauthentic":
                run.leave("unauthentic", classified)

    async def _try(self, noted: Sequence[ClassifiedRow], keys: dict[str, bytes]) -> list[ClassifiedRow]:
        """Which of the rows no key opens but, perhaps, the one that they name."""
        run, left = self._run, []
        for classified in noted:
            kid = _opener(classified, keys, run.settings.realms)
            if kid is None:
                left.append(classified)
            else:
                assert classified.timestamp is not None  # noqa: S101 - it is an envelope
                end = end_of(classified.envelope, run.settings.ttl)
                items, newest, last = self.by_kid.get(kid, NeededAllTheSame(0, classified.timestamp, end))
                self.by_kid[kid] = NeededAllTheSame(items + 1, max(newest, classified.timestamp), max(last, end))
                run.leave("mislabelled", classified)
            if run.time_slice.is_used_up():
                run.raise_if_interrupted()
                await run.time_slice.checkpoint()
        return left


def _opener(classified: ClassifiedRow, keys: dict[str, bytes], realms: Realms) -> str | None:
    """The kid of the key that a row opens under, of all but the one that it names."""
    envelope, session_id = classified.envelope, classified.row.session_id
    assert envelope is not None  # noqa: S101 - no other row has such an outcome
    for kid, secret in keys.items():
        if kid != classified.kid:
            # As it was before somebody wrote another kid on it, which may be authenticated; and as it is, where the key
            # has another name by now.
            relabelled, as_it_is = copy(envelope), copy(envelope)
            relabelled.kid = kid
            try:
                opener = session_opener(secret, session_id, kid, envelope.version, realms)
            except UnicodeEncodeError:  # no session can have such an id, so no key sealed for it
                continue
            if _opens(opener, relabelled) or _opens(opener, as_it_is):
                return kid
    return None


def _opens(opener: Opener, envelope: Envelope) -> bool:
    try:
        opener.verify(envelope)
    except Unauthentic:
        return False
    return True

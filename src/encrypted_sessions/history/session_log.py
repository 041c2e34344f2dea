"""What the log is told of one session: which rows, of which session, in which store, under which key.

Each record has these as fields (`extra`), so that what was refused can be found without its message. A
session's id is there as a hash that means nothing outside of this process, unless the environment says
otherwise (`_support.session_names`). Messages and fields hold no item and no part of one.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core.outcomes import PASSED_OVER, SUSPICIOUS, Outcome, describe
from ..errors import UnreadableItemsError
from .results import OutcomeCounts

__all__ = ["SessionLog"]

logger = logging.getLogger("encrypted_sessions")

#: What would be told at every read is told once in so many seconds for each session.
_REST_S = 60.0

#: Sessions are many, and their objects are often made for one request: the last so many are remembered.
_MOST_REMEMBERED = 4096
_told_at: OrderedDict[tuple[str, str, str], float] = OrderedDict()

_WHY_PASSED_OVER: Mapping[str, str] = {
    "erased": "%d items were left out because their key was destroyed",
    "expired_unverified": "%d items were left out whose key is gone, and which claim to be older than the ttl",
}


class SessionLog:
    """Writes about one session and the kind of its store. `advice` says what to do about a kid that is not known."""

    def __init__(self, session_id: str, store: str, advice: Callable[[str], str | None] = lambda _: None) -> None:
        self._session_id = session_id
        self.store = store
        self._advice = advice

    def fields(self, **more: object) -> dict[str, Any]:
        """For a record's `extra`."""
        from .._support.session_names import logged_session  # noqa: PLC0415 - most sessions log nothing

        return {"session": logged_session(self._session_id), "store": self.store, **more}

    def refusal(self, counts: OutcomeCounts, refused: Mapping[str, int], **words: str) -> UnreadableItemsError:
        """The error for rows that were `refused`, which the log is told of first."""
        outcomes = counts.outcomes()
        self._tell(f"cannot be read: {describe(refused)}", counts, refused)
        unknown = {one.kid for one in counts.findings if one.outcome == "unknown_key" and one.kid is not None}
        return UnreadableItemsError.of(
            outcomes,
            counts.findings,
            refused=refused,
            session_id=self._session_id,
            store=self.store,
            advice=[advice for advice in map(self._advice, sorted(unknown)) if advice is not None],
            **words,
        )

    def left_out(self, counts: OutcomeCounts, refused: Mapping[str, int]) -> None:
        """Rows that cannot be read were left out, as the caller wished."""
        self._tell(f"items that cannot be read were left out: {describe(refused)}", counts, refused)

    def passed_over(self, counts: OutcomeCounts, outcomes: Iterable[Outcome] = PASSED_OVER) -> None:
        """What is left out whatever else the caller wishes, once a minute."""
        for outcome in outcomes:
            count = counts.count(outcome)
            if count and self._is_due(outcome):
                logger.warning(
                    _WHY_PASSED_OVER[outcome],
                    count,
                    extra=self._row_fields(counts, {outcome: count}),
                )

    def _tell(self, message: str, counts: OutcomeCounts, refused: Mapping[str, int]) -> None:
        level = logging.ERROR if any(name in refused for name in SUSPICIOUS) else logging.WARNING
        logger.log(level, "%s", message, extra=self._row_fields(counts, refused))

    def _row_fields(self, counts: OutcomeCounts, outcomes: Mapping[str, int]) -> dict[str, Any]:
        """The newest of these rows, and all of them that are named."""
        from ..core.finding import Finding  # noqa: PLC0415 - in most stores all rows can be read

        findings = [finding for finding in counts.findings if finding.outcome in outcomes]
        newest = findings[0] if findings else Finding(None, next(iter(outcomes), None), None)  # type: ignore[arg-type] # beyond those named
        return self.fields(
            position=newest.position,
            outcome=newest.outcome,
            kid=newest.kid,
            outcomes=dict(outcomes),
            findings=[finding._asdict() for finding in findings],
        )

    def _is_due(self, subject: str) -> bool:
        now = time.monotonic()
        key = (self._session_id, self.store, subject)
        last = _told_at.get(key)
        if last is not None and now - last < _REST_S:
            return False
        _told_at[key] = now
        _told_at.move_to_end(key)
        while len(_told_at) > _MOST_REMEMBERED:
            _told_at.popitem(last=False)
        return True

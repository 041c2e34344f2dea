"""What is told of an outage: an answer is overdue, writing has ended, it is over. No thread, no lock, no I/O.

A ring that nobody uses asks nothing, and then its keys age without anybody being to blame. So nothing is told
before a question was put that has no answer: one that failed, or has been waiting for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import inf

from .events import Cause, Report, cause_of, report_of

__all__ = ["OutageWatch"]

# So long a question may wait before its answer is missing. Most are put long before they must be answered;
# after a pause of the process, or of its users, one is put when it is late already, and answered at once.
_PATIENCE_S = 10.0

# In an outage the same line is logged again after so long.
_REPEAT_S = 60.0
_MANY_LINES = 64

# What was told last, each step once.
_NOTHING, _DEGRADED, _WRITE_ENDED = range(3)


class OutageWatch:
    """What is known, and what was told, of the question which key is active."""

    def __init__(self, label: str) -> None:
        self._event = partial(report_of, label)
        self._told = _NOTHING
        self._asked_at: float | None = None  # the first time without an answer
        self._failed: Cause | None = None  # why, the last time
        # What the source last said, though the key may have been dropped since.
        self._kid: str | None = None
        self._confirmed_at = -inf
        self._logged_at: dict[tuple[str, str | None], float] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether a question was put that has no answer yet."""
        return self._asked_at is not None

    @property
    def has_told(self) -> bool:
        """Whether an outage was told that is not over."""
        return self._told > _NOTHING

    def asked(self, now: float) -> None:
        """The question was put."""
        if self._asked_at is None:
            self._asked_at = now

    def failed(self, error: BaseException, now: float) -> None:
        """It failed."""
        self.asked(now)
        self._failed = cause_of(error)

    def forget_questions(self) -> None:
        """In a forked child nobody waits for what its parent had asked."""
        self._asked_at, self._failed = None, None

    def answered(self, kid: str, now: float) -> list[Report]:
        """It was answered: the end of an outage, another key than before, or neither."""
        former, confirmed_at, told = self._kid, self._confirmed_at, self._told
        self._kid, self._confirmed_at, self._told = kid, now, _NOTHING
        self.forget_questions()
        news = []
        if told > _NOTHING:
            self._logged_at.clear()
            text = f"it answers again after {now - confirmed_at:.0f} s: writing continues with {kid}"
            news.append(self._event("recovered", text, kid))
        if former is not None and former != kid:
            text = f"the active key is now {kid}; it was {former}"
            news.append(self._event("active_changed", text, kid, from_kid=former, to_kid=kid))
        return news

    def next_at(self, overdue_at: float, ends_at: float) -> float:
        """When something is to be told, if nobody answers: that it is overdue, or that writing ends."""
        return min(self._next(overdue_at, _DEGRADED), self._next(ends_at, _WRITE_ENDED))

    def events(
        self,
        overdue_at: float,
        ends_at: float,
        now: float,
        is_denied: Callable[[], bool],
        reads_for: Callable[[float], float],
    ) -> list[Report]:
        """What is to be told now."""
        kid, age_s = self._kid, now - self._confirmed_at
        if now >= self._next(ends_at, _WRITE_ENDED):
            self._tell(_WRITE_ENDED, now)
            left_s = reads_for(now)
            goes_on = f"reading continues for {left_s:.0f} s at most" if left_s > 0 else "nothing can be read either"
            text = f"writing has ended: {kid} was last confirmed {age_s:.0f} s ago; {goes_on}"
            return [self._event("write_ended", text, kid, self._failed, seconds_left=left_s)]
        if now >= self._next(overdue_at, _DEGRADED):
            self._tell(_DEGRADED, now)
            left_s = ends_at - now
            text = (
                f"an answer is overdue: writing with {kid}, which was last confirmed {age_s:.0f} s ago, continues for"
                f" {left_s:.0f} s at most"
            )
            # A denial is an error, and was logged as that when it came.
            level = logging.NOTSET if is_denied() else None
            return [self._event("degraded", text, kid, self._failed, level=level, seconds_left=left_s)]
        return []

    def once_a_minute(self, about: str, report: Report, now: float) -> Report:
        """The same, or for hooks alone where the log had one about it, with the same error, within the last minute."""
        line = (about, report.error)
        if now - self._logged_at.get(line, -inf) < _REPEAT_S:
            return report.unlogged()
        if len(self._logged_at) > _MANY_LINES:
            self._logged_at = {one: at for one, at in self._logged_at.items() if now - at < _REPEAT_S}
        self._logged_at[line] = now
        return report

    def _tell(self, step: int, now: float) -> None:
        self._told = step
        # It says more than the lines before it, and stands for their next.
        self._logged_at = dict.fromkeys(self._logged_at, now)

    def _next(self, at: float, step: int) -> float:
        if self._asked_at is None or self._told >= step:
            return inf
        return max(at, self._asked_at if self._failed else self._asked_at + _PATIENCE_S)

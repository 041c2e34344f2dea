"""What is told of a run over a whole store: its start, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..events.shapes import Phase

if TYPE_CHECKING:
    from .reports import Report

__all__ = ["RunEvent"]


class RunEvent(NamedTuple):
    """The start, or the end, of a run over a whole store, by the function or the command. Both carry one `sequence`.

    Attributes:
        at: When it was reported, in UTC.
        sequence: Its number in this process.
        command: The command's name, such as "purge" or "put-back".
        phase: "start" or "end".
        store: Where the store is, without a password.
        report: At the end, the run's report; None at the start, after a failure, and for commands without a report
            (`inspect`, `sessions`).
        error: The class name of the error that was raised; None if there was none, and at the start. A run that ended
            early and reports that has no error: see `report.stopped`.
        took_s: Seconds from the start; 0 at the start.
        context: The values of `audit_context`.
    """

    at: datetime
    sequence: int
    command: str
    phase: Phase
    store: str
    report: Report | None
    error: str | None
    took_s: float
    context: Mapping[str, str]

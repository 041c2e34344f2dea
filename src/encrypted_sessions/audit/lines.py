"""What stands in the lines of an audit log: each event as fields, with sessions named as the log was told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import datetime, timezone
from math import isfinite
from typing import TYPE_CHECKING, Any

from keyproviders import KeyEvent

from ..events.pseudonyms import pseudonym
from ..events.shapes import KeysetEvent, SessionEvent
from .chain import as_json
from .session_lines import as_text, session_line

if TYPE_CHECKING:
    from keyproviders import Key

    from ..maintenance.reports import Report
    from ..maintenance.run_event import RunEvent

__all__ = ["Line", "NameSession", "is_known", "now", "session_names"]

#: Gives what a session is called in the log; None for nothing.
NameSession = Callable[[str], "str | None"]

#: Of a report, what is a number or a word of ours.
_OF_A_REPORT = (
    "found", "changed", "left", "stopped", "dry_run", "kids", "other_keys", "ttl", "outcome", "to_kid", "from_kid",
    "already", "moved", "plaintext", "upstream", "erased", "sessions", "named", "active_kid", "proven", "export",
    "report", "required_free", "not_free", "incomplete", "not_reached",
)  # fmt: skip


class Line:
    """Something to be written: an event, and words beside it, or words alone. `future` is who waits for it."""

    __slots__ = ("_said", "event", "future", "in_doubt", "more", "without")

    def __init__(
        self,
        event: Any,
        more: Mapping[str, Any] | None = None,
        *,
        without: Iterable[str] = (),
        future: Future[None] | None = None,
        in_doubt: bool = False,
    ) -> None:
        self.event = event
        self.more = more or {}
        self.without = without
        self.future = future
        self.in_doubt = in_doubt
        self._said: str | None = None

    def say(self, name_session: NameSession) -> None:
        """Have it said now, if it is that of an operation; by who brings it, in whose caches what it needs still lies.

        What cannot be said now is told when it is written.
        """
        event = self.event
        if type(event) is SessionEvent and not (self.more or self.without or event.refused):  # as most are
            try:
                self._said = session_line(event, name_session(event.session))
            except (AttributeError, TypeError, ValueError):
                self._said = None

    def fields(self, name_session: NameSession) -> dict[str, Any]:
        """As it is written."""
        fields = {} if self.event is None else _fields_of(self.event, name_session)
        for name in self.without:
            fields.pop(name, None)
        return {**fields, **self.more}

    def said(self, name_session: NameSession) -> str:
        """The same as JSON."""
        if self._said is not None:
            return self._said
        event = self.event
        if type(event) is SessionEvent and not (self.more or self.without):
            return session_line(event, name_session(event.session))
        return as_json(self.fields(name_session))


def now() -> str:
    """The time, as lines have it."""
    return as_text(datetime.now(timezone.utc))


def session_names(how: str, key: Key | None) -> NameSession:
    """For "omitted", "hashed" and "plain"; a `key` is for "hashed" alone."""
    if key is not None:
        return lambda session: pseudonym(session, key)
    return (lambda session: session) if how == "plain" else (lambda _: None)


def is_known(event: object) -> bool:
    """Whether it is an event that has a line."""
    return isinstance(event, (SessionEvent, KeysetEvent, KeyEvent)) or _is_run(event)


def _is_run(event: object) -> bool:
    # Not by its class, which would load maintenance in every process.
    return type(event).__name__ == "RunEvent" and isinstance(event, tuple)


def _fields_of(event: Any, name_session: NameSession) -> dict[str, Any]:
    if isinstance(event, SessionEvent):
        return dict(json.loads(session_line(event, name_session(event.session))))
    if isinstance(event, KeysetEvent):
        return _present(_all_of("keyset", event))
    if isinstance(event, KeyEvent):
        return _present(_all_of("key", event))
    return _run(event, name_session)


def _run(event: RunEvent, name_session: NameSession) -> dict[str, Any]:
    fields = _all_of("run", event)
    fields["report"] = None if event.report is None else _report(event.report, name_session)
    return _present(fields)


def _report(report: Report, name_session: NameSession) -> dict[str, Any]:
    """Its counts and words. Which sessions it was about, and where rows lie, only as the log names sessions."""
    fields = {name: _plain(getattr(report, name)) for name in _OF_A_REPORT if hasattr(report, name)}
    fields["ok"] = report.ok
    fields["limited"] = report.only is not None
    fields["findings"] = [
        _present({"session": name_session(one.session_id), "outcome": one.outcome, "kid": one.kid})
        for one in report.findings
    ]
    return _present(fields)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _all_of(kind: str, event: Any) -> dict[str, Any]:
    """The fields that JSON has as they are, and the others as text and numbers."""
    at = now() if event.at is None else as_text(event.at)
    fields: dict[str, Any] = {"event": kind, "at": at} | {**event._asdict(), "at": at}
    fields["took_s"] = _took(event)
    if "context" in fields:
        fields["context"] = dict(event.context)
    if fields.get("seconds_left") is not None:
        fields["seconds_left"] = round(event.seconds_left, 3) if isfinite(event.seconds_left) else None
    return fields


def _took(event: Any) -> float | None:
    return None if event.took_s is None else round(event.took_s, 6)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what there is nothing to be said of."""
    return {name: value for name, value in fields.items() if value is not None and value not in ([], {})}

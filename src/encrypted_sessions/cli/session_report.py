"""A list of sessions, in words and as JSON."""

from __future__ import annotations

import json
import shlex
from datetime import datetime, timezone

from .._support.terminal import printable, table, wrapped
from ..maintenance._sessions import SessionList

__all__ = ["format_json", "format_text"]

_SAID = "Kids and times are what the rows claim: nothing was opened."


def format_text(place: str, found: SessionList) -> str:
    """A table, and where the next page begins."""
    if not found.sessions:
        return f"{printable(place)} has no such sessions.\n"
    heads = ("session", "rows", "oldest (UTC)", "newest (UTC)", "kids")
    cells = [
        (printable(one.session_id), f"{one.rows:,}", _time(one.oldest), _time(one.newest), ", ".join(one.kids) or "-")
        for one in found.sessions
    ]
    rows, count = sum(one.rows for one in found.sessions), len(found.sessions)
    counted = f"{count:,} session{'' if count == 1 else 's'}, {rows:,} row{'' if rows == 1 else 's'}. {_SAID}"
    lines = [*table(heads, cells, right=(1,), prose=True), "", *wrapped(counted)]
    if found.after is not None:
        is_plain = found.after.isprintable()
        where = f"--after {shlex.quote(found.after)}" if is_plain else f"--after the last id ({printable(found.after)})"
        lines.append(f"There may be more: {where}")
    return "\n".join(lines) + "\n"


def format_json(place: str, found: SessionList) -> str:
    """A line for each session, and a last one that says where the next page begins. Times are as RFC 3339 has them."""
    lines = [
        {"event": "session", **one._asdict(), "oldest": _rfc_3339(one.oldest), "newest": _rfc_3339(one.newest)}
        for one in found.sessions
    ]
    rows = sum(one.rows for one in found.sessions)
    report = {"event": "report", "command": "sessions", "ok": True, "exit_code": 0, "store": place}
    report |= {"sessions": len(found.sessions), "rows": rows, "after": found.after}
    return "".join(json.dumps(line) + "\n" for line in [*lines, report])


def _rfc_3339(seconds: int | None) -> str | None:
    moment = _moment(seconds)
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _time(seconds: int | None) -> str:
    moment = _moment(seconds)
    if moment is None:
        return "-" if seconds is None else "beyond years"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _moment(seconds: int | None) -> datetime | None:
    """None also where a row claims a time that no calendar has."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None

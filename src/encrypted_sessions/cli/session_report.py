"""A list of sessions, in words and as JSON."""

from __future__ import annotations

import json
import shlex

from .._support.terminal import printable, table, wrapped
from ..maintenance._sessions import SessionList
from .times import rfc_3339, shown_time

__all__ = ["format_json", "format_text"]

_SAID = "Key ids and times are what the rows claim: no row was opened."


def format_text(place: str, found: SessionList) -> str:
    """A table, and where the next page begins."""
    if not found.sessions:
        return f"There are no such sessions in {printable(place)}.\n"
    heads = ("session", "rows", "oldest (UTC)", "newest (UTC)", "kids")
    cells = [
        (
            printable(one.session_id),
            f"{one.rows:,}",
            shown_time(one.oldest),
            shown_time(one.newest),
            ", ".join(one.kids) or "-",
        )
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
        {"event": "session", **one._asdict(), "oldest": rfc_3339(one.oldest), "newest": rfc_3339(one.newest)}
        for one in found.sessions
    ]
    rows = sum(one.rows for one in found.sessions)
    report = {"event": "report", "command": "sessions", "ok": True, "exit_code": 0, "store": place}
    report |= {"sessions": len(found.sessions), "rows": rows, "after": found.after}
    return "".join(json.dumps(line) + "\n" for line in [*lines, report])

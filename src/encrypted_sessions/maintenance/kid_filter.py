"""Rows of some keys alone: told by the kids that they name, without asking for any other key."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..core.envelope import Envelope, openings, parse_row
from ..core.kids import shown_kid

__all__ = ["OTHERS", "KidFilter", "OtherKeys", "rows_by_kid"]

#: Kids that are counted by name, at most: whoever writes to the store chooses them.
_MOST_KIDS = 300

#: What further ones are counted under, and what does not look like a kid. No kid is like this.
OTHERS = "others"

#: So many kids are named in a sentence.
_SHOWN = 5

_OPENINGS = openings(None)
_OPENING_BYTES = tuple(opening.encode() for opening in _OPENINGS)


class OtherKeys:
    """Counts rows of keys that a run is not there for."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        """How many rows name which kid."""

    def add(self, kid: str | None) -> None:
        """One more row that names this kid."""
        name = shown_kid(kid) or OTHERS
        if name not in self.rows and len(self.rows) >= _MOST_KIDS:
            name = OTHERS
        self.rows[name] = self.rows.get(name, 0) + 1


class KidFilter:
    """Tells rows that name one of some kids from those that name another one."""

    def __init__(self, kids: Collection[str]) -> None:
        self._kids = frozenset(kids)
        self.met: set[str] = set()
        """Those of the kids that a row names."""

    def other_kid(self, data: str | bytes) -> str | None:
        """The kid that a row names, if it is none of these. None for a row of these, and for what names no key."""
        kid = _kid_of(data)
        return None if kid is None or self.takes(kid) else kid

    def takes(self, kid: str) -> bool:
        """Whether rows that name this kid are to be looked at."""
        if kid in self._kids:
            self.met.add(kid)
            return True
        return False


def rows_by_kid(rows: Mapping[str, int]) -> str:
    """How many rows name which kid, for a sentence: those that most rows name."""
    kids = sorted(rows, key=lambda kid: (-rows[kid], kid))
    more = f" and {len(kids) - _SHOWN:,} more" if len(kids) > _SHOWN else ""
    return ", ".join(f"{kid}: {rows[kid]:,}" for kid in kids[:_SHOWN]) + more


def _kid_of(data: str | bytes) -> str | None:
    """The kid in a row's text. Nearly every row begins as this library and the SDK write it, and is not parsed."""
    if isinstance(data, bytes):
        for opening in _OPENING_BYTES:
            if data.startswith(opening):
                return data[len(opening) :].partition(b'"')[0].decode("utf-8", "replace")
    else:
        for text in _OPENINGS:
            if data.startswith(text):
                return data[len(text) :].partition('"')[0]
    found = parse_row(data)
    return found.kid if isinstance(found, Envelope) else None

"""Many ids of sessions, each once, and the file that they come from: on the disk, so that there may be millions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO

from .. import arguments as checks

__all__ = ["SessionIds", "read_session_ids"]

#: Bytes of one line at most: what is longer is no list of ids.
_LONGEST = 2**20

#: How many ids are put away, or fetched, at once.
_AT_ONCE = 1_000

_BOM = b"\xef\xbb\xbf"


class SessionIds:
    """Ids in the order in which they came, without doubles. They lie in a file without a name, which goes by itself."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.doubles = 0
        """How many were there already when they were added."""
        self.blank_lines = 0
        """How many lines of their file had no id."""
        # Used from one task at a time, though not always in the thread that made it.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE ids (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE)")
        self._count = 0
        self.add(ids)

    def __repr__(self) -> str:
        return f"SessionIds({self._count})"

    def add(self, ids: Iterable[str]) -> None:
        """Put ids away; those that are there already are counted as doubles."""
        rest = iter(ids)
        while some := [(one.encode("utf-8"),) for one in islice(rest, _AT_ONCE)]:
            new = self._database.executemany("INSERT OR IGNORE INTO ids (id) VALUES (?)", some).rowcount
            self._count += new
            self.doubles += len(some) - new

    def __len__(self) -> int:
        return self._count

    def __contains__(self, session_id: str) -> bool:
        found = self._database.execute("SELECT 1 FROM ids WHERE id = ?", (session_id.encode("utf-8"),))
        return found.fetchone() is not None

    def __iter__(self) -> Iterator[str]:
        last = 0
        while page := self._database.execute(
            "SELECT number, id FROM ids WHERE number > ? ORDER BY number LIMIT ?", (last, _AT_ONCE)
        ).fetchall():
            last = page[-1][0]
            for _, one in page:
                yield one.decode("utf-8")

    def close(self) -> None:
        """Let go of the disk's space at once. May be called again."""
        self._database.close()

    def __del__(self) -> None:
        # Whoever gives ids to a function need not know of the file.
        with suppress(AttributeError):  # it was never opened
            self._database.close()


def read_session_ids(file: BinaryIO) -> SessionIds:
    """The ids of a file with one a line. A line that begins with a double quote is a string of JSON.

    Blank lines and doubles are skipped, and counted. Raises ValueError, with the number of the line, for what is no
    id, OSError where the file cannot be read.
    """
    ids = SessionIds()
    try:
        ids.add(_ids_of_lines(file, ids))
    except BaseException:
        ids.close()
        raise
    return ids


def _ids_of_lines(file: BinaryIO, ids: SessionIds) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) > _LONGEST:
            raise ValueError(f"line {number} is longer than {_LONGEST:,} bytes; give one id a line")
        try:
            session_id = _id_of_line(line)
        except ValueError as error:
            problem = str(error)
        else:
            if session_id is None:
                ids.blank_lines += 1
            else:
                yield session_id
            continue
        raise ValueError(f"line {number}: {problem}")


def _id_of_line(line: bytes) -> str | None:
    """The id, None for a blank line. An id is taken as it stands, white space and all, up to the end of the line."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        return None
    if not text.startswith('"'):
        return checks.session_id(text)
    try:
        value = json.loads(text)  # which begins with a quote: a str, or nothing
    except ValueError:
        raise ValueError("it begins with a double quote, but is not a JSON string") from None
    return checks.session_id(value)

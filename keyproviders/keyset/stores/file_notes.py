"""Notes of a keyset's changes in a file beside it: one line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress

from .base import Note

__all__ = ["append", "read"]

_MODE = 0o600


def read(path: str, name: str) -> list[Note]:
    """The notes of a keyset; none where there is no file. A line that is no note is passed over. Raises OSError."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a path as text, as it came
            return [note for note in (_parsed(line, name) for line in file) if note is not None]
    except FileNotFoundError:
        return []


def append(path: str, name: str, notes: Sequence[Note]) -> None:
    """Add those that are not there, and wait until they are on the disk. Nobody else may do so meanwhile.

    Raises OSError.
    """
    known = {(note.keyset_id, note.revision) for note in read(path, name)}
    lines = "".join(_line(name, note) for note in notes if (note.keyset_id, note.revision) not in known)
    if not lines:
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    with os.fdopen(file, "r+b") as opened:
        end = opened.seek(0, os.SEEK_END)
        if end:
            opened.seek(end - 1)
            if opened.read(1) != b"\n":  # a line that a killed process began
                lines = f"\n{lines}"
        opened.write(lines.encode("ascii"))
        opened.flush()
        os.fsync(file)


def _line(name: str, note: Note) -> str:
    return json.dumps({"keyset": name, "id": note.keyset_id, "revision": note.revision, "change": note.text}) + "\n"


def _parsed(line: str, name: str) -> Note | None:
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        told = json.loads(line)
        note = Note(told["id"], told["revision"], told["change"])
        if told["keyset"] == name and list(map(type, note)) == [str, int, str]:
            return note
    return None

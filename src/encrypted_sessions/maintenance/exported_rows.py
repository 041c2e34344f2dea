"""A file that `export` wrote, read again: all of it is checked before its first row is put anywhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from typing_extensions import Self

from ..stores.whole import StoredRow

__all__ = ["ExportedRows", "UnfitExportError"]

#: A page ends with the row that makes it so large.
_PAGE_BYTES = 4 * 2**20

#: How many bytes JSON takes for one byte of a row, at most, and for what stands around it.
_JSON_BYTES, _FRAME_BYTES = 6, 10_000

_INCOMPLETE = "To use the rows that are there: incomplete=True, or on the command line --incomplete"

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class UnfitExportError(ValueError):
    """What is wrong with the file, in words. Nothing was put back."""


class ExportedRows:
    """The rows of one file, open from `with` on. No row is read that is larger than `max_row_bytes`."""

    def __init__(self, path: str, max_row_bytes: int) -> None:
        self.path = path
        self._longest = _JSON_BYTES * max_row_bytes + _FRAME_BYTES
        self.rows = 0
        """How many there are, once `check` was there."""
        self.repeated = 0
        """Lines that another one of the same row follows: the last is the one that was removed."""
        self._last: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._file: BinaryIO = Path(self.path).open("rb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def check(self, kind: str, *, incomplete: bool) -> None:
        """See that each line is a row of such a store, and that none is missing or changed; else UnfitExportError.

        With `incomplete` the last line may be missing, as after a kill, and the one before it be cut.
        """
        found, ids = hashlib.sha256(), array("q")
        for number, line in enumerate(self._lines(), 1):
            told = self._parsed(line)
            if told is not None and "sha256" in told:
                self._check_end(told, kind, {"rows": len(ids), "sha256": found.hexdigest()})
                break
            if not line.endswith(b"\n"):  # then its row was not removed
                if incomplete:
                    break
                raise self._unfit(f"it was cut off in its line {number}. {_INCOMPLETE}")
            if told is None:
                raise self._unfit(f"its line {number} is not a row of an export")
            if not _is_number(told["id"]):
                raise self._unfit("its rows do not have a number as primary key: they come from another kind of store")
            found.update(line)
            ids.append(told["id"])
        else:
            if not incomplete:
                raise self._unfit(
                    "it lacks the last line, with the count of its rows: the run that wrote it was killed, or the file"
                    f" was cut. {_INCOMPLETE}"
                )
        self.rows = len(ids)
        self._find_repeated(ids)

    def _check_end(self, told: dict[str, Any], kind: str, found: dict[str, Any]) -> None:
        """See that the last line is true, and the last."""
        if self._file.read(1):
            raise self._unfit("there is more after the line with the count of its rows")
        if {name: told.get(name) for name in found} != found:
            raise self._unfit("it was changed: its last line has another count or another SHA-256")
        if told.get("store") != kind:
            raise self._unfit(f"it comes from another kind of store ({told.get('store')}); this one is {kind}")

    def pages(self, count: int) -> Iterator[list[StoredRow]]:
        """The rows, up to `count` at once, fewer where they are large. After `check`."""
        page: list[StoredRow] = []
        size = 0
        for number, line in zip(range(self.rows), self._lines(), strict=False):
            told = self._parsed(line)
            if told is None or "sha256" in told:
                raise self._unfit("it was changed while it was read")
            if self._last.get(told["id"], number) != number:
                continue
            row = _row(told)
            page.append(row)
            size += len(row.data)
            if len(page) == count or size > _PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page

    def _find_repeated(self, ids: array[int]) -> None:
        ordered = sorted(ids)
        repeated = {one for one, other in pairwise(ordered) if one == other}
        if repeated:
            self._last = {row_id: number for number, row_id in enumerate(ids) if row_id in repeated}
            self.repeated = sum(row_id in repeated for row_id in ids) - len(repeated)

    def _lines(self) -> Iterator[bytes]:
        self._file.seek(0)
        while line := self._file.readline(self._longest):
            if len(line) == self._longest and not line.endswith(b"\n"):
                raise self._unfit("it has a line longer than max_row_bytes (--max-row-bytes) allows")
            yield line

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        """The object of a line, with what a row or the last line has; None for what is neither."""
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(told, dict):
            return None
        return told if "sha256" in told or _is_row(told) else None

    def _unfit(self, problem: str) -> UnfitExportError:
        return UnfitExportError(f"the file {self.path} cannot be put back: {problem}. Nothing was changed")


def _is_number(row_id: object) -> bool:
    return type(row_id) is int and _LOWEST <= row_id <= _HIGHEST


def _is_row(told: dict[str, Any]) -> bool:
    created_at = told.get("created_at", "")
    if not isinstance(told.get("session_id"), str) or "id" not in told:
        return False
    if created_at is not None and (isinstance(created_at, bool) or not isinstance(created_at, (int, float))):
        return False
    if "data" in told:
        return isinstance(told["data"], str)
    try:
        base64.b64decode(told["data_base64"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        return False
    return True


def _row(told: dict[str, Any]) -> StoredRow:
    data = told["data"] if "data" in told else base64.b64decode(told["data_base64"])
    return StoredRow(told["id"], told["session_id"], data, told["created_at"])

"""The file of what a command removes: one JSON object per line, on the disk before the row is gone.

The last line has the count of the others and their SHA-256, so that a file that was cut can be told from a whole one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from ..stores.unsuitable import UnsuitableStoreError
from ..stores.whole import HAS_NULL, StoredRow, WholeStore
from .run import Run

__all__ = ["Export", "Exporting", "export_session"]

#: Rows of a session read at once.
_PAGE = 500


class Export:
    """A new file that only its owner may read. Nothing is ever written over."""

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        """Make the file, for rows of a kind of store. Raises FileExistsError if there is one, else OSError."""
        self.path = Path(path)
        self._kind = kind
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            message = f"the export file {self.path} exists already; name a new one. Nothing was removed"
            raise FileExistsError(message) from None
        self._rows = 0
        self._hash = hashlib.sha256()
        self._ends_with_a_line = True
        _sync_folder(self.path.absolute().parent)

    async def write(self, rows: Sequence[StoredRow]) -> None:
        """Write rows, and wait until they are on the disk."""
        await asyncio.to_thread(self._write, rows)

    def _write(self, rows: Sequence[StoredRow]) -> None:
        lines = "".join(json.dumps(_as_object(row)) + "\n" for row in rows).encode("ascii")
        self._append(lines)
        self._hash.update(lines)
        self._rows += len(rows)

    def _append(self, lines: bytes) -> None:
        self._ends_with_a_line = False
        while lines:
            lines = lines[os.write(self._file, lines) :]
        os.fsync(self._file)
        self._ends_with_a_line = True

    def close(self) -> str | None:
        """Close the file, with its last line: its path, or None if nothing came and it is gone again.

        Raises OSError if that line cannot be written.
        """
        try:
            if self._rows and self._ends_with_a_line:
                end = {"rows": self._rows, "sha256": self._hash.hexdigest(), "store": self._kind}
                self._append(json.dumps(end).encode("ascii") + b"\n")
        finally:
            os.close(self._file)
        if self._rows:
            return str(self.path)
        self.path.unlink(missing_ok=True)
        return None


class Exporting:
    """The export of one run, for as long as the run lasts. Without a path, and in a dry run, there is none."""

    def __init__(self, path: str | None, store: WholeStore, *, dry_run: bool) -> None:
        self.file = None if path is None or dry_run else Export(path, store.kind)
        self.path: str | None = None
        """What was written, once it is whole."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.file is not None:
            # What went wrong before says more than what goes wrong with the last line for the same reason.
            with contextlib.suppress(*([OSError] if error is not None else [])):
                self.path = self.file.close()


async def export_session(run: Run, session_id: str, export: Export) -> None:
    """Write the rows of one session. Raises StoreError for one that is too large to be read."""
    rows = await run.call(partial(run.store.session_rows, session_id, None, _PAGE))
    while rows:
        if any(row.unread not in (None, HAS_NULL) for row in rows):
            raise UnsuitableStoreError(
                f"the session {session_id!r} has a row of more than {run.settings.max_row_bytes:,} bytes, which cannot"
                " be copied: the session stays as it is. Erase it without an export"
            )
        await export.write(rows)
        rows = await run.call(partial(run.store.session_rows, session_id, rows[-1], _PAGE))


def _as_object(row: StoredRow) -> dict[str, Any]:
    line: dict[str, Any] = {"session_id": row.session_id, "id": _plain_id(row.id), "created_at": row.created_at}
    try:
        line["data"] = row.data if isinstance(row.data, str) else row.data.decode("utf-8")
    except UnicodeDecodeError:
        line["data_base64"] = base64.b64encode(bytes(row.data)).decode("ascii")  # type: ignore[arg-type]  # it is bytes
    return line


def _plain_id(row_id: Any) -> Any:
    if isinstance(row_id, tuple):
        return [_plain_id(part) for part in row_id]
    return row_id.decode("utf-8", "surrogateescape") if isinstance(row_id, bytes) else row_id


def _sync_folder(folder: Path) -> None:
    # So that the file's name survives a crash too. Not every system can do it.
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError:
        pass
    finally:
        os.close(opened)

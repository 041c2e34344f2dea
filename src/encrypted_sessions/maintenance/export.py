"""The file of what `discard` removes: one JSON object per line, on the disk before the row is gone."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..stores.whole import StoredRow

__all__ = ["Export"]


class Export:
    """A new file that only its owner may read. Nothing is ever written over."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Make the file. Raises FileExistsError if there is one, OSError if it cannot be made."""
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            message = f"the export file {self.path} exists already; name a new one. Nothing was removed"
            raise FileExistsError(message) from None
        self._rows = 0
        _sync_folder(self.path.absolute().parent)

    async def write(self, rows: Sequence[StoredRow]) -> None:
        """Write rows, and wait until they are on the disk."""
        await asyncio.to_thread(self._write, rows)

    def _write(self, rows: Sequence[StoredRow]) -> None:
        lines = "".join(json.dumps(_as_object(row)) + "\n" for row in rows).encode("ascii")
        while lines:
            lines = lines[os.write(self._file, lines) :]
        os.fsync(self._file)
        self._rows += len(rows)

    def close(self) -> str | None:
        """Close the file: its path, or None if nothing came and it is gone again."""
        os.close(self._file)
        if self._rows:
            return str(self.path)
        self.path.unlink(missing_ok=True)
        return None


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

"""The record of an erasure: a file with a line of JSON for each session that is gone. A later run goes on with it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .._support.origin import host_name, library_version, user_name
from .session_ids import SessionIds

__all__ = ["ErasureRecord"]

_FORMAT = 1
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


class ErasureRecord:
    """A file that only its owner may read, and to which lines are only added.

    A session is noted as begun before anything of it goes, and as erased once all of it is gone: so of one that was in
    the midst when its run was killed, the next run knows whose doing it is that it is not there.
    """

    def __init__(self, path: str | os.PathLike[str], store: str, *, read_only: bool) -> None:
        """Read what earlier runs have noted. Raises FileExistsError for a file that is no record of this store's."""
        self.path = Path(path)
        self.gone = SessionIds()
        """The sessions that are noted as erased."""
        self.in_doubt: dict[str, None] = {}
        """Those that were begun, and of which it is not noted what became of them."""
        self._store = store
        self._file: int | None = None
        self._ends = 0
        try:
            # Not to wait for the writer of a pipe.
            self._file = os.open(self.path, _NO_WAIT | (os.O_RDONLY if read_only else os.O_RDWR | os.O_APPEND))
        except FileNotFoundError:
            return
        try:
            self._check(self._file, read_only=read_only)
            with os.fdopen(os.dup(self._file), "rb") as lines:
                self.gone.add(self._read(lines))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. May be called again."""
        self.gone.close()
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    # -- What was noted.

    def _check(self, file: int, *, read_only: bool) -> None:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise self._refused("is not a file")
        if not read_only:
            self._lock(file)

    def _lock(self, file: int) -> None:
        try:
            import fcntl  # noqa: PLC0415 - which not every system has
        except ImportError:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            in_use = True
        else:
            in_use = False
        if in_use:
            raise self._refused("is in use by another run")

    def _read(self, lines: Iterable[bytes]) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):  # its writer was killed in the midst of it
                return
            self._ends += len(line)
            noted = self._parsed(line)
            event = noted.get("event")
            if number == 1 and (event, noted.get("command"), noted.get("format")) != ("run", "erase", _FORMAT):
                raise self._refused("is not a report of erase")
            if event == "run" and noted.get("store") != self._store:
                raise self._refused("belongs to another store")
            if event == "begin":
                self.in_doubt.update(dict.fromkeys(noted["sessions"]))
            elif event in ("erased", "missing"):
                self.in_doubt.pop(noted["session_id"], None)
            if event == "erased":
                yield noted["session_id"]

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            noted = json.loads(line)
            if isinstance(noted, dict):
                return noted
        except ValueError:
            pass
        raise self._refused("has a line that was not written by erase")

    def _refused(self, why: str) -> FileExistsError:
        return FileExistsError(f"the report file {self.path} {why}; name another one. Nothing was erased")

    # -- What is noted.

    async def begin_run(self, what: Mapping[str, Any], expect: int | None) -> None:
        """Note who erases what, when and with which version; make the file, if it is not there."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._lock(self._file)
            with suppress(OSError):  # so that its name survives a crash, too; not every system can do it
                _sync(self.path.absolute().parent)
        else:
            os.ftruncate(self._file, self._ends)
        line = {"event": "run", "format": _FORMAT, "command": "erase", "store": self._store, "what": what}
        line |= {
            "expect": expect,
            "at": _now(),
            "version": library_version(),
            "host": host_name(),
            "user": user_name(),
        }
        await self._write([line])

    async def begin(self, session_ids: Sequence[str]) -> None:
        """Note that these sessions are about to be erased."""
        await self._write([{"event": "begin", "sessions": session_ids}])

    async def erased(self, rows_of: Mapping[str, Mapping[str, int] | None]) -> None:
        """Note that these sessions are gone, with the rows that went; None where a run that was killed removed them."""
        await self._write(
            {"event": "erased", "session_id": session_id, "rows": rows, "at": _now()}
            for session_id, rows in rows_of.items()
        )

    async def missing(self, session_ids: Iterable[str]) -> None:
        """Note sessions that were named, and of which there was no trace."""
        await self._write({"event": "missing", "session_id": one, "at": _now()} for one in session_ids)

    async def end_run(self, result: Mapping[str, Any]) -> None:
        """Note how the run ended, and what it could not reach."""
        await self._write([{"event": "end", "at": _now(), **result}])

    async def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
        if text:
            await asyncio.to_thread(self._write_out, text)

    def _write_out(self, text: bytes) -> None:
        assert self._file is not None  # noqa: S101 - `begin_run` came first
        while text:
            text = text[os.write(self._file, text) :]
        os.fsync(self._file)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")

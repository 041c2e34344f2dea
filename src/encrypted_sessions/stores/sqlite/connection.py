"""A connection to a file of SQLite in a thread of its own, so that nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..._support.shielding import shield
from ...errors import StoreError, StoreUnavailableError
from ..driver_errors import trouble_of

__all__ = ["SQLiteConnection"]

_T = TypeVar("_T")


class SQLiteConnection:
    """One connection in one worker thread. What it deletes or replaces is overwritten with zeros in the file."""

    def __init__(self, path: Path, location: str, timeout_s: float) -> None:
        self._path = path
        self._location = location
        self._timeout_s = timeout_s
        self._worker: ThreadPoolExecutor | None = None
        self._opened: sqlite3.Connection | None = None

    async def open(self, check: Callable[[sqlite3.Connection], None]) -> None:
        """Open the file, which must be there; `check` sees that it is the right one, in the worker."""
        self._worker = ThreadPoolExecutor(1, "encrypted-sessions-store")
        await self.run(self._open, check)

    def _open(self, check: Callable[[sqlite3.Connection], None]) -> None:
        if not self._path.is_file():
            raise StoreError(
                f"the file {self._path} does not exist; nothing was created. Give the path of the store's file"
            )
        connection = self._opened = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw", uri=True, timeout=self._timeout_s, isolation_level=None
        )
        connection.text_factory = _text
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        check(connection)

    async def aclose(self) -> None:
        """Close the file once what is under way has ended. May be called again."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await shield(loop.run_in_executor(worker, self._close))
        finally:
            worker.shutdown()

    def _close(self) -> None:
        connection, self._opened = self._opened, None
        if connection is not None:
            connection.close()

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """In the worker, to its end: a change is not left half-way because the task was cancelled."""
        if self._worker is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        try:
            return await shield(asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments))
        except sqlite3.Error as error:
            problem = self._problem(error)
        raise problem

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        """All rows that a statement gives."""
        return await self.run(lambda: self.sqlite.execute(statement, values).fetchall())

    def interrupt(self) -> None:
        """Have the statement under way fail; its transaction is rolled back. From any thread."""
        if self._opened is not None:
            self._opened.interrupt()

    @property
    def sqlite(self) -> sqlite3.Connection:
        """The connection itself, for work that runs in the worker."""
        assert self._opened is not None, "opened in `_open`"  # noqa: S101 - for the type checker
        return self._opened

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A change as a whole or not at all, for work that runs in the worker."""
        connection = self.sqlite
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _problem(self, error: sqlite3.Error) -> StoreError:
        text, trouble = f"{self._location}: {error}", trouble_of(error)
        if trouble is not None and trouble.passes:
            return StoreUnavailableError(f"{text}. This step was not done. {trouble.advice}")
        return StoreError(
            f"{text}. Check that it is a file of the Agents SDK's sessions, and that this user may write to it"
        )


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")

"""Files of SQLite, by the standard library: what the SDK's SQLite classes and SQLAlchemySession leave there.

One connection in one worker thread does everything, so nothing of this blocks the event loop. What
it deletes or replaces is overwritten with zeros in the file (secure_delete); `checkpoint` empties the
log, where the old bytes lie until then.
"""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..._support.shielding import shield
from ...errors import StoreError, StoreUnavailableError
from ..blocks import SIZE, Extent, TableStore
from ..tables import Tables, quoted
from ..whole import StoredRow
from . import branches as sqlite_branches

__all__ = ["SQLiteStore"]

_T = TypeVar("_T")

#: How long a call waits for others who write. Then it gives up, and whoever called may try again.
_TIMEOUT_S = 10.0

#: Seconds between two tries to empty the log.
_AGAIN_S = 0.02

#: How many sessions one step erases, and how many messages at most before the last step.
_SESSIONS = 20
_PART = 5_000

# What waiting does not mend, though SQLite counts it among the errors of operation.
_FOR_GOOD = re.compile("no such (table|column)|readonly|unable to open|syntax error", re.IGNORECASE)


class SQLiteStore(TableStore):
    """The rows of one file. The file is never made, and its tables neither."""

    overlaps = False

    def __init__(self, path: str, tables: Tables, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.location = f"the SQLite file {path}"
        self._path = Path(path)
        self._tables = tables
        self._timeout_s = timeout_s
        self._worker: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        messages = quoted(tables.messages)
        # As a BLOB: text that is not UTF-8 cannot be fetched as text.
        self._rows = (
            "SELECT id, CAST(session_id AS TEXT), CAST(message_data AS BLOB),"
            f" CAST(strftime('%s', created_at) AS REAL) FROM {messages}"
        )
        self._replace_row = f"UPDATE {messages} SET message_data = ? WHERE id = ? AND CAST(message_data AS BLOB) = ?"
        self._remove_row = f"DELETE FROM {messages} WHERE id = ? AND CAST(message_data AS BLOB) = ?"
        # Two questions: the least and the greatest together would be looked for row by row.
        within = f"FROM {messages} WHERE id BETWEEN ?1 AND ?2"
        self._look_at = (
            f"SELECT (SELECT min(id) {within}), (SELECT max(id) {within}),"
            f" (SELECT count(*) FROM (SELECT id {within} LIMIT {SIZE + 1}))"
        )
        self._by_time = False

    async def open(self) -> None:
        """As `WholeStore.open`."""
        self._worker = ThreadPoolExecutor(1, "encrypted-sessions-store")
        await self._run(self._open)

    def _open(self) -> None:
        if not self._path.is_file():
            raise StoreError(f"there is no file {self._path}; nothing was made. Give the path of the store's file")
        connection = self._connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw", uri=True, timeout=self._timeout_s, isolation_level=None
        )
        connection.text_factory = _text
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        found = {
            table: {column for _, column, *_ in connection.execute(f"PRAGMA table_info({quoted(table)})")}
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        }
        self._tables.check(found, self.location, fold=_fold)
        # SQLAlchemySession reads in the order of time, and has an index for it; the others go by id.
        indexes = connection.execute(f"PRAGMA index_list({quoted(self._tables.messages)})").fetchall()
        self._by_time = any(
            [column for *_, column in connection.execute(f"PRAGMA index_info({quoted(name)})")]
            == ["session_id", "created_at"]
            for _, name, *_ in indexes
        )

    async def aclose(self) -> None:
        """As `WholeStore.aclose`."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await shield(loop.run_in_executor(worker, self._close))
        finally:
            worker.shutdown()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def count(self) -> int:
        """As `WholeStore.count`."""
        ((number,),) = await self._fetch(f"SELECT count(*) FROM {quoted(self._tables.messages)}")
        return int(number)

    async def _look(self, first: int, last: int) -> Extent | None:
        (found,) = await self._fetch(self._look_at, first, last)
        return None if found[0] is None else Extent(*found)

    async def _between(self, first: int, last: int, count: int) -> list[StoredRow]:
        condition = "WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        return await self._stored(f"{self._rows} {condition}", first, last, count)

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.session_rows`. Of AdvancedSQLiteSession, the rows of all its branches."""
        time = "CAST(strftime('%s', created_at) AS REAL)" if self._by_time else "NULL"
        condition, place = "session_id = ?", tuple[Any, ...]()
        if after is not None and self._by_time:
            condition, place = f"{condition} AND ({time}, id) > (?, ?)", (after.created_at, after.id)
        elif after is not None:
            condition, place = f"{condition} AND id > ?", (after.id,)
        order = f"{time}, id" if self._by_time else "id"
        return await self._stored(f"{self._rows} WHERE {condition} ORDER BY {order} LIMIT ?", session_id, *place, count)

    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        """As `WholeStore.replace`."""
        return await self._run(self._replace, changes)

    def _replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        values = [(new, row.id, row.data) for row, new in changes]
        with self._change() as connection:
            connection.execute("SAVEPOINT together")
            if connection.executemany(self._replace_row, values).rowcount == len(values):
                return [True] * len(values)
            # Some rows changed meanwhile. Which ones only single statements can tell.
            connection.execute("ROLLBACK TO together")
            return [connection.execute(self._replace_row, value).rowcount == 1 for value in values]

    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        """As `WholeStore.remove`. Of AdvancedSQLiteSession, from every branch."""
        return await self._run(self._remove, rows)

    def _remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        with self._change() as connection:
            removed = [connection.execute(self._remove_row, (row.id, row.data)).rowcount == 1 for row in rows]
            gone = [row for row, done in zip(rows, removed, strict=True) if done]
            sqlite_branches.forget_messages(connection, self._tables, gone)
            return removed

    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        """As `WholeStore.erase`."""
        found: Counter[str] = Counter()
        for start in range(0, len(session_ids), _SESSIONS):
            some = session_ids[start : start + _SESSIONS]
            if dry_run:
                await self._run(self._count_traces, some, found)
                continue
            # Long histories in parts, so that nobody waits long; what is left, in one step.
            while await self._run(self._erase_part, some, found):
                pass
            await self._run(self._erase_rest, some, found)
        return found

    def _traces(self, connection: sqlite3.Connection) -> list[str]:
        """Every table that may know a session, what points at others first."""
        return [
            *sqlite_branches.tables_of_notes(connection, self._tables),
            self._tables.messages,
            self._tables.sessions,
        ]

    def _count_traces(self, session_ids: Sequence[str], found: Counter[str]) -> None:
        connection = self._connected()
        for table in self._traces(connection):
            statement = f"SELECT count(*) FROM {quoted(table)} WHERE {_of_sessions(session_ids)}"
            ((number,),) = connection.execute(statement, session_ids)
            found[table] += number

    def _erase_part(self, session_ids: Sequence[str], found: Counter[str]) -> bool:
        table = quoted(self._tables.messages)
        part = f"SELECT id FROM {table} WHERE {_of_sessions(session_ids)} LIMIT {_PART}"
        with self._change() as connection:
            removed = connection.execute(f"DELETE FROM {table} WHERE id IN ({part})", session_ids).rowcount
        found[self._tables.messages] += removed
        return removed == _PART

    def _erase_rest(self, session_ids: Sequence[str], found: Counter[str]) -> None:
        with self._change() as connection:
            removed = {
                table: connection.execute(
                    f"DELETE FROM {quoted(table)} WHERE {_of_sessions(session_ids)}", session_ids
                ).rowcount
                for table in self._traces(connection)
            }
        found.update(removed)

    async def checkpoint(self) -> Sequence[str]:
        """As `WholeStore.checkpoint`: empties the write-ahead log, which readers can prevent."""
        return await self._run(self._settle)

    def _settle(self) -> Sequence[str]:
        connection = self._connected()
        ((mode,),) = connection.execute("PRAGMA journal_mode")
        if mode != "wal":  # the journal went with the last change
            return ()
        ends = time.monotonic() + self._timeout_s
        while True:
            ((busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if not busy:
                return ()
            if time.monotonic() > ends:
                break
            time.sleep(_AGAIN_S)  # SQLite does not wait by itself for a checkpoint of somebody else
        notice = (
            f"{self._path}-wal could not be emptied, because somebody else reads or writes: it still holds old bytes"
            " of what was replaced or removed. Run this again when the applications that hold the file open are"
            " between two requests, or stopped"
        )
        return (notice,)

    async def _stored(self, statement: str, *values: object) -> list[StoredRow]:
        return await self._run(lambda: list(map(StoredRow._make, self._connected().execute(statement, values))))

    async def _fetch(self, statement: str, *values: object) -> list[Any]:
        return await self._run(lambda: self._connected().execute(statement, values).fetchall())

    async def _run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """In the worker, to its end: a change is not left half-way because the task was cancelled."""
        if self._worker is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        try:
            return await shield(asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments))
        except sqlite3.Error as error:
            problem = self._problem(error)
        raise problem

    def _problem(self, error: sqlite3.Error) -> StoreError:
        text = f"{self.location}: {error}"
        if isinstance(error, sqlite3.OperationalError) and not _FOR_GOOD.search(str(error)):
            return StoreUnavailableError(f"{text}. Nothing of this step was done; try again")
        return StoreError(f"{text}. Is it a file of the Agents SDK's sessions, and may this user write it?")

    def _connected(self) -> sqlite3.Connection:
        assert self._connection is not None, "opened in `_open`"  # noqa: S101 - for the type checker
        return self._connection

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _of_sessions(session_ids: Sequence[str]) -> str:
    return f"session_id IN ({', '.join('?' * len(session_ids))})"


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _fold(name: str) -> str:
    # As SQLite compares names: it knows the case of ASCII only.
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), name)

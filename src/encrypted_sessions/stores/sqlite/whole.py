"""Files of SQLite, by the standard library: what the SDK's SQLite classes and SQLAlchemySession leave there.

One connection in one worker thread does everything. What it deletes or replaces is overwritten with
zeros in the file (secure_delete); `checkpoint` empties the log, where the old bytes lie until then.
"""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import StoreError
from ..blocks import SIZE, Extent, TableStore
from ..tables import Tables, quoted
from ..whole import HAS_NULL, PAGE_BYTES, Place, SideEffect, StoredRow
from .branches import forget_messages
from .connection import SQLiteConnection
from .erasing import erase_sessions, of_sessions, present_sessions
from .putting_back import RowsPutBack
from .session_ids import ids_of_sessions
from .side_effects import side_effects
from .statements import SIZE_OF_ROW

__all__ = ["SQLiteStore"]

#: How long a call waits for others who write. Then it gives up, and whoever called may try again.
_TIMEOUT_S = 10.0

#: Seconds between two tries to empty the log.
_RETRY_S = 0.02


class SQLiteStore(TableStore):
    """The rows of one file. The file is never made, and its tables neither."""

    kind = "sqlite"
    overlaps = False

    def __init__(self, path: str, tables: Tables, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.location = f"the SQLite file {path}"
        self._path = Path(path)
        self._tables = tables
        self._timeout_s = timeout_s
        self._connection = SQLiteConnection(self._path, self.location, timeout_s)
        messages = quoted(tables.messages)
        # As a BLOB: text that is not UTF-8 cannot be fetched as text. NULL counts as empty.
        data = "COALESCE(CAST(message_data AS BLOB), x'')"
        large = f"{SIZE_OF_ROW} > ?"
        self._rows = (
            f"SELECT id, COALESCE(CAST(session_id AS TEXT), ''), CASE WHEN {large} THEN x'' ELSE {data} END,"
            " CAST(strftime('%s', created_at) AS REAL), CASE WHEN session_id IS NULL OR message_data IS NULL"
            f" THEN {HAS_NULL} WHEN {large} THEN {SIZE_OF_ROW} END FROM {messages}"
        )
        self._replace_row = f"UPDATE {messages} SET message_data = ? WHERE id = ? AND CAST(message_data AS BLOB) = ?"
        self._remove_row = f"DELETE FROM {messages} WHERE id = ? AND {data} = ?"
        # Two questions: the least and the greatest together would be looked for row by row.
        within = f"FROM {messages} WHERE id BETWEEN ? AND ?"
        self._look_at = (
            f"SELECT (SELECT min(id) {within}), (SELECT max(id) {within}),"
            f" (SELECT count(*) FROM (SELECT id {within} LIMIT {SIZE + 1}))"
        )
        self._by_time = False

    async def open(self) -> None:
        """As `WholeStore.open`."""
        await self._connection.open(self._check)

    def _check(self, connection: sqlite3.Connection) -> None:
        """See that the tables are there, and in which order their rows are read."""
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
        await self._connection.aclose()

    async def side_effects(self) -> Sequence[SideEffect]:
        """As `WholeStore.side_effects`."""
        return await self._connection.run(lambda: side_effects(self._connection.sqlite, self._tables))

    def interrupt(self) -> None:
        """As `WholeStore.interrupt`."""
        self._connection.interrupt()

    async def count(self) -> int:
        """As `WholeStore.count`."""
        ((number,),) = await self._connection.fetch(f"SELECT count(*) FROM {quoted(self._tables.messages)}")
        return int(number)

    async def _look(self, first: int, last: int) -> Extent | None:
        (found,) = await self._connection.fetch(self._look_at, *(first, last) * 3)
        return None if found[0] is None else Extent(*found)

    async def _between(self, first: int, last: int, count: int) -> list[StoredRow]:
        condition = "WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        return await self._stored(f"{self._rows} {condition}", first, last, count)

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.session_rows`. Of AdvancedSQLiteSession, the rows of all its branches."""
        time = "CAST(strftime('%s', created_at) AS REAL)" if self._by_time else "NULL"
        condition, position = "session_id = ?", tuple[Any, ...]()
        if after is not None and self._by_time:
            condition, position = f"{condition} AND ({time}, id) > (?, ?)", (after.created_at, after.id)
        elif after is not None:
            condition, position = f"{condition} AND id > ?", (after.id,)
        order = f"{time}, id" if self._by_time else "id"
        return await self._stored(
            f"{self._rows} WHERE {condition} ORDER BY {order} LIMIT ?", session_id, *position, count
        )

    async def session_ids(self, prefix: str, after: str | None, count: int) -> list[str]:
        """As `WholeStore.session_ids`: by the tables' own indexes."""
        await self._connection.run(self._refuse_utf16)
        return await self._connection.run(ids_of_sessions, self._connection, self._tables, prefix, after, count)

    def _refuse_utf16(self) -> None:
        ((encoding,),) = self._connection.sqlite.execute("PRAGMA encoding")
        if encoding != "UTF-8":
            raise StoreError(f"{self.location} stores text as {encoding}, so ids are not ordered by their UTF-8 bytes")

    async def present(self, session_ids: Sequence[str]) -> set[str]:
        """As `WholeStore.present`."""
        there = set[str]()
        for start in range(0, len(session_ids), SIZE):
            some = session_ids[start : start + SIZE]
            there |= await self._connection.run(present_sessions, self._connection, self._tables, some)
        return there

    async def _ids_of(self, session_ids: Sequence[str]) -> list[int]:
        found = await self._connection.fetch(
            f"SELECT id FROM {quoted(self._tables.messages)} WHERE {of_sessions(session_ids)} ORDER BY id", *session_ids
        )
        return [row_id for (row_id,) in found]

    async def _with_ids(self, ids: Sequence[int], session_ids: Sequence[str]) -> list[StoredRow]:
        condition = f"id IN ({', '.join('?' * len(ids))}) AND +{of_sessions(session_ids)}"
        return await self._stored(f"{self._rows} WHERE {condition} ORDER BY id", *ids, *session_ids)

    def beyond_reach(self) -> Sequence[str]:
        """As `WholeStore.beyond_reach`."""
        return (
            "backups and copies of the file, snapshots of its file system, and copies of a replicator",
            "old blocks that the disk has replaced by new ones (flash memory, copy-on-write file systems)",
            "rows that other software deleted earlier: VACUUM rewrites the file",
            "logs and traces of the applications and of the model's provider",
        )

    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        """As `WholeStore.replace`."""
        return await self._connection.run(self._replace, changes)

    def _replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        values = [(new, row.id, row.data) for row, new in changes]
        with self._connection.transaction() as connection:
            connection.execute("SAVEPOINT together")
            if connection.executemany(self._replace_row, values).rowcount == len(values):
                return [True] * len(values)
            # Some rows changed meanwhile. Which ones only single statements can tell.
            connection.execute("ROLLBACK TO together")
            return [connection.execute(self._replace_row, value).rowcount == 1 for value in values]

    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        """As `WholeStore.remove`. Of AdvancedSQLiteSession, from every branch."""
        return await self._connection.run(self._remove, rows)

    def _remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        with self._connection.transaction() as connection:
            removed = [connection.execute(self._remove_row, (row.id, row.data)).rowcount == 1 for row in rows]
            gone = [row for row, done in zip(rows, removed, strict=True) if done]
            forget_messages(connection, self._tables, gone)
            return removed

    async def put_back(self, rows: Sequence[StoredRow], *, dry_run: bool = False) -> list[Place]:
        """As `WholeStore.put_back`. Not into a file of AdvancedSQLiteSession, whose messages are more than rows."""
        putting = RowsPutBack(self._connection, self._tables, self.location)
        return await self._connection.run(putting.put, rows, dry_run)

    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        """As `WholeStore.erase`."""
        return await erase_sessions(self._connection, self._tables, session_ids, dry_run=dry_run)

    async def checkpoint(self) -> Sequence[str]:
        """As `WholeStore.checkpoint`: empties the write-ahead log, which readers can prevent."""
        return await self._connection.run(self._empty_log)

    def _empty_log(self) -> Sequence[str]:
        connection = self._connection.sqlite
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
            time.sleep(_RETRY_S)  # SQLite does not wait by itself for a checkpoint of somebody else
        notice = (
            f"{self._path}-wal could not be emptied, because another process reads or writes: it still"
            " holds old bytes of replaced or removed rows. Run this again when the applications that"
            " have the file open are idle or stopped"
        )
        return (notice,)

    async def _stored(self, statement: str, *values: object) -> list[StoredRow]:
        return await self._connection.run(self._page, statement, values)

    def _page(self, statement: str, values: Sequence[object]) -> list[StoredRow]:
        found = []
        left = PAGE_BYTES
        # Sizes are compared in two of the columns.
        most = (self.max_row_bytes,) * 2
        # One by one, so that none is fetched that is too much.
        for row in map(StoredRow._make, self._connection.sqlite.execute(statement, (*most, *values))):
            found.append(row)
            left -= len(row.data)
            if left <= 0:
                break
        return found


def _fold(name: str) -> str:
    # As SQLite compares names: it knows the case of ASCII only.
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), name)

"""Rows that were taken out of a file, put back under the ids that they had."""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..tables import Tables, quoted
from ..unsuitable import UnsuitableStoreError
from ..whole import Place, StoredRow
from . import branches
from .connection import SQLiteConnection

__all__ = ["RowsPutBack"]


class RowsPutBack:
    """The step, in the worker: all of it or nothing."""

    def __init__(self, connection: SQLiteConnection, tables: Tables, location: str) -> None:
        self._connection = connection
        self._tables = tables
        self._location = location
        messages, sessions = quoted(tables.messages), quoted(tables.sessions)
        # As bytes, for what is no UTF-8; and a time as SQLite's CURRENT_TIMESTAMP writes it.
        self._insert = (
            f"INSERT INTO {messages} (id, session_id, message_data, created_at) VALUES (?, CAST(? AS TEXT),"
            " CAST(? AS TEXT), strftime('%Y-%m-%d %H:%M:%S', ?, 'unixepoch'))"
        )
        self._insert_session = f"INSERT OR IGNORE INTO {sessions} (session_id) VALUES (CAST(? AS TEXT))"
        self._look = (
            f"SELECT CAST(session_id AS BLOB) = ? AND CAST(message_data AS BLOB) = ? FROM {messages} WHERE id = ?"
        )

    def put(self, rows: Sequence[StoredRow], dry_run: bool) -> list[Place]:  # noqa: FBT001 - by position, in a worker
        """What there was in the place of each."""
        if branches.tables_of_notes(self._connection.sqlite, self._tables):
            raise UnsuitableStoreError(
                f"{self._location} belongs to AdvancedSQLiteSession, which reads a message only if its branch and"
                " turn are recorded: an export does not contain them, so nothing can be put back. Restore a copy"
                " of the file"
            )
        if dry_run or not rows:
            return [self._found(self._connection.sqlite, row) for row in rows]
        with self._connection.transaction() as connection:
            return [self._put(connection, row) for row in rows]

    def _put(self, connection: sqlite3.Connection, row: StoredRow) -> Place:
        place = self._found(connection, row)
        if place == "free":
            session_id, data = _bytes_of(row)
            connection.execute(self._insert_session, (session_id,))
            connection.execute(self._insert, (row.id, session_id, data, row.created_at))
        return place

    def _found(self, connection: sqlite3.Connection, row: StoredRow) -> Place:
        found = connection.execute(self._look, (*_bytes_of(row), row.id)).fetchone()
        return "free" if found is None else "already" if found[0] else "taken"


def _bytes_of(row: StoredRow) -> tuple[bytes, bytes]:
    data = row.data if isinstance(row.data, bytes) else row.data.encode("utf-8", "surrogatepass")
    return row.session_id.encode("utf-8", "surrogateescape"), data

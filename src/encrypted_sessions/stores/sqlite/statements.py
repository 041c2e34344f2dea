"""The SQL that both SQLite stores run. Table names come from the application's own code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from ..rows import TOO_LARGE, Row

__all__ = ["SQLiteStatements", "rows_of"]

_DATA = itemgetter(1)


class SQLiteStatements:
    """Statements over one messages table.

    A row is read and compared as a BLOB: text that is not UTF-8 cannot be fetched as text.
    """

    def __init__(self, messages_table: str) -> None:
        self._table = table = messages_table
        # What is too large comes as a number, which no BLOB is. Bytes, and so of a BLOB: of text SQLite would count
        # characters, which takes six times as long.
        data = "CAST(message_data AS BLOB)"
        data = f"CASE WHEN length({data}) > ? THEN 0 ELSE {data} END"
        self._rows = f"SELECT id, {data} FROM {table} WHERE session_id = ?"  # noqa: S608 - a table's name cannot be a parameter
        self.newest_id = f"SELECT max(id) FROM {table} WHERE session_id = ?"  # noqa: S608 - as above
        self.remove = (
            f"DELETE FROM {table} WHERE id = ? AND session_id = ?"  # noqa: S608 - as above
            " AND CAST(message_data AS BLOB) = ?"
        )
        self.oldest = f"{self._rows} ORDER BY id LIMIT ?"
        # For this connection, from here on: SQLite else leaves deleted bytes where they lay.
        self.overwrite = "PRAGMA secure_delete = ON"
        self.remove_from = f"DELETE FROM {table} WHERE session_id = ? AND id >= ?"  # noqa: S608 - as above

    def added_at(self, session_id: str, ids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        """The statement and values of when rows were added: SQLite notes it in UTC."""
        times = f"SELECT id, CAST(strftime('%s', created_at) AS INTEGER) FROM {self._table}"  # noqa: S608 - as above
        return f"{times} WHERE session_id = ? AND id IN ({', '.join('?' * len(ids))})", (session_id, *ids)

    def page(self, session_id: str, upto: Row | None, count: int, max_row_bytes: int) -> tuple[str, tuple[Any, ...]]:
        """The statement and values of a page of rows, newest first."""
        if upto is None:
            return f"{self._rows} ORDER BY id DESC LIMIT ?", (max_row_bytes, session_id, count)
        return f"{self._rows} AND id <= ? ORDER BY id DESC LIMIT ?", (max_row_bytes, session_id, upto.id, count)


def rows_of(found: Iterable[Any]) -> list[Row]:
    """Rows as `page` and `oldest` give them."""
    rows = list(map(Row._make, found))
    if int in map(type, map(_DATA, rows)):
        return [row._replace(data=TOO_LARGE) if type(row.data) is int else row for row in rows]
    return rows

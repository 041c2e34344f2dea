"""The SQL that both SQLite stores run. Table names come from the application's own code."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..rows import TOO_LARGE, CutPage, Row, bytes_of_page, mark_too_large

__all__ = ["SIZE_OF_ROW", "SQLiteStatements", "page_of", "rows_of"]

#: The bytes of a row. Before this release SQLite has to read a text to tell how many it has; counting its characters,
#: as length() does of text, takes six times as long.
SIZE_OF_ROW = (
    "octet_length(message_data)" if sqlite3.sqlite_version_info >= (3, 43) else "length(CAST(message_data AS BLOB))"
)


#: As `Row._make`, in half its time.
_MADE: Callable[[Any], Row] = partial(tuple.__new__, Row)


class SQLiteStatements:
    """Statements over one messages table.

    A row is read and compared as a BLOB: text that is not UTF-8 cannot be fetched as text.
    """

    def __init__(self, messages_table: str) -> None:
        self._table = table = messages_table
        # What is too large comes as its size: a number, which no BLOB is.
        data = f"CASE WHEN {SIZE_OF_ROW} > ? THEN {SIZE_OF_ROW} ELSE CAST(message_data AS BLOB) END"
        self._rows = f"SELECT id, {data} FROM {table} WHERE session_id = ?"  # noqa: S608 - a table's name cannot be a parameter
        self.newest_id = f"SELECT max(id) FROM {table} WHERE session_id = ?"  # noqa: S608 - as above
        self.remove = (
            f"DELETE FROM {table} WHERE id = ? AND session_id = ?"  # noqa: S608 - as above
            " AND CAST(message_data AS BLOB) = ?"
        )
        self.remove_newest = f"{self.remove} AND id = (SELECT max(id) FROM {table} WHERE session_id = ?)"  # noqa: S608 - as above
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
    """All rows that `page` or `oldest` gives."""
    return mark_too_large(list(map(Row._make, found)))


def page_of(found: Iterable[Any], upto: Row | None = None) -> list[Row]:
    """The same, up to the bytes of a page. Fetches one by one, and no more."""
    rows: list[Row] = []
    left = bytes_of_page(upto)
    for row in map(_MADE, found):
        if left <= 0:
            return CutPage(rows)
        data: Any = row[1]
        if type(data) is int:
            rows.append(row._replace(data=TOO_LARGE))
        else:
            left -= len(data or b"")  # which is None for NULL
            rows.append(row)
    return rows

"""Which sessions a file has, in the order of their ids."""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

from ..tables import Tables, quoted
from ..whole import is_utf8
from .connection import SQLiteConnection

__all__ = ["ids_of_sessions"]


def ids_of_sessions(
    connection: SQLiteConnection, tables: Tables, prefix: str, after: str | None, count: int
) -> list[str]:
    """The next ids that begin with `prefix`, after `after`, of either table: a message need not have its session."""
    begin = prefix.encode("utf-8")
    last = None if after is None else after.encode("utf-8")
    while True:
        ids = _page(connection, tables, begin, last, count)
        text = [one.decode("utf-8") for one in ids if is_utf8(one)]
        if text or not ids:
            return text
        last = ids[-1]


def _page(connection: SQLiteConnection, tables: Tables, begin: bytes, last: bytes | None, count: int) -> list[bytes]:
    # Bytes that are cast may be no UTF-8. The last byte of a prefix is never 255.
    bounds = {"first": begin if last is None or last < begin else last, "count": count}
    session = "session_id COLLATE BINARY"
    condition = f"{session} {'>' if bounds['first'] is last else '>='} CAST(:first AS TEXT)"
    if begin:
        bounds["end"] = begin[:-1] + bytes([begin[-1] + 1])
        condition += f" AND {session} < CAST(:end AS TEXT)"
    of_each = [
        f"SELECT * FROM (SELECT DISTINCT session_id FROM {quoted(table)} WHERE {condition} ORDER BY {session}"
        " LIMIT :count)"
        for table in tables
    ]
    statement = f"SELECT CAST(session_id AS BLOB) AS id FROM ({' UNION '.join(of_each)}) ORDER BY id LIMIT :count"
    return [one for (one,) in connection.sqlite.execute(statement, bounds)]

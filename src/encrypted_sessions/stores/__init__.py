"""What the wrapper needs of the store beneath: to read it backwards, and to change single rows.

Four session classes of the Agents SDK keep their rows where single rows can be read, removed and
replaced only if unchanged: SQLiteSession and AsyncSQLiteSession on a file, SQLAlchemySession,
RedisSession (exactly these: a subclass may keep indexes of its own). They have no public way to a
row, so each module here uses what its class has; tests/test_rows_of_the_sdk.py pins that against
the installed SDK. Any other session is used through its own methods (`plain`), with the weaker
promise that SECURITY.md describes.
"""

from __future__ import annotations

import importlib
from typing import Any

from .._support.warnings import warn_caller
from .plain import PlainCursor, PlainStore
from .rows import PAGE, HistoryMovedError, Row, RowCursor, RowStore

__all__ = [
    "PAGE",
    "Cursor",
    "HistoryMovedError",
    "PlainStore",
    "Row",
    "RowStore",
    "has_rows",
    "rows_to_purge",
    "store_beneath",
]

#: A walk from the newest row to the oldest.
Cursor = RowCursor | PlainCursor

# By name, so that no class has to be imported to be recognised.
_ROW_STORES = {
    "agents.memory.sqlite_session.SQLiteSession": "sqlite.rows.SQLiteRows",
    "agents.extensions.memory.async_sqlite_session.AsyncSQLiteSession": "sqlite.async_rows.AsyncSQLiteRows",
    "agents.extensions.memory.sqlalchemy_session.SQLAlchemySession": "sql.rows.SQLAlchemyRows",
    "agents.extensions.memory.redis_session.RedisSession": "redis.rows.RedisRows",
}


def store_beneath(session: Any) -> RowStore | PlainStore:
    """The access to `session`'s rows: row by row where its class allows it, else as a whole."""
    if not has_rows(session) or _is_in_memory(session):
        return PlainStore(session)
    rows = _access(session)
    missing = _missing(rows, session)
    if missing:
        warn_caller(
            f"the installed Agents SDK's {type(session).__name__} has no {', '.join(missing)}, which this"
            " release uses to remove single rows: pop_item and compaction fall back to the weaker"
            " promise for stores without addressable rows (see SECURITY.md), and expired rows cannot be"
            " purged. Upgrade encrypted-sessions.",
            RuntimeWarning,
        )
        return PlainStore(session)
    return rows(session)


def has_rows(session: Any) -> bool:
    """Whether `session` is of a class whose single rows can be removed, be it in memory."""
    return _name(session) in _ROW_STORES


def rows_to_purge(session: Any) -> RowStore | None:
    """The access for removing old rows, also of a SQLite database in memory; None where there is none."""
    if not has_rows(session):
        return None
    rows = _access(session)
    return None if _missing(rows, session) else rows(session)


def _name(session: Any) -> str:
    kind = type(session)
    return f"{kind.__module__}.{kind.__qualname__}"


def _access(session: Any) -> type[RowStore]:
    module, name = _ROW_STORES[_name(session)].rsplit(".", 1)
    rows: type[RowStore] = getattr(importlib.import_module(f"encrypted_sessions.stores.{module}"), name)
    return rows


def _missing(rows: type[RowStore], session: Any) -> list[str]:
    return [needed for needed in rows.NEEDS if not hasattr(session, needed)]


def _is_in_memory(session: Any) -> bool:
    # Both SQLite classes keep an in-memory database on a connection of their own.
    return str(getattr(session, "db_path", "")) == ":memory:"

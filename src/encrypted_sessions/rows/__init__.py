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

from encrypted_sessions.rows.base import PAGE, HistoryMovedError, Row, RowCursor, RowStore
from encrypted_sessions.rows.plain import PlainCursor, PlainStore
from encrypted_sessions.warning import warn_caller

__all__ = ["PAGE", "Cursor", "HistoryMovedError", "PlainStore", "Row", "RowStore", "store_beneath"]

#: A walk from the newest row to the oldest.
Cursor = RowCursor | PlainCursor

# By name, so that no class has to be imported to be recognised.
_ROW_STORES = {
    "agents.memory.sqlite_session.SQLiteSession": "sqlite.SQLiteRows",
    "agents.extensions.memory.async_sqlite_session.AsyncSQLiteSession": "async_sqlite.AsyncSQLiteRows",
    "agents.extensions.memory.sqlalchemy_session.SQLAlchemySession": "sqlalchemy.SQLAlchemyRows",
    "agents.extensions.memory.redis_session.RedisSession": "redis.RedisRows",
}


def store_beneath(session: Any) -> RowStore | PlainStore:
    """The access to `session`'s rows: row by row where its class allows it, else as a whole."""
    kind = type(session)
    home = _ROW_STORES.get(f"{kind.__module__}.{kind.__qualname__}")
    if home is None or _is_in_memory(session):
        return PlainStore(session)
    module, name = home.split(".")
    rows: type[RowStore] = getattr(importlib.import_module(f"encrypted_sessions.rows.{module}"), name)
    missing = [needed for needed in rows.NEEDS if not hasattr(session, needed)]
    if missing:
        warn_caller(
            f"the installed Agents SDK's {kind.__name__} has no {', '.join(missing)}, which this"
            " release uses to remove single rows: pop_item and compaction fall back to the weaker"
            " promise for stores without addressable rows (see SECURITY.md). Upgrade"
            " encrypted-sessions.",
            RuntimeWarning,
        )
        return PlainStore(session)
    return rows(session)


def _is_in_memory(session: Any) -> bool:
    # Both SQLite classes keep an in-memory database on a connection of their own.
    return str(getattr(session, "db_path", "")) == ":memory:"

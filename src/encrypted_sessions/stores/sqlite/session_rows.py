"""What the access to rows of the SDK's two SQLite classes has in common."""

from __future__ import annotations

from typing import Any, ClassVar

from ..rows import RowStore
from .statements import SQLiteStatements

__all__ = ["SQLiteSessionRows"]


class SQLiteSessionRows(RowStore):
    """Rows by their integer primary key, through the connections and locks of the session itself."""

    NEEDS: ClassVar[tuple[str, ...]] = ("_locked_connection", "_write_connection", "_insert_items")

    def __init__(self, session: Any) -> None:
        self._session = session
        self._sql = SQLiteStatements(session.messages_table)

    @classmethod
    def only_to_purge(cls, session: Any) -> bool:
        """As `RowStore.only_to_purge`: both classes keep a database in memory on a connection of its own."""
        return str(getattr(session, "db_path", "")) == ":memory:"

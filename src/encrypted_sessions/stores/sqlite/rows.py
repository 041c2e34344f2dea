"""Rows of the SDK's SQLiteSession on a file.

The session's own connections are used, in worker threads as it does, so that its locks hold and
`close()` ends everything.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..._support.shielding import is_caller_gone
from ..._support.threads import in_thread
from ..rows import Row
from .session_rows import SQLiteSessionRows
from .statements import page_of, rows_of

if TYPE_CHECKING:
    from agents import SQLiteSession

__all__ = ["SQLiteRows"]


class SQLiteRows(SQLiteSessionRows):
    """Rows through the session's synchronous connections."""

    _session: SQLiteSession

    def reads_end_when_cancelled(self) -> bool:
        """As `RowStore.reads_end_when_cancelled`: the worker thread goes on, and nobody waits for it."""
        return True

    def page(self, upto: Row | None, count: int) -> Future[list[Row]]:
        """As `RowStore.page`."""
        return in_thread(self._page, upto, count)

    def _page(self, upto: Row | None, count: int) -> list[Row]:
        statement, values = self._sql.page(self._session.session_id, upto, count, self.max_row_bytes)
        with self._session._locked_connection() as connection:
            return page_of(connection.execute(statement, values), upto)

    def remove(self, rows: Sequence[Row], newest: Row) -> Future[bool]:
        """As `RowStore.remove`."""
        return in_thread(self._remove, rows, newest)

    def _remove(self, rows: Sequence[Row], newest: Row) -> bool:
        session_id = self._session.session_id
        with self._session._write_connection() as connection:
            if len(rows) == 1 and rows[0] is newest:  # as nearly always: one statement, which begins the transaction
                values = (newest.id, session_id, newest.data, session_id)
                done = connection.execute(self._sql.remove_newest, values).rowcount == 1
            else:
                connection.execute("BEGIN IMMEDIATE")
                (newest_id,) = connection.execute(self._sql.newest_id, (session_id,)).fetchone()
                done = newest_id == newest.id and all(
                    connection.execute(self._sql.remove, (row.id, session_id, row.data)).rowcount == 1 for row in rows
                )
            if done and not is_caller_gone():
                connection.commit()
            else:
                connection.rollback()
                done = False
            return done

    def writer(self, session: Any) -> Any:  # noqa: ARG002 - the rows' own
        """As `RowStore.writer`: the same in one thread, without a task around it."""
        return self

    def add_items(self, items: list[Any]) -> Awaitable[None]:
        """As the session's own, which is called if it was replaced, for example by an instrumentation."""
        if not items or self._is_replaced():  # without items, it looks whether it is closed
            return self._session.add_items(items)
        return in_thread(self._add, items)

    def _is_replaced(self) -> bool:
        session = self._session
        method = type(session).add_items
        return (
            "add_items" in vars(session)
            or hasattr(method, "__wrapped__")
            or method.__module__ != type(session).__module__
        )

    def _add(self, items: list[Any]) -> None:
        with self._session._write_connection() as connection:
            self._session._insert_items(connection, items)
            connection.commit()

    def clear_session(self) -> Awaitable[None]:
        """As the session's own."""
        return self._session.clear_session()

    async def added_at(self, rows: Sequence[Row]) -> Sequence[float | None]:
        """As `RowStore.added_at`."""
        return await in_thread(self._added_at, rows)

    def _added_at(self, rows: Sequence[Row]) -> list[float | None]:
        statement, values = self._sql.added_at(self._session.session_id, [row.id for row in rows])
        with self._session._locked_connection() as connection:
            times = dict(connection.execute(statement, values).fetchall())
        return [times.get(row.id) for row in rows]

    def oldest(self, count: int) -> Future[list[Row]]:
        """As `RowStore.oldest`."""
        return in_thread(self._oldest, count)

    def _oldest(self, count: int) -> list[Row]:
        with self._session._locked_connection() as connection:
            return page_of(connection.execute(self._sql.oldest, (self.max_row_bytes, self._session.session_id, count)))

    def remove_any(self, rows: Sequence[Row]) -> Future[int]:
        """As `RowStore.remove_any`. Their bytes are overwritten."""
        return in_thread(self._remove_any, rows)

    def _remove_any(self, rows: Sequence[Row]) -> int:
        session_id = self._session.session_id
        with self._session._write_connection() as connection:
            connection.execute(self._sql.overwrite).fetchone()
            connection.execute("BEGIN IMMEDIATE")
            removed = connection.executemany(self._sql.remove, [(row.id, session_id, row.data) for row in rows])
            connection.commit()
            return removed.rowcount

    def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> Future[bool]:
        """As `RowStore.replace_tail`."""
        return in_thread(self._replace_tail, expected, envelopes)

    def _replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        session_id = self._session.session_id
        statement, values = self._sql.page(session_id, None, max(len(expected), 1), self.max_row_bytes)
        with self._session._write_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            current = rows_of(connection.execute(statement, values))
            unchanged = current[::-1] == list(expected)
            if unchanged:
                if expected:
                    connection.execute(self._sql.remove_from, (session_id, expected[0].id))
                self._session._insert_items(connection, cast("list[Any]", envelopes))
            connection.commit()
            return unchanged

"""Rows of the SDK's AsyncSQLiteSession on a file, through the session's own connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ..._support.shielding import is_caller_gone
from ..rows import Row, cut_by_size
from .session_rows import SQLiteSessionRows
from .statements import rows_of

if TYPE_CHECKING:
    from agents.extensions.memory import AsyncSQLiteSession

__all__ = ["AsyncSQLiteRows"]


class AsyncSQLiteRows(SQLiteSessionRows):
    """Rows through the session's one asynchronous connection."""

    _session: AsyncSQLiteSession

    def reads_end_when_cancelled(self) -> bool:
        """As `RowStore.reads_end_when_cancelled`: so it is once the file is open. Opening it is shielded."""
        return getattr(self._session, "_connection", None) is not None

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        """As `RowStore.page`."""
        async with self._session._locked_connection() as connection:

            async def fetch(count: int, most: int) -> list[Row]:
                statement, values = self._sql.page(self._session.session_id, upto, count, most)
                return list(map(Row._make, await connection.execute_fetchall(statement, values)))

            return await cut_by_size(fetch, upto, count, self.max_row_bytes)

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        """As `RowStore.remove`."""
        session_id = self._session.session_id
        async with self._session._write_connection() as connection:
            await connection.execute("BEGIN IMMEDIATE")
            ((newest_id,),) = await connection.execute_fetchall(self._sql.newest_id, (session_id,))
            done = bool(newest_id == newest.id)
            for row in rows:
                if not done:
                    break
                async with connection.execute(self._sql.remove, (row.id, session_id, row.data)) as cursor:
                    done = cursor.rowcount == 1
            done = done and not is_caller_gone()
            await (connection.commit() if done else connection.rollback())
            return done

    async def added_at(self, rows: Sequence[Row]) -> Sequence[float | None]:
        """As `RowStore.added_at`."""
        statement, values = self._sql.added_at(self._session.session_id, [row.id for row in rows])
        async with self._session._locked_connection() as connection:
            times = dict(map(tuple, await connection.execute_fetchall(statement, values)))
        return [times.get(row.id) for row in rows]

    async def oldest(self, count: int) -> list[Row]:
        """As `RowStore.oldest`."""
        async with self._session._locked_connection() as connection:

            async def fetch(count: int, most: int) -> list[Row]:
                values = (most, self._session.session_id, count)
                return list(map(Row._make, await connection.execute_fetchall(self._sql.oldest, values)))

            return await cut_by_size(fetch, None, count, self.max_row_bytes)

    async def remove_any(self, rows: Sequence[Row]) -> int:
        """As `RowStore.remove_any`. Their bytes are overwritten."""
        session_id = self._session.session_id
        async with self._session._write_connection() as connection:
            await connection.execute_fetchall(self._sql.overwrite)
            await connection.execute("BEGIN IMMEDIATE")
            values = [(row.id, session_id, row.data) for row in rows]
            async with connection.executemany(self._sql.remove, values) as removed:
                count = removed.rowcount
            await connection.commit()
            return count

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        """As `RowStore.replace_tail`."""
        session_id = self._session.session_id
        async with self._session._write_connection() as connection:
            await connection.execute("BEGIN IMMEDIATE")
            statement, values = self._sql.page(session_id, None, max(len(expected), 1), self.max_row_bytes)
            current = rows_of(await connection.execute_fetchall(statement, values))
            unchanged = current[::-1] == list(expected)
            if unchanged:
                if expected:
                    await connection.execute(self._sql.remove_from, (session_id, expected[0].id))
                await self._session._insert_items(connection, cast("list[Any]", envelopes))
            await connection.commit()
            return unchanged

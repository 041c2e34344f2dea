"""Rows of the SDK's SQLAlchemySession, through its tables and its engine.

The SDK orders rows by created_at, then id. SQLite keeps created_at as text, and SQLAlchemy would
bind it back in another precision, so there it is read and compared as the text it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sqlalchemy import (
    TIMESTAMP,
    Float,
    Integer,
    LargeBinary,
    Select,
    String,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    text,
    type_coerce,
    update,
)

from ..._support.shielding import is_caller_gone
from ..rows import Row, RowStore, cut_by_size, mark_too_large

if TYPE_CHECKING:
    from agents.extensions.memory import SQLAlchemySession
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["RowId", "SQLAlchemyRows"]

#: Before this release SQLite has to read a text to tell how many bytes it has.
_SQLITE_KNOWS_SIZES = sqlite3.sqlite_version_info >= (3, 43)


class RowId(NamedTuple):
    """The primary key, and the time that comes before it in the order of rows."""

    id: int
    created_at: Any


class SQLAlchemyRows(RowStore):
    """Rows by created_at and primary key."""

    NEEDS: ClassVar[tuple[str, ...]] = (
        "_ensure_tables",
        "_lock_session",
        "_messages",
        "_run_sqlite_write_with_retry",
        "_serialize_item",
        "_session",
        "_sessions",
    )

    def __init__(self, session: SQLAlchemySession) -> None:
        self._session: Any = session  # what it needs is not public: see stores/__init__
        columns = self._session._messages.c
        self._id = columns.id
        self._mine = columns.session_id == session.session_id
        if session.engine.dialect.name == "sqlite":
            self._created_at: Any = type_coerce(columns.created_at, String)
            # Text that is not UTF-8 cannot be fetched as text.
            self._data: Any = cast(columns.message_data, LargeBinary)
            self._size: Any = (
                func.octet_length(columns.message_data) if _SQLITE_KNOWS_SIZES else func.length(self._data)
            )
        else:
            self._created_at = columns.created_at
            self._data = columns.message_data
            self._size = func.octet_length(columns.message_data)

    def _columns(self, most: int) -> tuple[Any, ...]:
        """The columns of a row; of one with more than `most` bytes the last is its size, and its data stays there."""
        is_large = self._size > most
        return self._id, self._created_at, case((is_large, null()), else_=self._data), case((is_large, self._size))

    def _newest_first(self, count: int, most: int) -> Select[Any]:
        newest_first = self._created_at.desc(), self._id.desc()
        return select(*self._columns(most)).where(self._mine).order_by(*newest_first).limit(count)

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        """As `RowStore.page`."""
        await self._session._ensure_tables()
        async with self._session._session() as connection:

            async def fetch(count: int, most: int) -> list[Row]:
                statement = self._newest_first(count, most)
                if upto is not None:
                    # The first condition lets the database start from its index.
                    statement = statement.where(
                        and_(
                            self._created_at <= upto.id.created_at,
                            or_(self._created_at < upto.id.created_at, self._id <= upto.id.id),
                        )
                    )
                return await _rows(connection, statement)

            return await cut_by_size(fetch, upto, count, self.max_row_bytes)

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        """As `RowStore.remove`."""

        async def attempt() -> bool:
            async with self._session._session() as connection, connection.begin():
                await self._session._lock_session(connection)
                current = await _rows(connection, self._newest_first(1, self.max_row_bytes).with_for_update())
                if [row.id for row in current] != [newest.id]:
                    return False
                for row in rows:
                    removed = await connection.execute(
                        delete(self._session._messages).where(self._mine, self._id == row.id.id, self._data == row.data)
                    )
                    if removed.rowcount != 1:
                        await connection.rollback()
                        return False
                if is_caller_gone():
                    await connection.rollback()
                    return False
                return True

        await self._session._ensure_tables()
        return bool(await self._session._run_sqlite_write_with_retry(attempt))

    async def added_at(self, rows: Sequence[Row]) -> Sequence[float | None]:
        """As `RowStore.added_at`, for SQLite and PostgreSQL."""
        column = self._session._messages.c.created_at
        dialect = self._session.engine.dialect.name
        if dialect == "sqlite":
            seconds = cast(func.strftime("%s", type_coerce(column, String)), Integer)
        elif dialect == "postgresql":
            # A time without a zone is in the connection's.
            seconds = cast(func.date_part("epoch", cast(column, TIMESTAMP(timezone=True))), Float)
        else:
            return [None] * len(rows)
        statement = select(self._id, seconds).where(self._mine, self._id.in_([row.id.id for row in rows]))
        async with self._session._session() as connection:
            times = dict(map(tuple, await connection.execute(statement)))
        return [times.get(row.id.id) for row in rows]

    async def oldest(self, count: int) -> list[Row]:
        """As `RowStore.oldest`."""
        await self._session._ensure_tables()
        async with self._session._session() as connection:

            async def fetch(count: int, most: int) -> list[Row]:
                oldest = select(*self._columns(most)).where(self._mine).order_by(self._created_at, self._id)
                return await _rows(connection, oldest.limit(count))

            return await cut_by_size(fetch, None, count, self.max_row_bytes)

    async def remove_any(self, rows: Sequence[Row]) -> int:
        """As `RowStore.remove_any`. SQLite overwrites their bytes."""
        ids = [row.id.id for row in rows]
        # What these rows hold is due, in whichever of them it lies: that spares a condition for each.
        found = delete(self._session._messages).where(
            self._mine, self._id.in_(ids), self._data.in_([row.data for row in rows])
        )

        async def attempt() -> int:
            async with self._session._session() as connection, connection.begin():
                if self._session.engine.dialect.name == "sqlite":
                    await connection.execute(text("PRAGMA secure_delete = ON"))
                # The order of locks that every change has: two at once never wait for each other.
                await self._session._lock_session(connection)
                removed = await connection.execute(found)
                return int(removed.rowcount)

        await self._session._ensure_tables()
        return int(await self._session._run_sqlite_write_with_retry(attempt))

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        """As `RowStore.replace_tail`. New rows get the time of the newest that they replace."""
        messages = self._session._messages
        values: list[dict[str, Any]] = [
            {
                "session_id": self._session.session_id,
                "message_data": await self._session._serialize_item(envelope),
            }
            for envelope in envelopes
        ]
        if expected:
            created_at = literal(expected[-1].id.created_at, type_=self._created_at.type)
            for value in values:
                value["created_at"] = created_at

        async def attempt() -> bool:
            async with self._session._session() as connection, connection.begin():
                await self._session._lock_session(connection, create=not expected)
                newest = self._newest_first(max(len(expected), 1), self.max_row_bytes)
                current = mark_too_large(await _rows(connection, newest.with_for_update()))
                if current[::-1] != list(expected):
                    return False
                # One by one: a list of all ids can exceed what a statement may bind.
                for row in expected:
                    await connection.execute(delete(messages).where(self._mine, self._id == row.id.id))
                for value in values:
                    await connection.execute(insert(messages).values(value))
                await connection.execute(
                    update(self._session._sessions)
                    .where(self._session._sessions.c.session_id == self._session.session_id)
                    .values(updated_at=func.current_timestamp())
                )
                return True

        await self._session._ensure_tables()
        return bool(await self._session._run_sqlite_write_with_retry(attempt))


async def _rows(connection: AsyncSession, statement: Select[Any]) -> list[Row]:
    """Rows; of those that are larger than they may be, the size as their data."""
    found = await connection.execute(statement)
    return [Row(RowId(row_id, created_at), data if size is None else size) for row_id, created_at, data, size in found]

"""Rows of the SDK's SQLAlchemySession, through its tables and its engine.

The SDK orders rows by created_at, then id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import Select, case, delete, func, null, select, update
from sqlalchemy.exc import CompileError

from ..._support.shielding import is_caller_gone, shield
from ...errors import StoreConfigError
from ..rows import Problem, Row, RowStore, cut_by_size, mark_too_large
from .dialect import Dialect, PostgreSQLDialect, RowId, SQLiteDialect

if TYPE_CHECKING:
    from agents.extensions.memory import SQLAlchemySession
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["SQLAlchemyRows"]

_T = TypeVar("_T")


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
        self._dialect = _dialect_of(session, self._session._sessions, self._session._messages)

    def is_unexamined(self) -> bool:
        """As `RowStore.is_unexamined`."""
        return not self._dialect.leaves_writing_to_the_sdk

    async def examine(self) -> Sequence[Problem]:
        """As `RowStore.examine`."""
        await self._ready()
        self._dialect.refuse_id()
        return self._dialect.problems

    def writer(self, session: Any) -> Any:
        """As `RowStore.writer`."""
        return session if self._dialect.leaves_writing_to_the_sdk else self

    async def _ready(self) -> None:
        if self._dialect.is_unexamined:
            async with self._session._session() as connection:
                await self._dialect.examine(connection)
        try:
            await self._session._ensure_tables()
        except CompileError as error:
            problem = StoreConfigError(
                f"create_tables=True of SQLAlchemySession cannot create tables for {self._session.engine.dialect.name}"
                f" ({type(error).__name__}). Leave it out and create them yourself: docs/mysql.md has the"
                " statements for"
                " MySQL and MariaDB"
            )
        else:
            return
        raise problem

    async def _change(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        await self._ready()
        changed: _T = await self._dialect.repeat(lambda: self._session._run_sqlite_write_with_retry(attempt))
        return changed

    def _columns(self, most: int) -> tuple[Any, ...]:
        """The columns of a row; of one with more than `most` bytes the last is its size, and its data stays there."""
        of = self._dialect
        is_large = of.size > most
        return of.id, of.created_at, case((is_large, null()), else_=of.data), case((is_large, of.size))

    def _newest_first(self, count: int, most: int) -> Select[Any]:
        of = self._dialect
        newest_first = of.created_at.desc(), of.id.desc()
        return select(*self._columns(most)).where(of.mine).order_by(*newest_first).limit(count)

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        """As `RowStore.page`."""
        await self._ready()
        async with self._session._session() as connection:

            async def fetch(count: int, most: int) -> list[Row]:
                statement = self._newest_first(count, most)
                if upto is not None:
                    statement = statement.where(self._dialect.up_to(upto.id))
                return await _rows(connection, statement)

            return await cut_by_size(fetch, upto, count, self.max_row_bytes)

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        """As `RowStore.remove`."""
        of = self._dialect

        async def attempt() -> bool:
            async with self._session._session() as connection, connection.begin():
                await self._session._lock_session(connection)
                current = await _rows(connection, self._newest_first(1, self.max_row_bytes).with_for_update())
                if [row.id for row in current] != [newest.id]:
                    return False
                for row in rows:
                    removed = await connection.execute(
                        delete(of.messages).where(of.mine, of.id == row.id.id, of.holds(row.data))
                    )
                    if removed.rowcount != 1:
                        await connection.rollback()
                        return False
                if is_caller_gone():
                    await connection.rollback()
                    return False
                return True

        return await self._change(attempt)

    async def added_at(self, rows: Sequence[Row]) -> Sequence[float | None]:
        """As `RowStore.added_at`."""
        await self._ready()
        of = self._dialect
        seconds = of.seconds()
        if seconds is None:
            return [None] * len(rows)
        statement = select(of.id, seconds).where(of.mine, of.id.in_([row.id.id for row in rows]))
        async with self._session._session() as connection:
            times = dict(map(tuple, await connection.execute(statement)))
        return [times.get(row.id.id) for row in rows]

    async def oldest(self, count: int) -> list[Row]:
        """As `RowStore.oldest`."""
        await self._ready()
        async with self._session._session() as connection:

            async def fetch(count: int, most: int) -> list[Row]:
                of = self._dialect
                oldest = select(*self._columns(most)).where(of.mine).order_by(of.created_at, of.id)
                return await _rows(connection, oldest.limit(count))

            return await cut_by_size(fetch, None, count, self.max_row_bytes)

    async def remove_any(self, rows: Sequence[Row]) -> int:
        """As `RowStore.remove_any`."""
        of = self._dialect
        ids = [row.id.id for row in rows]

        async def attempt() -> int:
            # What these rows hold is due, in whichever of them it lies: that spares a condition for each.
            due = delete(of.messages).where(of.mine, of.id.in_(ids), of.holds_one_of([row.data for row in rows]))
            async with self._session._session() as connection, connection.begin():
                await of.before_purging(connection)
                # The order of locks that every change has: two at once never wait for each other.
                await self._session._lock_session(connection)
                removed = await connection.execute(due)
                return int(removed.rowcount)

        return await self._change(attempt)

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        """As `RowStore.replace_tail`. New rows get the time of the newest that they replace."""
        of = self._dialect
        as_of = expected[-1].id if expected else None
        texts = [await self._session._serialize_item(envelope) for envelope in envelopes]
        await self._ready()
        of.refuse_rows(texts)

        async def attempt() -> bool:
            async with self._session._session() as connection, connection.begin():
                await self._session._lock_session(connection, create=not expected)
                newest = self._newest_first(max(len(expected), 1), self.max_row_bytes)
                current = mark_too_large(await _rows(connection, newest.with_for_update()))
                if current[::-1] != list(expected):
                    return False
                # One by one: a list of all ids can exceed what a statement may bind.
                for message_data in texts:
                    await of.insert(connection, message_data, as_of)
                for row in expected:
                    await connection.execute(delete(of.messages).where(of.mine, of.id == row.id.id))
                await connection.execute(
                    update(of.sessions).where(of.my_session()).values(updated_at=func.current_timestamp())
                )
                return True

        return await self._change(attempt)

    # -- In place of the SDK's own, where these do not do -------------------------------------

    async def add_items(self, items: Sequence[Any]) -> None:
        """As the SDK's: what it would cut off is refused, and what gave way to another change is made again."""
        await self._ready()
        self._dialect.refuse_rows([await self._session._serialize_item(item) for item in items])
        await self._dialect.repeat(lambda: self._session.add_items(items))

    async def clear_session(self) -> None:
        """As the SDK's, whoever is cancelled meanwhile; of exactly this session."""
        of = self._dialect

        async def attempt() -> None:
            async with self._session._session() as connection, connection.begin():
                await self._session._lock_session(connection)
                await connection.execute(delete(of.messages).where(of.mine))
                # Another session's messages may belong to this row, whose id the database takes for the same.
                others = select(of.id).where(of.messages.c.session_id == of.session_id)
                await connection.execute(delete(of.sessions).where(of.my_session(), ~others.exists()))

        await shield(self._change(attempt))


async def _rows(connection: AsyncSession, statement: Select[Any]) -> list[Row]:
    """Rows; of those that are larger than they may be, the size as their data."""
    found = await connection.execute(statement)
    return [Row(RowId(row_id, created_at), data if size is None else size) for row_id, created_at, data, size in found]


def _dialect_of(session: SQLAlchemySession, sessions: Table, messages: Table) -> Dialect:
    name = session.engine.dialect.name
    if name in ("mysql", "mariadb"):
        from .mysql import MySQLDialect  # noqa: PLC0415 - few sessions lie there

        return MySQLDialect(session.session_id, sessions, messages, session.engine.sync_engine)
    kind = {"sqlite": SQLiteDialect, "postgresql": PostgreSQLDialect}.get(name, Dialect)
    return kind(session.session_id, sessions, messages)

"""MySQL and MariaDB: rows of exactly this session, whatever the collation of its id.

By the servers' default collation `user-1`, `User-1` and `üser-1` are one id, and changed letters of a row are the same
row. So an id is compared by its bytes as well, where its column would not do that, and a row by its hash.

No value is bound as bytes: aiomysql 0.3 cannot, with a PyMySQL of today.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    String,
    and_,
    cast,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError

from ..._support.lots import pause_by_lot
from .dialect import Dialect, RowId
from .mysql_tables import MySQLTables, known_tables, tables_of

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Engine
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["MySQLDialect"]

_T = TypeVar("_T")

#: A change that was undone as a whole, in favour of another one: of a deadlock, and of a row that changed since the
#: transaction began (MariaDB with innodb_snapshot_isolation, as it comes from 11.6 on).
_GAVE_WAY = (1213, 1020)

#: How often a change is made that gives way, and how long it waits before, by lot, the first time; then twice as long.
_ATTEMPTS = 6
_PAUSE_S = (0.005, 0.02)


class MySQLDialect(Dialect):
    """Knows the tables once they were looked at, which is done once for each engine."""

    leaves_writing_to_the_sdk = False

    def __init__(self, session_id: str, sessions: Table, messages: Table, engine: Engine) -> None:
        super().__init__(session_id, sessions, messages)
        self._engine = engine
        self.is_unexamined = True
        self._tables = MySQLTables()
        known = known_tables(engine, sessions.name, messages.name)
        if known is not None:
            self._learn(known)

    async def examine(self, connection: AsyncSession) -> None:
        """As `Dialect.examine`."""
        self._learn(await tables_of(connection, self._engine, self.sessions.name, self.messages.name))

    def _learn(self, tables: MySQLTables) -> None:
        self._tables = tables
        self.problems = tables.problems
        self.is_unexamined = not tables.are_there
        self.mine = self._is_mine(self.messages)
        data = self.messages.c.message_data
        # As bytes, which every connection gives alike, whatever its own character set.
        self.data = cast(_as_utf8(data), LargeBinary) if tables.keep_text else type_coerce(data, LargeBinary)

    def my_session(self) -> ColumnElement[bool]:
        """As `Dialect.my_session`."""
        return self._is_mine(self.sessions)

    def _is_mine(self, table: Table) -> ColumnElement[bool]:
        column = table.c.session_id
        by_index = column == self.session_id
        if self._tables.compare_bytewise(table.name):
            return by_index
        return and_(by_index, cast(_as_utf8(column), LargeBinary) == func.unhex(self.session_id.encode().hex()))

    def up_to(self, row: RowId) -> ColumnElement[bool]:
        """As `Dialect.up_to`. The time does not leave the database: in a connection's zone it may come twice."""
        time = self._time_of(row).scalar_subquery()
        return and_(self.created_at <= time, or_(self.created_at < time, self.id <= row.id))

    def _time_of(self, row: RowId) -> Select[Any]:
        same = self.messages.alias()
        return select(same.c.created_at).where(same.c.id == row.id)

    def holds(self, data: Any) -> ColumnElement[bool]:
        """As `Dialect.holds`, by a hash: what was stored need not go into a statement, which may be no longer."""
        return func.sha2(self.data, 256) == _sha256(data)

    def holds_one_of(self, data: Sequence[Any]) -> ColumnElement[bool]:
        """As `Dialect.holds_one_of`."""
        return func.sha2(self.data, 256).in_({_sha256(one) for one in data})

    def seconds(self) -> ColumnElement[Any] | None:
        """As `Dialect.seconds`. Of a DATETIME nobody knows the zone."""
        return func.unix_timestamp(self.created_at) if self._tables.keep_instants else None

    def refuse_id(self) -> None:
        """As `Dialect.refuse_id`."""
        self._tables.refuse_id(self.session_id)

    def refuse_rows(self, texts: Sequence[str]) -> None:
        """As `Dialect.refuse_rows`."""
        self._tables.refuse_rows(texts)

    async def insert(self, connection: AsyncSession, message_data: str, as_of: RowId | None) -> None:
        """As `Dialect.insert`. The time does not leave the database."""
        if as_of is None:
            await super().insert(connection, message_data, None)
            return
        row = self._time_of(as_of).add_columns(literal(self.session_id, String), literal(message_data, String))
        await connection.execute(insert(self.messages).from_select(["created_at", "session_id", "message_data"], row))

    async def repeat(self, change: Callable[[], Awaitable[_T]]) -> _T:
        """As `Dialect.repeat`."""
        for attempt in range(_ATTEMPTS - 1):
            try:
                return await change()
            except DBAPIError as error:
                if _number_of(error) not in _GAVE_WAY:
                    raise
            await pause_by_lot(2**attempt, _PAUSE_S)
        return await change()


def _as_utf8(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.convert(column.op("USING")(literal_column("utf8mb4")))


def _sha256(data: object) -> str | None:
    if isinstance(data, str):
        data = data.encode()
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else None  # which no row is equal to


def _number_of(error: DBAPIError) -> object:
    return next(iter(getattr(error.orig, "args", ())), None)

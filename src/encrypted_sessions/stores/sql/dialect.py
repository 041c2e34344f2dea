"""How databases differ in the rows of SQLAlchemySession: how a row is found, read, compared and written again."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import (
    TIMESTAMP,
    ColumnElement,
    Float,
    Integer,
    LargeBinary,
    String,
    and_,
    cast,
    func,
    insert,
    literal,
    or_,
    text,
    type_coerce,
)

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncSession

    from ..rows import Problem

__all__ = ["Dialect", "PostgreSQLDialect", "RowId", "SQLiteDialect"]

_T = TypeVar("_T")

#: Before this release SQLite has to read a text to tell how many bytes it has.
_SQLITE_KNOWS_SIZES = sqlite3.sqlite_version_info >= (3, 43)


class RowId(NamedTuple):
    """The primary key, and the time that comes before it in the order of rows."""

    id: int
    created_at: Any


class Dialect:
    """A database of which nothing else is known: it compares text as it is."""

    #: Whether the SDK's own methods add and clear, as they are.
    leaves_writing_to_the_sdk = True

    #: Whether the tables have to be looked at (`examine`) before anything else is asked.
    is_unexamined = False

    #: What is wrong with the tables.
    problems: Sequence[Problem] = ()

    def __init__(self, session_id: str, sessions: Table, messages: Table) -> None:
        self.session_id = session_id
        self.sessions = sessions
        self.messages = messages
        self.id = messages.c.id
        #: Which messages are the session's.
        self.mine: ColumnElement[bool] = messages.c.session_id == session_id
        #: A row's time, its data, and how many bytes these are.
        self.created_at: ColumnElement[Any] = messages.c.created_at
        self.data: ColumnElement[Any] = messages.c.message_data
        self.size: ColumnElement[Any] = func.octet_length(messages.c.message_data)

    async def examine(self, connection: AsyncSession) -> None:
        """See how the tables were made."""

    def my_session(self) -> ColumnElement[bool]:
        """Of the row of the session in the other table."""
        return self.sessions.c.session_id == self.session_id

    def up_to(self, row: RowId) -> ColumnElement[bool]:
        """Of this row, and of those that come before it."""
        # The first condition lets the database start from its index.
        return and_(
            self.created_at <= row.created_at,
            or_(self.created_at < row.created_at, self.id <= row.id),
        )

    def holds(self, data: Any) -> ColumnElement[bool]:
        """Of rows with exactly this data."""
        same: ColumnElement[bool] = self.data == data
        return same

    def holds_one_of(self, data: Sequence[Any]) -> ColumnElement[bool]:
        """Of rows with exactly one of these data."""
        return self.data.in_(data)

    def seconds(self) -> ColumnElement[Any] | None:
        """When a row was added, in seconds since 1970; None where the database does not say."""
        return None

    def refuse_id(self) -> None:
        """Raise StoreError if the tables would not keep the session's id as it is."""

    def refuse_rows(self, texts: Sequence[str]) -> None:
        """Raise StoreError if the tables would not keep data as they are."""

    async def before_purging(self, connection: AsyncSession) -> None:
        """What a connection is told before it removes rows for good."""

    async def insert(self, connection: AsyncSession, message_data: str, as_of: RowId | None) -> None:
        """Add a row, with the time of one that is there."""
        values: dict[str, Any] = {"session_id": self.session_id, "message_data": message_data}
        if as_of is not None:
            values["created_at"] = literal(as_of.created_at, type_=self.created_at.type)
        await connection.execute(insert(self.messages).values(values))

    async def repeat(self, change: Callable[[], Awaitable[_T]]) -> _T:
        """What a change gives that takes place as a whole or not at all: made again where another one went first."""
        return await change()


class PostgreSQLDialect(Dialect):
    """PostgreSQL, which knows when a row was added."""

    def seconds(self) -> ColumnElement[Any]:
        """As `Dialect.seconds`. A time without a zone is in the connection's."""
        return cast(func.date_part("epoch", cast(self.created_at, TIMESTAMP(timezone=True))), Float)


class SQLiteDialect(Dialect):
    """SQLite keeps created_at as text, and SQLAlchemy would bind it back in another precision: it stays text here."""

    def __init__(self, session_id: str, sessions: Table, messages: Table) -> None:
        super().__init__(session_id, sessions, messages)
        self.created_at = type_coerce(messages.c.created_at, String)
        # Text that is not UTF-8 cannot be fetched as text.
        self.data = cast(messages.c.message_data, LargeBinary)
        if not _SQLITE_KNOWS_SIZES:
            self.size = func.length(self.data)

    def seconds(self) -> ColumnElement[Any]:
        """As `Dialect.seconds`."""
        return cast(func.strftime("%s", self.created_at), Integer)

    async def before_purging(self, connection: AsyncSession) -> None:
        """Have the bytes of what is removed overwritten."""
        await connection.execute(text("PRAGMA secure_delete = ON"))

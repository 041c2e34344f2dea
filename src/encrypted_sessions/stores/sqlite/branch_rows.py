"""Rows of the SDK's AdvancedSQLiteSession: those of one branch, or of all.

A message lies there once, and each branch that has it has a row of structure for it: its place in the
branch, its turn, its type, a tool's name. What is removed from a branch goes from the messages with the
last branch that has it.
"""
# ruff: noqa: S608  # a table's name cannot be a parameter: it comes from the application's own code

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

from ..._support.shielding import is_caller_gone, shield
from ...core.exact_json import as_object
from ..rows import TOO_LARGE, Row, RowStore
from ..sizes import PAGE_BYTES
from ..tables import Tables
from ..whole import StoredRow
from .branches import forget_messages
from .rows import SQLiteRows
from .statements import SIZE_OF_ROW, page_of
from .structure import StructuredEnvelope

__all__ = ["AllBranches", "BranchRows", "UserMessage"]

#: Messages that one statement removes: each is a value in it, twice.
_AT_ONCE = 400


class UserMessage(NamedTuple):
    """A stored row that begins a turn."""

    #: Of its row of structure, as the `Row` of a branch has it.
    id: int
    data: object
    #: Its place in the branch.
    position: int
    #: The number of the turn in its branch.
    turn: int
    #: When it was added, as SQLite writes it.
    created_at: str


class AllBranches(SQLiteRows):
    """The rows of all branches of a session, each once, in the order in which they were added."""

    NEEDS: ClassVar[tuple[str, ...]] = (
        *SQLiteRows.NEEDS,
        "_branch_state",
        "_ensure_branch_reservations_table",
        "_insert_structure_metadata",
        "_refresh_branch_after_external_clear",
        "_run_ordered_turn_operation",
    )

    @classmethod
    def only_to_purge(cls, session: Any) -> bool:  # noqa: ARG003 - a database in memory has its branches, too
        """As `RowStore.only_to_purge`."""
        return False

    def _remove_any(self, rows: Sequence[Row]) -> int:
        session: Any = self._session
        tables = Tables(session.sessions_table, session.messages_table)
        with session._write_connection() as connection:
            connection.execute(self._sql.overwrite).fetchone()
            connection.execute("BEGIN IMMEDIATE")
            gone = [
                StoredRow(row.id, session.session_id, b"", None)
                for row in rows
                if connection.execute(self._sql.remove, (row.id, session.session_id, row.data)).rowcount == 1
            ]
            forget_messages(connection, tables, gone)
            connection.commit()
            return len(gone)


class BranchRows(RowStore):
    """The rows of one branch: its rows of structure, with the data of their messages.

    Without a branch, that which is current now. If the session is cleared meanwhile, by whomever, that is
    `main` again, as in the SDK's class.
    """

    def __init__(self, session: Any, branch: str | None = None) -> None:
        self._session = session
        self._is_asked_for = branch is not None
        current: str
        current, self._generation = session._branch_state
        self._branch = current if branch is None else branch
        messages = session.messages_table
        # What is too large comes as its size: a number, which no BLOB is.
        data = f"CASE WHEN {SIZE_OF_ROW} > ? THEN {SIZE_OF_ROW} ELSE CAST(m.message_data AS BLOB) END"
        beneath = (
            f"FROM message_structure s JOIN {messages} m ON m.id = s.message_id AND m.session_id = s.session_id"
            " WHERE s.session_id = ? AND s.branch_id = ?"
        )
        self._rows = f"SELECT s.id, {data} {beneath}"
        self._user_messages = (
            f"SELECT s.id, {data}, s.sequence_number, s.branch_turn_number, s.created_at {beneath}"
            " AND s.message_type = 'user' AND (s.sequence_number, s.id) > (?, ?)"
            " ORDER BY s.sequence_number, s.id LIMIT ?"
        )
        self._times = f"SELECT s.id, CAST(strftime('%s', m.created_at) AS INTEGER) {beneath} AND s.id IN "
        self._remove_one = (
            "DELETE FROM message_structure WHERE id = ? AND session_id = ? AND branch_id = ?"
            f" AND EXISTS (SELECT 1 FROM {messages} m WHERE m.id = message_id AND m.session_id = ?"
            " AND CAST(m.message_data AS BLOB) = ?) RETURNING message_id, user_turn_number"
        )

    def have_been_left(self) -> bool:
        """Whether the session has gone to another branch since, other than by being cleared."""
        branch, generation = self._session._branch_state
        return bool(generation == self._generation and branch != self._branch)

    def writer(self, session: Any) -> BranchRows:  # noqa: ARG002 - the rows' own
        """As `RowStore.writer`: these rows, which know their branch."""
        return self

    def reads_end_when_cancelled(self) -> bool:
        """As `RowStore.reads_end_when_cancelled`: the worker thread goes on, and nobody waits for it."""
        return True

    def stored_as(self, envelopes: list[dict[str, Any]], items: Sequence[Any]) -> list[dict[str, Any]]:
        """As `RowStore.stored_as`: envelopes that answer for their items' structure."""
        return [StructuredEnvelope(envelope, as_object(item)) for envelope, item in zip(envelopes, items, strict=True)]

    def place(self) -> Hashable:
        """As `RowStore.place`: the branch, in its file."""
        path = self._session.db_path
        if str(path) == ":memory:":
            return id(self._session), self._branch
        return str(Path(path).resolve()), self._session.messages_table, self._session.session_id, self._branch

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        """As `RowStore.page`."""
        return await asyncio.to_thread(self._page, upto, count)

    def _page(self, upto: Row | None, count: int) -> list[Row]:
        with self._session._locked_connection() as connection:
            return page_of(self._newest(connection, upto, count), upto)

    def _newest(self, connection: sqlite3.Connection, upto: Row | None, count: int) -> Iterable[Any]:
        position, values = "", tuple[Any, ...]()
        if upto is not None:
            position = (
                " AND (s.sequence_number, s.id) <= ((SELECT sequence_number FROM message_structure WHERE id = ?), ?)"
            )
            values = (upto.id, upto.id)
        statement = f"{self._rows}{position} ORDER BY s.sequence_number DESC, s.id DESC LIMIT ?"
        return connection.execute(statement, (*self._of_rows(connection), *values, count))

    def _of_rows(self, connection: sqlite3.Connection) -> tuple[Any, ...]:
        """The values with which `_rows` begins."""
        return self.max_row_bytes, self._session.session_id, self._branch_now(connection)

    async def oldest(self, count: int) -> list[Row]:
        """As `RowStore.oldest`."""
        return await asyncio.to_thread(self._oldest, count)

    def _oldest(self, count: int) -> list[Row]:
        statement = f"{self._rows} ORDER BY s.sequence_number, s.id LIMIT ?"
        with self._session._locked_connection() as connection:
            return page_of(connection.execute(statement, (*self._of_rows(connection), count)))

    async def user_messages(self, after: UserMessage | None, count: int) -> list[UserMessage]:
        """The next rows that begin a turn, oldest first: up to `count`, fewer where they are large; [] at the end."""
        return await asyncio.to_thread(self._next_user_messages, after, count)

    def _next_user_messages(self, after: UserMessage | None, count: int) -> list[UserMessage]:
        messages: list[UserMessage] = []
        left = PAGE_BYTES
        last = (-1, 0) if after is None else (after.position, after.id)
        with self._session._locked_connection() as connection:
            values = (*self._of_rows(connection), *last, count)
            for message in map(UserMessage._make, connection.execute(self._user_messages, values)):
                if type(message.data) is int:
                    messages.append(message._replace(data=TOO_LARGE))
                else:
                    messages.append(message)
                    left -= len(cast("bytes", message.data or b""))
                if left <= 0:
                    break
        return messages

    async def add_items(self, items: list[Any]) -> None:
        """Add to this branch, whole or not at all, also where the session has gone on in another one meanwhile."""
        if not items:
            await self._session.add_items(items)  # which looks whether it is closed
            return
        await shield(self._session._run_ordered_turn_operation(self._add, items))

    def _add(self, items: list[Any]) -> None:
        session = self._session
        with session._write_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            session._insert_items(connection, items)
            session._insert_structure_metadata(connection, items, self._branch_now(connection))
            connection.commit()

    async def clear_session(self) -> None:
        """As the session's own: all branches go."""
        await self._session.clear_session()

    async def added_at(self, rows: Sequence[Any]) -> Sequence[float | None]:
        """As `RowStore.added_at`, of rows or user messages."""
        return await asyncio.to_thread(self._added_at, rows)

    def _added_at(self, rows: Sequence[Any]) -> list[float | None]:
        statement = f"{self._times} ({', '.join('?' * len(rows))})"
        with self._session._locked_connection() as connection:
            values = self._session.session_id, self._branch_now(connection), *(row.id for row in rows)
            times = dict(connection.execute(statement, values).fetchall())
        return [times.get(row.id) for row in rows]

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        """As `RowStore.remove`. The usage of a turn goes with its last row, as when the SDK's class pops."""
        return cast("bool", await self._session._run_ordered_turn_operation(self._remove, rows, newest))

    def _remove(self, rows: Sequence[Row], newest: Row) -> bool:
        with self._session._write_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            current = next(iter(self._newest(connection, None, 1)), (None,))[0]
            done = current == newest.id and self._remove_rows(connection, rows) == len(rows)
            if done and not is_caller_gone():
                connection.commit()
            else:
                connection.rollback()
                done = False
            return done

    async def remove_any(self, rows: Sequence[Row]) -> int:
        """As `RowStore.remove_any`."""
        return cast("int", await self._session._run_ordered_turn_operation(self._remove_any, rows))

    def _remove_any(self, rows: Sequence[Row]) -> int:
        with self._session._write_connection() as connection:
            connection.execute("PRAGMA secure_delete = ON").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            removed = self._remove_rows(connection, rows)
            connection.commit()
            return removed

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        """As `RowStore.replace_tail`. Turns are counted on from those replaced, whose usage stays."""
        return cast("bool", await self._session._run_ordered_turn_operation(self._replace_tail, expected, envelopes))

    def _replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        session = self._session
        with session._write_connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            found = map(Row._make, self._newest(connection, None, max(len(expected), 1)))
            current = [row._replace(data=TOO_LARGE) if type(row.data) is int else row for row in found]
            unchanged = current[::-1] == list(expected)
            if unchanged:
                # Before the old ones go, or the numbers of their turns would be given once more.
                session._insert_items(connection, envelopes)
                session._insert_structure_metadata(connection, envelopes, self._branch_now(connection))
                self._remove_rows(connection, expected, with_usage=False)
            connection.commit()
            return unchanged

    def _remove_rows(self, connection: sqlite3.Connection, rows: Sequence[Row], *, with_usage: bool = True) -> int:
        session_id, branch = self._session.session_id, self._branch_now(connection)
        self._session._ensure_branch_reservations_table(connection)  # a branch's name stays taken
        messages = list[int]()
        turns = set[int | None]()
        for row in rows:
            values = row.id, session_id, branch, session_id, row.data
            for message_id, turn in connection.execute(self._remove_one, values).fetchall():
                messages.append(message_id)
                turns.add(turn)
        self._remove_messages_of_no_branch(connection, messages)
        for turn in turns - {None} if with_usage else ():
            these = "session_id = ? AND branch_id = ? AND user_turn_number = ?"
            connection.execute(
                f"DELETE FROM turn_usage WHERE {these} AND NOT EXISTS (SELECT 1 FROM message_structure WHERE {these})",
                (session_id, branch, turn) * 2,
            )
        return len(messages)

    def _remove_messages_of_no_branch(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        # No index finds a message's rows of structure: the session's are looked through, once for many messages.
        session_id = self._session.session_id
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            these = f"IN ({', '.join('?' * len(some))})"
            connection.execute(
                f"DELETE FROM {self._session.messages_table} WHERE session_id = ? AND id {these} AND id NOT IN"
                f" (SELECT message_id FROM message_structure WHERE session_id = ? AND message_id {these})",
                (session_id, *some) * 2,
            )

    def _branch_now(self, connection: sqlite3.Connection) -> str:
        """The branch, unless the session has been cleared since it was current."""
        session = self._session
        if not self._is_asked_for:
            session._refresh_branch_after_external_clear(connection, initialize=False)
            current, generation = session._branch_state
            if generation != self._generation:
                return cast("str", current)
        return self._branch

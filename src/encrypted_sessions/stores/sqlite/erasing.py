"""Every trace of some sessions removed from a file."""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from ..tables import Tables, quoted
from . import branches
from .connection import SQLiteConnection

__all__ = ["erase_sessions", "of_sessions", "present_sessions"]

#: How many sessions one step erases, and how many messages at most before the last step.
_SESSIONS = 20
_PART = 5_000


async def erase_sessions(
    connection: SQLiteConnection, tables: Tables, session_ids: Sequence[str], *, dry_run: bool
) -> Counter[str]:
    """Remove the sessions' rows from every table that may know them, or only count them."""
    erasing = _Erasing(connection, tables)
    for start in range(0, len(session_ids), _SESSIONS):
        some = session_ids[start : start + _SESSIONS]
        if dry_run:
            await connection.run(erasing.count, some)
            continue
        # Long histories in parts, so that nobody waits long; what is left, in one step.
        while await connection.run(erasing.erase_part, some):
            pass
        await connection.run(erasing.erase_rest, some)
    return erasing.found


def present_sessions(connection: SQLiteConnection, tables: Tables, session_ids: Sequence[str]) -> set[str]:
    """Those of the sessions that any of these tables knows; in the worker."""
    statements = (
        f"SELECT DISTINCT session_id FROM {quoted(table)} WHERE {of_sessions(session_ids)}"
        for table in _Erasing(connection, tables).traces(connection.sqlite)
    )
    return {one for statement in statements for (one,) in connection.sqlite.execute(statement, session_ids)}


class _Erasing:
    """The steps, each in the worker; `found` counts rows by table."""

    def __init__(self, connection: SQLiteConnection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables
        self.found: Counter[str] = Counter()

    def traces(self, connection: sqlite3.Connection) -> list[str]:
        """Every table that may know a session, what points at others first."""
        return [
            *branches.tables_of_notes(connection, self._tables),
            self._tables.messages,
            self._tables.sessions,
        ]

    def count(self, session_ids: Sequence[str]) -> None:
        connection = self._connection.sqlite
        for table in self.traces(connection):
            statement = f"SELECT count(*) FROM {quoted(table)} WHERE {of_sessions(session_ids)}"
            ((number,),) = connection.execute(statement, session_ids)
            self.found[table] += number

    def erase_part(self, session_ids: Sequence[str]) -> bool:
        table = quoted(self._tables.messages)
        part = f"SELECT id FROM {table} WHERE {of_sessions(session_ids)} LIMIT {_PART}"
        with self._connection.transaction() as connection:
            removed = connection.execute(f"DELETE FROM {table} WHERE id IN ({part})", session_ids).rowcount
        self.found[self._tables.messages] += removed
        return removed == _PART

    def erase_rest(self, session_ids: Sequence[str]) -> None:
        with self._connection.transaction() as connection:
            removed = {
                table: connection.execute(
                    f"DELETE FROM {quoted(table)} WHERE {of_sessions(session_ids)}", session_ids
                ).rowcount
                for table in self.traces(connection)
            }
        self.found.update(removed)


def of_sessions(session_ids: Sequence[str]) -> str:
    """The condition that a row is of one of these sessions, whose ids are its values."""
    return f"session_id IN ({', '.join('?' * len(session_ids))})"

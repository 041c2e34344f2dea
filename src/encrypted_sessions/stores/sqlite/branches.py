"""What the SDK's AdvancedSQLiteSession notes about messages, in tables of its own.

SQLite does not enforce foreign keys unless it is told to, so what belongs to a removed message has to
be removed by name, as that class does itself.
"""
# ruff: noqa: S608  # every table here has a fixed name

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby

from ..tables import Tables
from ..whole import StoredRow

__all__ = ["forget_messages", "tables_of_notes"]

#: Every table of that class with what it knows of a session, what points at others first.
_NOTES = ("message_structure", "turn_usage", "branch_reservations", "session_clear_generations")
_CHUNK = 500


def tables_of_notes(connection: sqlite3.Connection, tables: Tables) -> list[str]:
    """Those of the class's tables that are there, if they belong to this pair of tables.

    A file can hold several pairs, and the notes belong to the one that their foreign key names.
    """
    ((owned,),) = connection.execute(
        "SELECT count(*) FROM pragma_foreign_key_list('message_structure')"
        ' WHERE "from" = \'message_id\' AND "table" = ? COLLATE NOCASE',
        (tables.messages,),
    )
    if not owned:
        return []
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [name for name in _NOTES if name in found]


def forget_messages(connection: sqlite3.Connection, tables: Tables, rows: Sequence[StoredRow]) -> None:
    """Remove what is noted about these messages, and about turns that are empty now."""
    notes = tables_of_notes(connection, tables) if rows else []
    if not notes:
        return
    for session_id, its_rows in groupby(sorted(rows, key=_by_session), key=_by_session):
        ids = [row.id for row in its_rows]
        for start in range(0, len(ids), _CHUNK):
            some = ids[start : start + _CHUNK]
            _forget(connection, notes, session_id.encode("utf-8", "surrogateescape"), some)


def _forget(connection: sqlite3.Connection, notes: Sequence[str], session: bytes, ids: Sequence[int]) -> None:
    these = f"FROM message_structure WHERE session_id = CAST(? AS TEXT) AND message_id IN ({', '.join('?' * len(ids))})"
    values = (session, *ids)
    turns = connection.execute(
        f"SELECT DISTINCT CAST(branch_id AS BLOB), user_turn_number {these} AND user_turn_number IS NOT NULL", values
    ).fetchall()
    if "branch_reservations" in notes:  # a branch's name stays taken when its last message goes
        connection.execute(
            f"INSERT OR IGNORE INTO branch_reservations (session_id, branch_id) SELECT session_id, branch_id {these}",
            values,
        )
    connection.execute(f"DELETE {these}", values)
    if "turn_usage" in notes:
        turn = "session_id = CAST(? AS TEXT) AND branch_id = CAST(? AS TEXT) AND user_turn_number = ?"
        for branch_id, number in turns:
            connection.execute(
                f"DELETE FROM turn_usage WHERE {turn} AND NOT EXISTS (SELECT 1 FROM message_structure WHERE {turn})",
                (session, branch_id, number) * 2,
            )


def _by_session(row: StoredRow) -> str:
    return row.session_id

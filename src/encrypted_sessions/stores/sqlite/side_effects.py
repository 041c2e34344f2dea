"""Triggers, generated columns and virtual tables: what may do more in a file than it is told."""

from __future__ import annotations

import sqlite3

from ..tables import Tables, quoted
from ..whole import SideEffect
from .branches import tables_of_notes

__all__ = ["side_effects"]

#: In `PRAGMA table_xinfo`, how a column is marked whose value is worked out.
_GENERATED = (2, 3)


def side_effects(connection: sqlite3.Connection, tables: Tables) -> list[SideEffect]:
    """Those on the tables that maintenance changes, the SDK's notes about messages included."""
    found = []
    for table in dict.fromkeys((*tables, *tables_of_notes(connection, tables))):
        if _count(connection, "type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%' AND name", table):
            found.append(SideEffect("virtual table", table, table))
        found += [
            SideEffect("generated column", column, table)
            for _, column, *_, hidden in connection.execute(f"PRAGMA table_xinfo({quoted(table)})")
            if hidden in _GENERATED
        ]
        found += [
            SideEffect("trigger", name, table)
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY name",
                (table,),
            )
        ]
    return found


def _count(connection: sqlite3.Connection, condition: str, table: str) -> int:
    ((number,),) = connection.execute(
        f"SELECT count(*) FROM sqlite_master WHERE {condition} = ? COLLATE NOCASE",  # noqa: S608 - a fixed text
        (table,),
    )
    return int(number)

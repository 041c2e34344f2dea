"""Rows that were taken out of a PostgreSQL database, put back under the ids that they had."""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from ..tables import Tables, quoted
from ..unsuitable import UnsuitableStoreError
from ..whole import Place, StoredRow
from .connection import PostgreSQLConnections

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["put_rows_back"]

_ADVICE = (
    "Check that the user in the URL may read both tables, insert into them, and read the sequence of the message ids"
)

_GIVEN = (
    "given AS (SELECT unnest(CAST(:ids AS bigint[])) AS id, unnest(CAST(:sessions AS text[])) AS session_id,"
    " unnest(CAST(:data AS text[])) AS message_data, unnest(CAST(:times AS float8[])) AS time)"
)


async def put_rows_back(
    connections: PostgreSQLConnections, tables: Tables, rows: Sequence[StoredRow], *, dry_run: bool
) -> list[Place]:
    """Insert those of the rows under whose ids nothing lies, all at once, and say of each what there was."""
    messages, sessions = (quoted(name).replace(":", "\\:") for name in (tables.messages, tables.sessions))
    values = {
        "ids": [row.id for row in rows],
        "sessions": [row.session_id for row in rows],
        "data": [_text_of(row, connections.location) for row in rows],
        "times": [row.created_at for row in rows],
    }
    # Of a table whose ids come from no sequence, and of one that may not be looked at, nothing is known.
    last = text(
        "SELECT CASE WHEN has_sequence_privilege(found, 'SELECT') OR has_sequence_privilege(found, 'USAGE')"
        " THEN COALESCE(pg_sequence_last_value(found), 0) END"
        " FROM (SELECT CAST(pg_get_serial_sequence(:table, 'id') AS regclass) AS found) AS sequence"
    )
    look = text(
        f'WITH {_GIVEN} SELECT m.id, m.session_id = g.session_id COLLATE "C" AND m.message_data = g.message_data'
        f' COLLATE "C" FROM given AS g JOIN {messages} AS m ON m.id = g.id'
    )
    # One statement, so that no session's row is there without its messages. A time that is none has no end.
    insert = text(
        f"WITH {_GIVEN}, of_sessions AS (INSERT INTO {sessions} (session_id) SELECT DISTINCT session_id FROM given"
        f" WHERE NOT EXISTS (SELECT FROM {messages} AS m WHERE m.id = given.id) ON CONFLICT DO NOTHING),"
        f" put AS (INSERT INTO {messages} (id, session_id, message_data, created_at) SELECT id, session_id,"
        " message_data, COALESCE(to_timestamp(time), 'infinity') FROM given ORDER BY id ON CONFLICT (id) DO NOTHING"
        " RETURNING id) SELECT id FROM put"
    )

    async def work(connection: AsyncConnection) -> list[Place]:
        async def fetch(statement: Any, **more: object) -> Sequence[Any]:
            return (await connection.execute(statement, more)).all()

        ((highest,),) = await fetch(last, table=quoted(tables.messages))
        ahead = {row.id for row in rows if highest is not None and row.id > highest}
        put: set[int] = set()
        if not dry_run:
            chosen = [at for at, row in enumerate(rows) if row.id not in ahead]
            found = await fetch(insert, **{name: [of[at] for at in chosen] for name, of in values.items()})
            put = {row_id for (row_id,) in found}
        there = dict(tuple(row) for row in await fetch(look, **values))

        def place(row: StoredRow) -> Place:
            if row.id in put:
                return "free"
            if row.id in there:
                return "already" if there[row.id] else "taken"
            return "ahead" if row.id in ahead else "free" if dry_run else "taken"

        return [place(row) for row in rows]

    return await connections.run(work, _ADVICE)


def _text_of(row: StoredRow, location: str) -> str:
    if isinstance(row.data, bytes):
        raise UnsuitableStoreError(
            f"{location} holds text, but the file has a row of other bytes: it belongs to another store"
        )
    return row.data

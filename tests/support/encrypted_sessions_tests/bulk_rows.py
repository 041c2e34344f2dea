"""Many rows written at once, past the store, and a count of the rows that a store hands over."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from encrypted_sessions_tests import stores
from encrypted_sessions_tests.mysql_tables import connected
from encrypted_sessions_tests.stores import StoreLocation

_CHUNK = 5_000


async def write_rows(place: StoreLocation, session_id: str, rows: Sequence[str]) -> None:
    """Append rows, oldest first, in one transaction: stores with a time column give all the same time."""
    if place.kind == "plain":
        place.memory.setdefault(session_id, []).extend(rows)
    elif place.kind == "redis":
        async with stores._redis(place) as client:
            for start in range(0, len(rows), _CHUNK):
                await client.rpush(place.redis_key(session_id), *rows[start : start + _CHUNK])
    elif place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection, connection.transaction():
            await connection.execute(
                f"INSERT INTO {place.sessions_table} (session_id) VALUES ($1) ON CONFLICT DO NOTHING", session_id
            )
            records = [(session_id, row) for row in rows]
            await connection.copy_records_to_table(
                place.messages_table, records=records, columns=["session_id", "message_data"]
            )
    elif place.in_mariadb:
        with connected(place.where) as cursor:
            cursor.execute(f"INSERT IGNORE INTO {place.sessions_table} (session_id) VALUES (%s)", (session_id,))
            cursor.executemany(
                f"INSERT INTO {place.messages_table} (session_id, message_data) VALUES (%s, %s)",
                [(session_id, row) for row in rows],
            )
    else:
        with stores._sqlite(place) as connection:
            connection.execute(f"INSERT OR IGNORE INTO {place.sessions_table} (session_id) VALUES (?)", (session_id,))
            connection.executemany(
                f"INSERT INTO {place.messages_table} (session_id, message_data) VALUES (?, ?)",
                [(session_id, row) for row in rows],
            )
            if place.has_structure:
                connection.execute(
                    "INSERT INTO message_structure (session_id, message_id, message_type, sequence_number)"
                    f" SELECT session_id, id, 'other', id FROM {place.messages_table} WHERE session_id = ?"
                    " AND id NOT IN (SELECT message_id FROM message_structure)",
                    (session_id,),
                )


class Fetched:
    """Rows that a store has handed over."""

    def __init__(self) -> None:
        self.rows = 0

    def note(self, more: int) -> None:
        self.rows += more


@contextlib.asynccontextmanager
async def counting(place: StoreLocation, store: Any) -> AsyncIterator[Fetched]:
    """Count the rows that the driver beneath `store` hands over: not what a library says it read."""
    fetched = Fetched()
    if place.kind == "plain":
        _count_plain(store, fetched)
        yield fetched
    elif place.kind == "redis":
        _count_redis(store, fetched)
        yield fetched
    elif place.kind.startswith("sqlalchemy"):
        with _count_sqlalchemy(store, fetched):
            yield fetched
    else:
        await _count_sqlite(place, store, fetched)
        yield fetched


def _count_plain(store: Any, fetched: Fetched) -> None:
    ask = store.get_items

    async def get_items(limit: int | None = None) -> list[Any]:
        items: list[Any] = await ask(limit)
        fetched.note(len(items))
        return items

    store.get_items = get_items


def _count_redis(store: Any, fetched: Fetched) -> None:
    ask = store._redis.execute_command

    async def execute_command(*arguments: Any, **options: Any) -> Any:
        reply = await ask(*arguments, **options)
        fetched.note(_elements(reply))
        return reply

    store._redis.execute_command = execute_command


def _elements(reply: Any) -> int:
    if isinstance(reply, list):
        return sum(map(_elements, reply))
    return int(isinstance(reply, (bytes, str)))


@contextlib.contextmanager
def _count_sqlalchemy(store: Any, fetched: Fetched) -> Any:
    from sqlalchemy import event

    def after(connection: Any, cursor: Any, *_: Any) -> None:
        # Both drivers of the tests hand over all rows of a statement at once.
        fetched.note(len(cursor._rows))

    engine = store.engine.sync_engine
    event.listen(engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", after)


async def _count_sqlite(place: StoreLocation, store: Any, fetched: Fetched) -> None:
    def row_factory(cursor: Any, row: Any) -> Any:
        # Not the rows of a store's own book-keeping.
        fetched.note(any("message_data" in column[0] for column in cursor.description))
        return row

    connect = store._get_connection

    async def counted_async() -> Any:
        connection = await connect()
        connection.row_factory = row_factory
        return connection

    def counted() -> Any:
        connection = connect()
        connection.row_factory = row_factory
        return connection

    store._get_connection = counted_async if place.kind == "async-sqlite" else counted


def texts(items: Sequence[Any]) -> list[str]:
    """What each message says."""
    return [str(item["content"]) for item in items]


def as_json(rows: Sequence[str | bytes]) -> list[Any]:
    """Rows as the values they hold, where white space does not count."""
    return [json.loads(row) for row in rows]

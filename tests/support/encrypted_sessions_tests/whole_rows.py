"""A whole store written and read at once, past the library, as it lies there."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from encrypted_sessions_tests import stores
from encrypted_sessions_tests.stores import StoreLocation

_CHUNK = 5_000


class Written(NamedTuple):
    """A row to write at once with others: `created` is seconds since 1970 (None: now; Redis keeps none)."""

    session_id: str
    data: str
    created: int | None = None


class Found(NamedTuple):
    """A row as it lies there."""

    data: str
    created: int | None


async def write_all(place: StoreLocation, rows: Sequence[Written]) -> None:
    """Write rows of many sessions in this order, as agents do that take turns. The tables are there."""
    sessions = list(dict.fromkeys(row.session_id for row in rows))
    now = int(time.time())
    if place.kind == "redis":
        lists: dict[str, list[str]] = {}
        for row in rows:
            lists.setdefault(row.session_id, []).append(row.data)
        async with stores._redis(place) as client:
            pipeline = client.pipeline(transaction=False)
            for session_id, texts in lists.items():
                pipeline.hset(place.redis_key(session_id).removesuffix(":messages"), "session_id", session_id)
                pipeline.rpush(place.redis_key(session_id), *texts)
            await pipeline.execute()
    elif place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection, connection.transaction():
            await connection.execute(
                f"INSERT INTO {place.sessions_table} (session_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
                sessions,
            )
            for start in range(0, len(rows), _CHUNK):
                some = rows[start : start + _CHUNK]
                await connection.execute(
                    f"INSERT INTO {place.messages_table} (session_id, message_data, created_at)"
                    " SELECT s, d, to_timestamp(t) FROM unnest($1::text[], $2::text[], $3::float8[]) AS r(s, d, t)",
                    *([row.session_id for row in some], [row.data for row in some]),
                    [float(now if row.created is None else row.created) for row in some],
                )
    else:
        with stores._sqlite(place) as connection:
            connection.executemany(
                f"INSERT OR IGNORE INTO {place.sessions_table} (session_id) VALUES (?)", [(one,) for one in sessions]
            )
            connection.executemany(
                f"INSERT INTO {place.messages_table} (session_id, message_data, created_at)"
                " VALUES (?, ?, datetime(?, 'unixepoch'))",
                [(row.session_id, row.data, now if row.created is None else row.created) for row in rows],
            )


async def read_all(place: StoreLocation) -> dict[str, list[Found]]:
    """Every row of every session, in the order in which the SDK reads them, without the library."""
    found: dict[str, list[Found]] = {}
    if place.kind == "redis":
        async with stores._redis(place) as client:
            keys = [key async for key in client.scan_iter(match=f"{place.prefix}:*:messages", count=1000)]
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.lrange(key, 0, -1)
            for key, rows in zip(keys, await pipeline.execute(), strict=True):
                session_id = key.decode().removeprefix(f"{place.prefix}:").removesuffix(":messages")
                found[session_id] = [Found(row.decode(), None) for row in rows]
        return found
    if place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection:
            records = await connection.fetch(
                "SELECT session_id, message_data, extract(epoch FROM created_at::timestamptz)::bigint"
                f" FROM {place.messages_table} ORDER BY created_at, id"
            )
        rows: list[Sequence[Any]] = [tuple(record) for record in records]
    else:
        with stores._sqlite(place) as connection:
            connection.text_factory = str
            rows = connection.execute(
                "SELECT session_id, message_data, CAST(strftime('%s', created_at) AS INTEGER)"
                f" FROM {place.messages_table} ORDER BY id"
            ).fetchall()
    for session_id, data, created in rows:
        found.setdefault(session_id, []).append(Found(data, created))
    return found


async def clear_all(place: StoreLocation) -> None:
    """Remove every row, past the library."""
    if place.kind == "redis":
        async with stores._redis(place) as client:
            keys = [key async for key in client.scan_iter(match=f"{place.prefix}:*", count=1000)]
            if keys:
                await client.delete(*keys)
    elif place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection:
            await connection.execute(f"DELETE FROM {place.messages_table}")
    else:
        with stores._sqlite(place) as connection:
            connection.execute(f"DELETE FROM {place.messages_table}")

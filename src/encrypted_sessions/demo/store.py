"""Where the demo keeps its conversation: opened as an application would, looked into as a thief would.

A store is written as the path of an SQLite file, as an SQLAlchemy URL with an async driver, or as a
Redis URL. A URL may hold a password, so it is shown only without it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

__all__ = ["bare_session", "kind_of", "missing_extra", "problem_with", "raw_rows", "shown", "without_secrets"]

#: The SDK's own names, said out loud because the look into the store needs them.
_TABLE = "agent_messages"
_KEY_PREFIX = "agents:session"

_REDIS = ("redis", "rediss", "unix")
#: Databases that people write without a driver, and the driver that belongs there.
_ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
}
#: No '@' but the one after user and password, so that no part of a password passes for a host.
_HARMLESS = re.compile(r"(?P<scheme>[a-z0-9+]+)://(?P<user>[^@/?#]*@)?(?P<place>[^@?#]*)([?#][^@]*)?", re.IGNORECASE)

# Two letters or more: C:\demo.db is a path.
_URL_WITHOUT_SLASHES = re.compile(r"[A-Za-z][A-Za-z0-9+-]+:")


def kind_of(store: str) -> Literal["file", "redis", "sql"]:
    """Which of the three ways of writing a store this is."""
    scheme, separator, _ = store.partition("://")
    if not separator:
        return "file"
    return "redis" if scheme.lower() in _REDIS else "sql"


def problem_with(store: str) -> str | None:
    """What is wrong with a store as it is written, and what to write instead; None if nothing is."""
    if not store.strip():
        return "is empty; give the path of an SQLite file, an SQLAlchemy URL or a Redis URL"
    if ":memory:" in store or store.rstrip("/") == "sqlite+aiosqlite:":
        return (
            "is a store in memory, which is lost when its process ends; the demo needs one that remains, such as a file"
        )
    scheme, separator, rest = store.partition("://")
    driver = _ASYNC_DRIVERS.get(scheme.lower())
    if separator and driver:
        return f"does not name an async driver: begin it with {driver}:// instead of {scheme}://"
    if separator and not rest:
        return f"has nothing after {scheme}://"
    if not separator and _URL_WITHOUT_SLASHES.match(store):
        return (
            "looks like a URL without '//' after the scheme; an SQLite file is given as a plain path,"
            " a database as in postgresql+asyncpg://host/name, Redis as in redis://host:6379/0"
        )
    return None


def missing_extra(store: str) -> str | None:
    """The extra to install for this store, None if all is there (an SQLAlchemy driver aside)."""
    needed, extra = {"file": ("sqlite3", ""), "sql": ("sqlalchemy", "sql"), "redis": ("redis", "redis")}[kind_of(store)]
    return None if find_spec(needed) else extra


def shown(store: str) -> str:
    """The store without user, password and options."""
    if kind_of(store) == "file":
        # A URL whose slashes were forgotten may hold a password all the same.
        return store.partition(":")[0] + ":..." if _URL_WITHOUT_SLASHES.match(store) else store
    parts = _HARMLESS.fullmatch(store)
    if parts is None:
        return store.partition("://")[0] + "://..."
    return f"{parts['scheme']}://{parts['place']}"


def without_secrets(text: str, store: str) -> str:
    """A text of somebody else's, such as a driver's error, without what the store's URL keeps secret."""
    for secret in sorted(_secrets(store), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(store: str) -> Iterator[str]:
    if kind_of(store) == "file":
        return
    before, _, _ = store.partition("://")[2].rpartition("@")
    password = before.partition(":")[2]
    options = [value for name, value in parse_qsl(store.partition("?")[2]) if "pass" in name.lower()]
    for secret in (password, *options):
        if secret:
            yield secret
            yield unquote(secret)


@asynccontextmanager
async def bare_session(store: str, session_id: str) -> AsyncIterator[Any]:
    """The SDK's session over this store, as an application would open it."""
    kind = kind_of(store)
    if kind == "file":
        from agents import SQLiteSession  # noqa: PLC0415 - each store needs another extra

        with closing(SQLiteSession(session_id, store, messages_table=_TABLE)) as in_file:
            yield in_file
    elif kind == "redis":
        from agents.extensions.memory import RedisSession  # noqa: PLC0415

        in_redis = RedisSession.from_url(session_id, url=store, key_prefix=_KEY_PREFIX)
        try:
            yield in_redis
        finally:
            await in_redis.close()
    else:
        from agents.extensions.memory import SQLAlchemySession  # noqa: PLC0415

        in_sql = SQLAlchemySession.from_url(session_id, url=store, create_tables=True, messages_table=_TABLE)
        try:
            yield in_sql
        finally:
            await in_sql.engine.dispose()


async def raw_rows(store: str, session_id: str) -> list[str]:
    """What lies in the store for this session, oldest first: read by the store's own client, not by the SDK or us."""
    kind = kind_of(store)
    if kind == "file":
        query = f"SELECT message_data FROM {_TABLE} WHERE session_id = ? ORDER BY id"  # noqa: S608 - a constant
        with closing(sqlite3.connect(store)) as connection:
            return [row for (row,) in connection.execute(query, (session_id,))]
    if kind == "redis":
        import redis.asyncio  # noqa: PLC0415

        client = redis.asyncio.from_url(store)
        try:
            rows = await client.lrange(f"{_KEY_PREFIX}:{session_id}:messages", 0, -1)
        finally:
            await client.aclose()
        return [row.decode() if isinstance(row, bytes) else row for row in rows]
    from sqlalchemy import text  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    engine = create_async_engine(store)
    try:
        async with engine.connect() as opened:
            query = f"SELECT message_data FROM {_TABLE} WHERE session_id = :id ORDER BY created_at, id"  # noqa: S608 - a constant
            found = await opened.execute(text(query), {"id": session_id})
            return [row for (row,) in found]
    finally:
        await engine.dispose()

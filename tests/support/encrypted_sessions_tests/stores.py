"""Every kind of store that the tests wrap, opened and looked into the same way.

A `StoreLocation` says where the rows of one test lie: a file, tables of its own, a key prefix of its own,
or memory. `open_store(place, session_id)` gives a fresh bare session over a place. A second call
gives a second object over the same rows, which is what a new process would see.

The raw helpers do not go through the store: they use a connection of their own, so they see what
really lies there and write what an attacker or a bug would write. `session_id` names the session
whose rows are meant; the order of rows is the order in which the store reads them. A row is a
`str` where it is UTF-8 text, and `bytes` where it is not.
"""
# ruff: noqa: S608  # every name of a table in these statements is made here, in StoreLocation

import contextlib
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from .mysql_tables import connected, contents, make_tables
from .other_stores import OTHER_KINDS, open_other

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

ROW_ADDRESSABLE: Final = ("sqlite", "async-sqlite", "sqlalchemy-sqlite", "sqlalchemy-postgres", "redis")
KINDS: Final = (*ROW_ADDRESSABLE, "advanced-sqlite", "plain")

MARIADB: Final = ("sqlalchemy-aiomysql", "sqlalchemy-asyncmy")
"""Row by row as well, each by another driver, in tables as docs/mysql.md makes them: for tests of their own."""

BRANCHING: Final = "branching-sqlite"
"""The SDK's class with branches once more, in the wrapper that was made for it: `sealed_rows.wrapper_of`."""

REDIS_WITHOUT_EVAL: Final = "redis-without-eval"
"""Places of the kind "redis" whose user may do all but run scripts."""

WITHOUT_EVAL: Final = ("~*", "+@all", "-eval", "-evalsha", "-script", "-@scripting")

Row = str | bytes


@dataclass(frozen=True)
class StoreLocation:
    """Where the rows of one test lie. It can be pickled and opened in another process."""

    kind: str
    where: str
    """A file path, a database or Redis URL, or nothing ("plain")."""
    prefix: str
    """Unique to this place: begins the names of its file, tables or keys."""
    memory: dict[str, list[Row]] = field(default_factory=dict, repr=False)
    """The rows of each session of a "plain" place, shared by all its session objects."""

    @property
    def in_sqlite(self) -> bool:
        return self.kind in ("sqlite", "async-sqlite", "advanced-sqlite", BRANCHING, "sqlalchemy-sqlite")

    @property
    def has_structure(self) -> bool:
        """Whether the session reads only what an index of its own names."""
        return self.kind in ("advanced-sqlite", BRANCHING)

    @property
    def in_mariadb(self) -> bool:
        return self.kind in MARIADB

    @property
    def sessions_table(self) -> str:
        return f"{self.prefix}_sessions" if self._has_own_tables else "agent_sessions"

    @property
    def messages_table(self) -> str:
        return f"{self.prefix}_messages" if self._has_own_tables else "agent_messages"

    @property
    def _has_own_tables(self) -> bool:
        return self.kind == "sqlalchemy-postgres" or self.in_mariadb

    def redis_key(self, session_id: str) -> str:
        """The list that holds the rows of this session."""
        return f"{self.prefix}:{session_id}:messages"


def new_place(kind: str, request: pytest.FixtureRequest) -> StoreLocation:
    """A place of this kind that no other test uses; a server is started only if the kind needs it."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    if kind == "sqlalchemy-postgres":
        return StoreLocation(kind, request.getfixturevalue("postgres_url"), prefix)
    if kind in MARIADB:
        driver = kind.removeprefix("sqlalchemy-")
        return StoreLocation(kind, request.getfixturevalue("mariadb_url").replace("+pymysql", f"+{driver}", 1), prefix)
    if kind == "redis":
        return StoreLocation(kind, request.getfixturevalue("redis_url"), prefix)
    if kind == REDIS_WITHOUT_EVAL:
        return StoreLocation("redis", redis_user(request, *WITHOUT_EVAL), prefix)
    if kind == "plain":
        return StoreLocation(kind, "", prefix)
    if kind not in (*KINDS, BRANCHING):
        raise ValueError(f"no store of the kind {kind!r}; the kinds are {', '.join((*KINDS, *MARIADB))}")
    folder: Path = request.getfixturevalue("tmp_path")
    return StoreLocation(kind, str(folder / f"{prefix}.db"), prefix)


def redis_user(request: pytest.FixtureRequest, *rights: str) -> str:
    """The URL of this test's database of Redis for a user with these rights, who is gone after the test."""
    import redis

    url: str = request.getfixturevalue("redis_url")
    name = f"u{uuid.uuid4().hex[:12]}"
    set_redis_rights(url, name, *rights)

    def remove() -> None:
        with redis.Redis.from_url(url) as client, contextlib.suppress(redis.ConnectionError):
            client.acl_deluser(name)

    request.addfinalizer(remove)
    return url.replace("redis://", f"redis://{name}:{name}@")


def set_redis_rights(url: str, name: str, *rights: str) -> None:
    """Give a user these rights and no other; `url` is that of somebody who may do so."""
    import redis

    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{name}", *rights)


def database_of(place: StoreLocation) -> str:
    """The name of the database of a place on a server."""
    return urlsplit(place.where).path.removeprefix("/")


class PlainSession:
    """A structural session with the five members that the SDK's protocol asks for, and no more.

    It keeps its rows as JSON text and, like the SDK's stores, leaves out a row that is no JSON.
    """

    def __init__(self, session_id: str, rows: list[Row]) -> None:
        self.session_id = session_id
        self._rows = rows

    async def get_items(self, limit: int | None = None) -> "list[TResponseInputItem]":
        items: list[TResponseInputItem] = []
        for row in self._rows:
            with contextlib.suppress(ValueError):
                items.append(json.loads(row))
        return items if limit is None else items[max(len(items) - limit, 0) :]

    async def add_items(self, items: "list[TResponseInputItem]") -> None:
        self._rows.extend([json.dumps(item) for item in items])

    async def pop_item(self) -> "TResponseInputItem | None":
        while self._rows:
            with contextlib.suppress(ValueError):
                item: TResponseInputItem = json.loads(self._rows.pop())
                return item
        return None

    async def clear_session(self) -> None:
        self._rows.clear()


@contextlib.asynccontextmanager
async def open_store(place: StoreLocation, session_id: str, **options: Any) -> AsyncIterator[Any]:
    """A fresh bare session over this place, closed with all it opened at the end.

    `options` go to the store as they are: `session_settings=` for every kind but "plain",
    `engine_kwargs=` for SQLAlchemy, `redis_kwargs=` for Redis. The tables are there once it opens.
    """
    if place.kind == "plain":
        yield PlainSession(session_id, place.memory.setdefault(session_id, []), **options)
    elif place.kind == "sqlite" or place.has_structure:
        with _open_sqlite(place, session_id, options) as store:
            yield store
    elif place.kind in OTHER_KINDS:
        async with open_other(place, session_id, **options) as store:
            yield store
    elif place.kind == "async-sqlite":
        from agents.extensions.memory import AsyncSQLiteSession

        async_store = AsyncSQLiteSession(session_id, place.where, **options)
        try:
            await async_store.get_items(1)
            yield async_store
        finally:
            await async_store.close()
    elif place.kind == "redis":
        from agents.extensions.memory import RedisSession

        redis_store = RedisSession.from_url(session_id, url=place.where, key_prefix=place.prefix, **options)
        try:
            yield redis_store
        finally:
            await redis_store.close()
    else:
        from agents.extensions.memory import SQLAlchemySession

        if place.in_mariadb:
            make_tables(place.where, place.sessions_table, place.messages_table)
        sql_store = SQLAlchemySession.from_url(
            session_id,
            url=f"sqlite+aiosqlite:///{place.where}" if place.in_sqlite else place.where,
            create_tables=not place.in_mariadb,
            sessions_table=place.sessions_table,
            messages_table=place.messages_table,
            **options,
        )
        try:
            await sql_store.get_items(1)
            yield sql_store
        finally:
            await sql_store.engine.dispose()


@contextlib.contextmanager
def _open_sqlite(place: StoreLocation, session_id: str, options: dict[str, Any]) -> Iterator[Any]:
    from agents import SQLiteSession
    from agents.extensions.memory import AdvancedSQLiteSession

    if place.kind == "sqlite":
        store = SQLiteSession(session_id, place.where, **options)
    else:
        store = AdvancedSQLiteSession(session_id=session_id, db_path=place.where, create_tables=True, **options)
    try:
        yield store
    finally:
        store.close()


async def raw_rows(place: StoreLocation, session_id: str) -> list[Row]:
    """The rows of this session as they lie, the oldest first."""
    if place.kind == "plain":
        return list(place.memory.get(session_id, []))
    return [row for _, row in await _addressed_rows(place, session_id)]


async def write_raw_row(place: StoreLocation, session_id: str, data: Row, *, blob: bool = False) -> None:
    """Append one row as an attacker or a bug would.

    In SQLite, bytes are stored as TEXT that may not be UTF-8, or with `blob=True` as a BLOB.
    PostgreSQL and MariaDB take only text that is UTF-8.
    """
    if place.kind == "plain":
        place.memory.setdefault(session_id, []).append(data)
    elif place.kind == "redis":
        async with _redis(place) as client:
            await client.rpush(place.redis_key(session_id), data)
    elif place.kind == "sqlalchemy-postgres":
        async with _postgres(place) as connection, connection.transaction():
            await connection.execute(
                f"INSERT INTO {place.sessions_table} (session_id) VALUES ($1) ON CONFLICT DO NOTHING", session_id
            )
            await connection.execute(
                f"INSERT INTO {place.messages_table} (session_id, message_data) VALUES ($1, $2)", session_id, data
            )
    elif place.in_mariadb:
        with connected(place.where) as cursor:
            cursor.execute(f"INSERT IGNORE INTO {place.sessions_table} (session_id) VALUES (%s)", (session_id,))
            cursor.execute(
                f"INSERT INTO {place.messages_table} (session_id, message_data) VALUES (%s, %s)", (session_id, data)
            )
    else:
        with _sqlite(place) as connection:
            connection.execute(f"INSERT OR IGNORE INTO {place.sessions_table} (session_id) VALUES (?)", (session_id,))
            row_id = connection.execute(
                f"INSERT INTO {place.messages_table} (session_id, message_data) VALUES (?, {_cast(blob=blob)})",
                (session_id, data),
            ).lastrowid
            if place.has_structure:
                connection.execute(
                    "INSERT INTO message_structure (session_id, message_id, message_type, sequence_number)"
                    " SELECT ?, ?, 'other', COALESCE(MAX(sequence_number), 0) + 1 FROM message_structure"
                    " WHERE session_id = ?",
                    (session_id, row_id, session_id),
                )


async def replace_raw_row(place: StoreLocation, session_id: str, index: int, data: Row, *, blob: bool = False) -> None:
    """Replace the row at this index of `raw_rows` in place; -1 is the newest."""
    if place.kind == "plain":
        place.memory[session_id][index] = data
        return
    address, _ = (await _addressed_rows(place, session_id))[index]
    if place.kind == "redis":
        async with _redis(place) as client:
            await client.lset(place.redis_key(session_id), address, data)
    elif place.kind == "sqlalchemy-postgres":
        async with _postgres(place) as connection:
            await connection.execute(
                f"UPDATE {place.messages_table} SET message_data = $1 WHERE id = $2", data, address
            )
    elif place.in_mariadb:
        with connected(place.where) as cursor:
            cursor.execute(f"UPDATE {place.messages_table} SET message_data = %s WHERE id = %s", (data, address))
    else:
        with _sqlite(place) as connection:
            connection.execute(
                f"UPDATE {place.messages_table} SET message_data = {_cast(blob=blob)} WHERE id = ?", (data, address)
            )


async def everything_at_rest(place: StoreLocation) -> bytes:
    """All that lies at this place, for a search: every table or key, and the bytes of a file and its log."""
    if place.kind == "plain":
        return b"\n".join(_as_bytes(row) for rows in place.memory.values() for row in rows)
    if place.kind == "redis":
        found = []
        async with _redis(place) as client:
            async for key in client.scan_iter(match=f"{place.prefix}*"):
                found.append(key)
                kind = await client.type(key)
                if kind == b"list":
                    found += await client.lrange(key, 0, -1)
                elif kind == b"string":
                    found.append(await client.get(key))
                else:
                    found += [part for pair in (await client.hgetall(key)).items() for part in pair]
        return b"\n".join(found)
    if place.kind == "sqlalchemy-postgres":
        async with _postgres(place) as connection:
            rows = [
                row
                for table in (place.sessions_table, place.messages_table)
                for row in await connection.fetch(f"SELECT t::text AS row FROM {table} t")
            ]
        return b"\n".join(str(row["row"]).encode() for row in rows)
    if place.in_mariadb:
        return b"\n".join(contents(place.where, [place.sessions_table, place.messages_table]))
    found = [file.read_bytes() for file in Path(place.where).parent.glob(f"{Path(place.where).name}*")]
    with _sqlite(place) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f'SELECT * FROM "{table.decode()}"'):
                found += [_as_bytes(part) for part in row if isinstance(part, (str, bytes))]
    return b"\n".join(found)


async def _addressed_rows(place: StoreLocation, session_id: str) -> list[tuple[int, Row]]:
    """Each row with its id, or its index in a Redis list."""
    if place.kind == "redis":
        async with _redis(place) as client:
            return [(i, _as_row(row)) for i, row in enumerate(await client.lrange(place.redis_key(session_id), 0, -1))]
    order = "created_at, id" if place.kind.startswith("sqlalchemy") else "id"
    query = f"SELECT id, message_data FROM {place.messages_table} WHERE session_id = %s ORDER BY {order}"
    if place.kind == "sqlalchemy-postgres":
        async with _postgres(place) as connection:
            return [(row["id"], row["message_data"]) for row in await connection.fetch(query % "$1", session_id)]
    if place.in_mariadb:
        with connected(place.where) as cursor:
            cursor.execute(query.replace("session_id", "CAST(session_id AS BINARY)", 1), (session_id.encode(),))
            return list(cursor)
    with _sqlite(place) as connection:
        return [(row_id, _as_row(data)) for row_id, data in connection.execute(query % "?", (session_id,))]


@contextlib.contextmanager
def _sqlite(place: StoreLocation) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(place.where)) as connection, connection:
        connection.text_factory = bytes
        yield connection


@contextlib.asynccontextmanager
async def _postgres(place: StoreLocation) -> AsyncIterator[Any]:
    import asyncpg  # type: ignore[import-untyped]  # it ships no types

    connection = await asyncpg.connect(place.where.replace("+asyncpg", "", 1))
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _redis(place: StoreLocation) -> AsyncIterator[Any]:
    import redis.asyncio

    client = redis.asyncio.from_url(place.where)
    try:
        yield client
    finally:
        await client.aclose()


def _cast(*, blob: bool) -> str:
    return "CAST(? AS BLOB)" if blob else "CAST(? AS TEXT)"


def _as_bytes(row: Row) -> bytes:
    return row.encode("utf-8", "surrogatepass") if isinstance(row, str) else row


def _as_row(row: bytes) -> Row:
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError:
        return row

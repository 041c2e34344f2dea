"""The one list of stores: what is promised over each, and which checks show it. docs/stores.md has it as tables.

A check that does not apply to a store is not made for it; `Check.spares` says why.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import redis

from . import redis_rights as rights
from .stores import BRANCHING, StoreLocation, new_place, set_redis_rights

if TYPE_CHECKING:
    from .redis_servers import TlsRedisServer, WatchedRedis

__all__ = ["CHECKS", "MONGODB_URL", "NOTES", "STORES", "Cell", "Check", "MatrixStore", "stores_for"]

MONGODB_URL: Final = "ENCRYPTED_SESSIONS_MONGODB_URL"
"""The variable with the URL of a MongoDB that tests may write to."""


class Cell(NamedTuple):
    """A cell of the docs' table: a word, and which of `NOTES` say why."""

    word: str
    notes: str = ""

    def __str__(self) -> str:
        return f"{self.word} ({', '.join(self.notes)})" if self.notes else self.word


NOTES: Final = {
    "a": "its own methods are used: a kill between its `pop_item` and the return loses that one item",
    "b": "compaction clears the session and adds the summary: a kill between the two loses that history",
    "c": "`PurgeRefusedError` where there are expired rows, and a ValueError for `purge_on_add=`",
    "d": "a row above `max_row_bytes` is fetched before it is refused",
    "e": "what the primary acknowledged but its replica had not received is lost in a failover, as without encryption:"
    " an item may be missing, or be popped once more",
    "f": "give the URL of the primary; after a failover run again, with that of the new one",
    "g": "the commands do not support it yet; StoreConfigError",
    "h": "unless it is [given a store](write-your-own-store.md)",
    "i": "around it; a compaction session beneath it, which has no branches, is a TypeError",
}

WHOLE: Final = Cell("whole")
REFUSED: Final = Cell("refused", "c")


@dataclass(frozen=True)
class MatrixStore:
    """A session class of the SDK over one kind of server, as a user would choose it."""

    name: str
    """In the ids of tests."""
    shown: str
    """In the docs' table."""
    tried_on: str
    make: Callable[[pytest.FixtureRequest], StoreLocation]
    """A place that no other test uses."""
    session: Cell = WHOLE
    purge: Cell = WHOLE
    purge_on_add: Cell = WHOLE
    compaction: Cell = WHOLE
    maintenance: Cell = WHOLE
    server: str | None = None
    """The fixture of what is interrupted in mid-operation; None for what has no server."""
    in_one_process: bool = False
    maintained: Callable[[StoreLocation, pytest.FixtureRequest], StoreLocation] = lambda place, _: place
    """The place as maintenance opens it."""
    is_listed: bool = True
    """Whether the docs' table has a row of its own for it."""

    def cells(self) -> list[str]:
        """The row of the docs' table."""
        levels = (self.session, self.purge, self.purge_on_add, self.compaction, self.maintenance)
        return [self.shown, self.tried_on, *map(str, levels)]


@dataclass(frozen=True)
class Check:
    """What is shown of each store, in the docs' words."""

    shown: str
    spares: Callable[[MatrixStore], str | None] = lambda _: None
    """Why it is not made for a store; None where it is."""

    def cells(self) -> list[str]:
        """The row of the docs' table: the check, and which stores it is not made for."""
        spared: dict[str, list[str]] = {}
        for store in STORES:
            reason = self.spares(store)
            if reason is not None and store.is_listed:
                spared.setdefault(reason, []).append(store.shown)
        return [self.shown, "; ".join(f"{', '.join(names)}: {reason}" for reason, names in spared.items())]


def _is_in_one_process(store: MatrixStore) -> str | None:
    return "in the memory of one process" if store.in_one_process else None


def _has_no_server(store: MatrixStore) -> str | None:
    return None if store.server else _is_in_one_process(store) or "a file has no server"


CHECKS: Final = {
    "conversation": Check("a conversation of the Runner with tools, continued by another session object"),
    "wrong key": Check("a wrong key opens nothing and removes nothing"),
    "altered row": Check("an altered row raises, and stays"),
    "large item": Check("an item of 300 kB"),
    "long history": Check("a history of 700 items"),
    "purge": Check("`purge_expired` and `purge_on_add=`: what expired is removed, or an error says that it is refused"),
    "compaction": Check("the SDK's compaction, around the encrypted session and beneath it: the same rows, sealed"),
    "processes": Check("4 processes pop: each item goes to one of them", _is_in_one_process),
    "kill": Check(
        "`kill -9` while adding and popping: batches are whole, and only items in hand are gone",
        _is_in_one_process,
    ),
    "restart": Check(
        "the server is restarted during an operation, or fails over: what was acknowledged is there once",
        _has_no_server,
    ),
    "maintenance": Check("`inventory`, `reencrypt`, `verify`, `purge` and `erase`, or an error that refuses them"),
}


def stores_for(check: str) -> Any:
    """A test that is made for each store that this check applies to."""
    return pytest.mark.parametrize(
        "store",
        [
            pytest.param(store, id=store.name, marks=pytest.mark.private_servers if check == "restart" else ())
            for store in STORES
            if CHECKS[check].spares(store) is None
        ],
    )


# -- Where their rows lie ---------------------------------------------------------------------------


def _of_kind(kind: str) -> Callable[[pytest.FixtureRequest], StoreLocation]:
    return lambda request: new_place(kind, request)


def _psycopg(request: pytest.FixtureRequest) -> StoreLocation:
    place = new_place("sqlalchemy-postgres", request)
    return replace(place, where=place.where.replace("+asyncpg", "+psycopg"))


def _redis(request: pytest.FixtureRequest) -> StoreLocation:
    server: TlsRedisServer = request.getfixturevalue("lasting_redis")
    return StoreLocation("redis", server.url, _prefix())


def _redis_over_tls(request: pytest.FixtureRequest) -> StoreLocation:
    server: TlsRedisServer = request.getfixturevalue("lasting_redis")
    return StoreLocation("redis", server.trusted_url, _prefix())


def _redis_user(*granted: str) -> Callable[[pytest.FixtureRequest], StoreLocation]:
    """A user with these rights and those that each session and command needs, on keys of one prefix alone."""

    def make(request: pytest.FixtureRequest) -> StoreLocation:
        server: TlsRedisServer = request.getfixturevalue("lasting_redis")
        name = _prefix()
        needed = (*rights.SDK, *rights.READING, *rights.CHANGING, *rights.MAINTENANCE, *rights.ERASURE)
        set_redis_rights(server.url, name, f"~{name}:*", "+@connection", *needed, *granted)
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SAVE")
        return StoreLocation("redis", server.url.replace("redis://", f"redis://{name}:{name}@"), name)

    return make


def _watched(request: pytest.FixtureRequest) -> StoreLocation:
    return StoreLocation("redis-sentinel", request.getfixturevalue("watched_redis").url, _prefix())


def _primary(place: StoreLocation, request: pytest.FixtureRequest) -> StoreLocation:
    watched: WatchedRedis = request.getfixturevalue("watched_redis")
    return replace(place, kind="redis", where=watched.primary_url)


def _in_memory(kind: str) -> Callable[[pytest.FixtureRequest], StoreLocation]:
    return lambda _: StoreLocation(kind, "", _prefix())


def _mongodb(request: pytest.FixtureRequest) -> StoreLocation:
    from pymongo import MongoClient

    url, database = os.environ[MONGODB_URL], _prefix()

    def drop() -> None:
        with MongoClient(url) as client:
            client.drop_database(database)

    request.addfinalizer(drop)
    return StoreLocation("mongodb", url, database)


def _prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


# -- The list ---------------------------------------------------------------------------------------

_SQLITE = "a file"
_POSTGRESQL = "PostgreSQL"
_MARIADB = "MariaDB, in [such tables](mysql.md)"
_REDIS = "Redis"
_STAND_IN = "a stand-in for its client, **not on a real server**"

#: What is used through its own methods.
_BY_METHODS: dict[str, Any] = {
    "session": Cell("weaker", "a"),
    "purge": REFUSED,
    "purge_on_add": REFUSED,
    "compaction": Cell("weaker", "b"),
}
_NO_COMMANDS: Final = Cell("refused", "g")

STORES: Final = [
    MatrixStore("sqlite", "`SQLiteSession`", _SQLITE, _of_kind("sqlite")),
    MatrixStore("async-sqlite", "`AsyncSQLiteSession`", _SQLITE, _of_kind("async-sqlite")),
    MatrixStore("sqlalchemy-sqlite", "`SQLAlchemySession` on SQLite", _SQLITE, _of_kind("sqlalchemy-sqlite")),
    MatrixStore("advanced-sqlite", "`AdvancedSQLiteSession`", _SQLITE, _of_kind("advanced-sqlite"), **_BY_METHODS),
    MatrixStore(
        BRANCHING,
        "`AdvancedSQLiteSession` in an `EncryptedAdvancedSQLiteSession`",
        _SQLITE,
        _of_kind(BRANCHING),
        compaction=Cell("whole", "i"),
    ),
    MatrixStore(
        "postgresql-asyncpg",
        "`SQLAlchemySession` by asyncpg",
        _POSTGRESQL,
        _of_kind("sqlalchemy-postgres"),
        server="postgres_server",
    ),
    MatrixStore(
        "postgresql-psycopg",
        "`SQLAlchemySession` by psycopg",
        _POSTGRESQL,
        _psycopg,
        server="postgres_server",
    ),
    *[
        MatrixStore(
            f"mariadb-{driver}",
            f"`SQLAlchemySession` by {driver}",
            _MARIADB,
            _of_kind(f"sqlalchemy-{driver}"),
            maintenance=_NO_COMMANDS,
            server="mariadb_server",
        )
        for driver in ("aiomysql", "asyncmy")
    ],
    MatrixStore("redis", "`RedisSession`", _REDIS, _redis, server="lasting_redis"),
    MatrixStore("redis-tls", "`RedisSession` over TLS", _REDIS, _redis_over_tls, server="lasting_redis"),
    MatrixStore(
        "redis-user",
        "`RedisSession`, a user with the [rights](redis.md#which-rights-a-user-needs) alone",
        _REDIS,
        _redis_user(*rights.SCRIPTS),
        server="lasting_redis",
    ),
    MatrixStore(
        "redis-user-without-eval",
        "`RedisSession`, such a user without `EVAL`",
        _REDIS,
        _redis_user(*rights.TRANSACTIONS),
        session=Cell("whole", "d"),
        server="lasting_redis",
    ),
    MatrixStore(
        "redis-sentinel",
        "`RedisSession`, the primary of a [Sentinel](redis.md#sentinel)",
        f"{_REDIS}, a replica, a Sentinel",
        _watched,
        session=Cell("weaker", "e"),
        maintenance=Cell("whole", "f"),
        server="watched_redis",
        maintained=_primary,
    ),
    MatrixStore(
        "structural",
        "a class of your own with the five members",
        "memory",
        _in_memory("plain"),
        **_BY_METHODS,
        maintenance=Cell("refused", "h"),
        in_one_process=True,
    ),
    MatrixStore(
        "mongodb",
        "`MongoDBSession`",
        "a stand-in for its client; all but `pop_item` on FerretDB 1.24, which speaks its protocol; **not on MongoDB**",
        _in_memory("mongodb"),
        **_BY_METHODS,
        maintenance=_NO_COMMANDS,
        in_one_process=True,
    ),
    MatrixStore(
        "dapr",
        "`DaprSession`",
        _STAND_IN,
        _in_memory("dapr"),
        **_BY_METHODS,
        maintenance=_NO_COMMANDS,
        in_one_process=True,
    ),
]

if MONGODB_URL in os.environ:
    STORES.append(
        MatrixStore(
            "mongodb-server",
            "`MongoDBSession`",
            "",
            _mongodb,
            **_BY_METHODS,
            maintenance=_NO_COMMANDS,
            is_listed=False,
        )
    )

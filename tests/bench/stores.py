"""Adding, reading and popping over each kind of store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from measuring import Samples, Table, Taken, in_turn, ms
from subjects import BARE, OURS, SDK, SESSION, SUBJECTS, add_and_get, message, session_of

from encrypted_sessions import Key
from encrypted_sessions_tests.servers import PostgresServer, ProgramMissingError, RedisServer, Server
from encrypted_sessions_tests.stores import WITHOUT_EVAL, StoreLocation, open_store, set_redis_rights

_BATCH = 100
_SIZE = 1024
_POPPED = 10
_ADD, _GET, _POP = "add_items", "get_items", "pop_item"

_FILES = {
    "SQLite": "sqlite",
    "SQLite, async": "async-sqlite",
    "SQLite, advanced": "advanced-sqlite",
    "SQLite by SQLAlchemy": "sqlalchemy-sqlite",
}


class _Store(NamedTuple):
    """One kind of store, and where it is: a folder or a server's URL."""

    name: str
    kind: str
    where: str

    def place(self, number: int) -> StoreLocation:
        in_files = self.kind in _FILES.values()
        return StoreLocation(
            self.kind, f"{self.where}/{self.kind}-{number}.db" if in_files else self.where, f"s{number}"
        )


async def measure(*, quick: bool) -> Table:
    """Each call beside the bare store and the SDK's class."""
    table = Table(
        "Stores",
        ("store, call", *SUBJECTS, "ours / bare", "ours / SDK's"),
        f"`add_items` of {_BATCH} items of {_SIZE // 1024} KiB to an empty session, `get_items` of the same, and"
        f" `pop_item`, one of {_POPPED} in a row. No target. PostgreSQL has its default settings, and Redis stores"
        " nothing on disk. A pop of this library reads the newest row, opens it, and removes it only if it is"
        " still the newest. This takes one more exchange with the server, and two more if Redis may not run"
        " scripts. On a store without addressable rows, such as SQLite's advanced class, it reads first, and then"
        " lets the store pop.",
    )
    key = Key.generate("bench")
    for store in _stores(table):
        taken = {_ADD: Samples(), _GET: Samples(), _POP: Samples()}
        async with contextlib.AsyncExitStack() as stack:
            sessions = {}
            for number, subject in enumerate(SUBJECTS):
                bare = await stack.enter_async_context(open_store(store.place(number), SESSION))
                sessions[subject] = session_of(subject, bare, key)
            await _rounds(sessions, taken, 3 if quick else 40)
        for call, samples in taken.items():
            table.add(
                f"{store.name}, {call}",
                *(ms(samples.median(subject)) for subject in SUBJECTS),
                f"{samples.ratio(OURS, BARE):.2f}",
                f"{samples.ratio(OURS, SDK):.2f}",
            )
    return table


async def _rounds(sessions: dict[str, Any], taken: dict[str, Samples], rounds: int) -> None:
    batch = [message(_SIZE)] * _BATCH
    for number, order in enumerate(in_turn(SUBJECTS, rounds + 2)):
        for subject in order:
            session = sessions[subject]
            added, got = await add_and_get(session, batch)
            start = Taken.since()
            popped = [await session.pop_item() for _ in range(_POPPED)]
            ten = Taken.since(start)
            assert popped == batch[:_POPPED], subject
            if number >= 2:  # the first rounds open connections
                taken[_ADD].add(subject, added)
                taken[_GET].add(subject, got)
                taken[_POP].add(subject, Taken(ten.wall / _POPPED, ten.cpu / _POPPED))


def _stores(table: Table) -> Iterator[_Store]:
    """Each that this machine has a server for."""
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in _FILES.items():
            yield _Store(name, kind, folder)
    with _server(table, lambda: PostgresServer(as_shipped=True)) as url:
        for driver in ("asyncpg", "psycopg") if url else ():
            yield _Store(f"PostgreSQL by {driver}", "sqlalchemy-postgres", url.replace("+asyncpg", f"+{driver}"))
    with _server(table, RedisServer) as url:
        if url:
            yield _Store("Redis", "redis", url)
            set_redis_rights(url, "bench", *WITHOUT_EVAL)
            yield _Store("Redis without EVAL", "redis", url.replace("redis://", "redis://bench:bench@"))


@contextlib.contextmanager
def _server(table: Table, make: Any) -> Iterator[str]:
    """The URL of a server; nothing where it is not installed."""
    try:
        server: Server = make()
    except ProgramMissingError as missing:
        table.note += f" Left out: {missing}."
        yield ""
        return
    with server:
        yield server.url

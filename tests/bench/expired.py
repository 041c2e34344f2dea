"""A heap of expired rows, and a few live ones after it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time

from measuring import Table, Taken, ms
from subjects import OURS, SDK, SESSION, TTL, message, session_of

from encrypted_sessions import Key
from encrypted_sessions.core.envelope import pack
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions_tests.bulk_rows import counting, write_rows
from encrypted_sessions_tests.stores import StoreLocation, open_store

_LIVE, _LIMIT = 10, 50
_TARGET = 2 * (_LIMIT + 64)


async def measure(*, quick: bool) -> Table:
    heap = 10_000 if quick else 100_000
    table = Table(
        f"{heap:,} expired rows, then {_LIVE} live ones",
        ("store", "rows fetched", "target", "met", "time", "rows fetched by the SDK's class", "its time"),
        f"`get_items(limit={_LIMIT})` of items of 200 B. Rows are counted where the driver hands them over.",
    )
    key = Key.generate("bench")
    cipher = FernetCipher.derive(key.secret, SESSION)
    now = int(time.time())
    stamps = [now - 10 * TTL] * heap + [now] * _LIVE
    rows = [json.dumps(pack(key.kid, cipher.seal(message(200), stamp))) for stamp in stamps]
    for kind in ("sqlite", "sqlalchemy-sqlite", "plain"):
        with tempfile.TemporaryDirectory() as folder:
            place = StoreLocation(kind, f"{folder}/history.db", "bench")
            async with open_store(place, SESSION):
                pass  # makes the tables
            await write_rows(place, SESSION, rows)
            ours, our_time = await _read(place, key, OURS)
            theirs, their_time = await _read(place, key, SDK)
        table.add(
            kind,
            f"{ours:,}",
            *table.judged(kind, ours, _TARGET, f"{_TARGET}"),
            ms(our_time),
            f"{theirs:,}",
            ms(their_time),
        )
    return table


async def _read(place: StoreLocation, key: Key, subject: str) -> tuple[int, float]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(place, SESSION))
        fetched = await stack.enter_async_context(counting(place, store))
        session = session_of(subject, store, key)
        start = Taken.since()
        assert len(await session.get_items(limit=_LIMIT)) == _LIVE
        return fetched.rows, Taken.since(start).wall

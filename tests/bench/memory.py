"""How much memory reading a long history takes at its peak. Each reading is a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import Table
from subjects import BARE, OURS, SESSION, SUBJECTS, message, session_of

from encrypted_sessions import Key
from encrypted_sessions.core.envelope import pack
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.servers import ProgramMissingError, RedisServer
from encrypted_sessions_tests.stores import StoreLocation, open_store
from keyproviders import decode_key_text

_SIZE = 1024
_CHUNK = 10_000
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

# "plain" is held to twice the bare store's, the others, whose rows are addressable, to once.
_TARGETS = {"sqlite": 1.0, "sqlalchemy-sqlite": 1.0, "redis": 1.0, "plain": 2.0}


async def measure(*, quick: bool) -> Table:
    count = 10_000 if quick else 100_000
    table = Table(
        f"Peak memory of get_items over {count:,} items of 1 KiB",
        ("store", *SUBJECTS, "ours / bare", "target", "met"),
        "Largest resident size of a separate process while it reads, minus its size before (Linux: VmHWM minus"
        " VmRSS). The bare store reads the same items unsealed.",
    )
    if not _can_measure():
        table.note += " Not measured here: this needs Linux."
        return table
    key = Key.generate("bench")
    with tempfile.TemporaryDirectory() as folder, _redis() as redis_url:
        for kind, target in _TARGETS.items():
            if kind == "redis" and redis_url is None:
                table.add(kind, "no redis-server here", *[""] * (len(table.columns) - 2))
                continue
            peaks = {}
            for subject in SUBJECTS:
                bare = subject == BARE  # the SDK's class reads our rows: it has the same secret, and ignores the kid
                where = f"{folder}/{kind}-{bare}.db" if redis_url is None or kind != "redis" else redis_url
                place = StoreLocation(kind, where, f"bench{bare}")
                if kind != "plain" and subject != OURS:
                    await _fill(place, None if bare else key, count)
                peaks[subject] = _peak_of_a_process(place, subject, key, count)
            ratio = peaks[OURS] / peaks[BARE]
            table.add(
                kind,
                *(f"{peak / 2**20:,.0f} MiB" for peak in peaks.values()),
                f"{ratio:.2f}",
                *table.judged(kind, ratio, target),
            )
    return table


@contextlib.contextmanager
def _redis() -> Iterator[str | None]:
    try:
        server = RedisServer()
    except ProgramMissingError:
        yield None
        return
    with server:
        yield server.url


async def _fill(place: StoreLocation, key: Key | None, count: int) -> None:
    async with open_store(place, SESSION):
        pass  # makes the tables
    rows = _rows(key, count)
    while chunk := list(itertools.islice(rows, _CHUNK)):
        await write_rows(place, SESSION, chunk)


def _rows(key: Key | None, count: int) -> Iterator[str]:
    """Items, each with a number of its own, as a store writes them; sealed if there is a key."""
    cipher = None if key is None else FernetCipher.derive(key.secret, SESSION)
    now = int(time.time())
    for number in range(count):
        item = {**message(_SIZE - 20), "id": f"{number:09}"}
        yield json.dumps(item if cipher is None or key is None else pack(key.kid, cipher.seal(item, now)))


def _peak_of_a_process(place: StoreLocation, subject: str, key: Key, count: int) -> int:
    order = {"place": [place.kind, place.where, place.prefix], "subject": subject, "count": count}
    order["key"] = key.reveal_base64()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(order),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return int(output)


# -- From here on: the process that reads ---------------------------------------------------------


async def _read(order: dict[str, Any]) -> int:
    place, subject, key = StoreLocation(*order["place"]), order["subject"], Key("bench", decode_key_text(order["key"]))
    if place.kind == "plain":
        await _fill(place, None if subject == BARE else key, order["count"])
    async with open_store(place, SESSION) as store:
        session = session_of(subject, store, key)
        if place.kind != "plain":
            await session.get_items(limit=1)  # connects
        gc.collect()
        before = _begin()
        items = await session.get_items()
        peak = _status("VmHWM") - before
        assert len(items) == order["count"]
        return peak


def _can_measure() -> bool:
    return _CLEAR.exists()


def _begin() -> int:
    """Let VmHWM begin anew; what is resident now."""
    _CLEAR.write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A line of the process's status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found, name
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(_read(json.load(sys.stdin)))}\n")

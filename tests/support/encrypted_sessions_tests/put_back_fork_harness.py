"""Real processes that put an erased session back, and that are killed at random moments.

Each child looks at what the one before left, finishes that, looks again, erases the session, and is killed while it
puts it back. The harness, like `maintenance_fork_harness`, opens no store.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encrypted_sessions import Key, KeyRing
from encrypted_sessions.maintenance import erase, put_back
from encrypted_sessions.stores.whole import StoredRow
from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.maintenance_fork_harness import TIMEOUT_S, Child
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import rows_of, whole
from keyproviders import decode_key_text
from keyproviders.local import StaticKeyProvider

BATCH = 10


def kill(place: StoreLocation, key: Key, session_id: str, export: Path, *, kills: int, seed: int) -> int:
    """Let children put the session of an export back, and kill them: how many were in the midst of it."""
    where = {name: value for name, value in asdict(place).items() if name != "memory"}
    told = export.with_suffix(".told")
    order = {"place": where, "key": [key.name, key.reveal_base64()], "session": session_id, "export": str(export)}
    harness.launch(__file__, {**order, "told": str(told), "kills": kills, "seed": seed}, timeout_s=TIMEOUT_S)
    return int(told.read_text())


# -- From here on: the harness and its children ---------------------------------------------------


class Killing:
    def __init__(self, order: dict[str, Any]) -> None:
        self._place = StoreLocation(**order["place"])
        name, secret = order["key"]
        self._key = Key(name, decode_key_text(secret))
        self._session: str = order["session"]
        self._export: str = order["export"]
        self._rows = [json.loads(line) for line in Path(self._export).read_text().splitlines()[:-1]]

    async def work(self, child: Child) -> None:
        ring = KeyRing(StaticKeyProvider(self._key))
        await self._wait_for_the_killed()
        async with whole(self._place) as store:
            left = await rows_of(store, self._session)
            self._compare(left, complete=False)
            report = await put_back(store, ring, export=self._export, batch=BATCH)
            if not report.ok or (report.changed, report.already) != (len(self._rows) - len(left), len(left)):
                raise AssertionError(f"there were {len(left)}, and the report says {report}")
            self._compare(await rows_of(store, self._session), complete=True)
            await erase(store, [self._session])
            child.wait_for_start()
            await put_back(store, ring, export=self._export, batch=BATCH)
            child.say_the_end()
            signal.pause()

    async def _wait_for_the_killed(self) -> None:
        """Until the server is done with what a killed child has sent."""
        if self._place.kind == "sqlalchemy-postgres":
            of_others = "datname = current_database() AND pid <> pg_backend_pid()"
            busy = f"SELECT count(*) FROM pg_stat_activity WHERE {of_others}"  # noqa: S608 - no names
            async with stores._postgres(self._place) as connection:
                while await connection.fetchval(busy):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.005)

    def _compare(self, found: list[StoredRow], *, complete: bool) -> None:
        there = [
            {"session_id": row.session_id, "id": row.id, "created_at": row.created_at, "data": _text(row)}
            for row in found
        ]
        if there != (self._rows if complete else [row for row in self._rows if row in there]):
            raise AssertionError(f"complete={complete}: {len(there)} rows are not as they were")


def _text(row: StoredRow) -> str:
    return row.data if isinstance(row.data, str) else row.data.decode()


def main() -> None:
    order = json.load(sys.stdin)
    killing, chance = Killing(order), random.Random(order["seed"])
    window, hit = 0.0, 0
    for number in range(order["kills"] + 2):
        child = Child(killing.work)
        child.begin()
        began = time.perf_counter()
        if number < 2:  # how long it takes when it is not killed
            child.wait_for_end()
            window = time.perf_counter() - began
        else:
            time.sleep(chance.uniform(0, window))
            hit += not child.has_ended()
        child.kill()
    last = Child(killing.work)
    last.begin()
    last.kill()
    Path(order["told"]).write_text(str(hit))


if __name__ == "__main__":
    main()

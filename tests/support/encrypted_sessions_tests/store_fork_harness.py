"""Processes that change a whole store without end, each killed at a random moment.

The harness, like that of `session_fork_harness`, imports everything once and forks a child for each piece of
work. Children open the store anew, so nothing but modules is shared.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from encrypted_sessions.stores.whole import StoredRow, WholeStore
from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import as_text, whole

#: Every child is killed within so many seconds after its first change.
_LIVES_S = 0.05


def kill(work: str, place: StoreLocation, *, kills: int, seed: int = 0) -> None:
    """Let children do this work on a place, and kill each."""
    where = {name: value for name, value in asdict(place).items() if name != "memory"}
    harness.launch(__file__, {"work": work, "place": where, "kills": kills, "seed": seed})


async def replace(store: WholeStore, rows: list[StoredRow]) -> None:
    """One more dot behind each row."""
    await store.replace([(row, f"{as_text(row)}.") for row in rows])


async def remove(store: WholeStore, rows: list[StoredRow]) -> None:
    """Gone is what begins so, and a row without that gets a dot: so that there is always something to do."""
    gone = [row for row in rows if as_text(row).startswith("gone")]
    await store.remove(gone[:7])
    await store.replace([(row, f"{as_text(row)}.") for row in rows if not as_text(row).startswith("gone")])


WORK: dict[str, Callable[[WholeStore, list[StoredRow]], Awaitable[None]]] = {"replace": replace, "remove": remove}


async def _work(work: str, place: StoreLocation, began: int) -> None:
    async with whole(place) as store:
        first = True
        while True:
            async for block in store.blocks():
                after = None
                while rows := await store.rows(block, after, 40):
                    after = rows[-1]
                    await WORK[work](store, rows)
                    if first:
                        os.write(began, b"b")
                        first = False


def main() -> None:
    order = json.load(sys.stdin)
    place = StoreLocation(**order["place"])
    chance = random.Random(order["seed"])
    for _ in range(order["kills"]):
        has_begun, began = os.pipe()
        pid = os.fork()
        if not pid:
            harness.run_and_exit(_work(order["work"], place, began))
        os.close(began)
        os.read(has_begun, 1)
        time.sleep(chance.random() * _LIVES_S)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(has_begun)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit("a child ended by itself")


if __name__ == "__main__":
    main()

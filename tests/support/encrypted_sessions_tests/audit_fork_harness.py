"""Real processes that write audit logs into one folder, and are killed at random moments.

As in `session_fork_harness`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from encrypted_sessions import EncryptedSession, Key, observe
from encrypted_sessions.audit import AuditLog
from encrypted_sessions_tests.session_fork_harness import MODULES, Child, kill_one_by_one, launch
from encrypted_sessions_tests.stores import StoreLocation, open_store

__all__ = ["run"]

_TIMEOUT_S = 400


def run(place: StoreLocation, log: Path, folder: Path, *, rounds: int, seed: int) -> list[list[str]]:
    """Let children work on a place, with audit logs in a folder; the words of each line of `log`."""
    order = {
        "folder": str(folder),
        "place": {name: value for name, value in asdict(place).items() if name != "memory"},
        "log": str(log),
        "keys": [Key.generate().reveal_base64() for _ in range(2)],
        "rounds": rounds,
        "seed": seed,
    }
    launch(__file__, order, timeout_s=_TIMEOUT_S)
    return [line.split() for line in log.read_text().splitlines()]


async def be_killed(child: Child, folder: str) -> None:
    """Add and read, again and again, and say after each operation that it is done."""
    log = AuditLog(folder, session_ids="plain", rotate_bytes=4_096)
    observe(log)
    async with open_store(child.place, f"child-{child.number}") as store:
        session = EncryptedSession.wrap(store, child.ring(), ttl=None)
        await session.read(1)
        # A disk with much to do takes longer to begin a file than for all that follows.
        while log.refuses:  # noqa: ASYNC110 - nothing tells when a line is written
            await asyncio.sleep(0.001)
        child.log("began", os.getpid(), sync=False)
        child.wait_for_start()
        number = 0
        while child.goes_on():
            await session.add_items([{"role": "user", "content": str(number)}])
            child.log("done", "add_items", sync=False)
            await session.get_items(2)
            child.log("done", "get_items", sync=False)
            number += 1
    log.close()


def main() -> None:
    order = json.load(sys.stdin)
    for module in (*MODULES[order["place"]["kind"]], "encrypted_sessions.events.operation"):
        importlib.import_module(module)
    kill_one_by_one(order, partial(be_killed, folder=order["folder"]))


if __name__ == "__main__":
    main()

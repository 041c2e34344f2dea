"""A process that writes and reads all the time, with the places of keys that SESSION_KEY_PLACES named at its start.

Arguments: its number, and the file of the store. After each turn it prints a line of JSON: the key that it sealed
with, what it found, and how many items it has added. SIGTERM ends it after the turn that is under way.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import Any

from agents import SQLiteSession

from encrypted_sessions import EncryptedSession, KeyRing
from keyproviders import RetryPolicy

from .documents import ROOT, blocks

BREATH_S = 0.02


def open_ring() -> Any:
    """What the page's own function opens."""
    places = os.environ["SESSION_KEY_PLACES"]
    namespace: dict[str, Any] = {}
    code = blocks(ROOT / "docs" / "moving-keys.md", "python")[0].text.partition("\nkeys = ")[0]
    exec(code, namespace)  # noqa: S102 - the project's own page
    os.environ["SESSION_KEY_PLACES"] = places  # which the page sets
    patient = RetryPolicy(attempts=100, deadline_s=100)  # nobody starts this process again, and tests may be slow
    namespace["KeyRing"] = SimpleNamespace(from_url=partial(KeyRing.from_url, retry=patient))
    return namespace["open_ring"]()


async def main(number: str, file: str) -> None:
    """Two sessions: its own, and one that all share."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    stores = [SQLiteSession(f"ours/{name}", file) for name in (number, "team")]
    async with open_ring() as ring:
        sessions = [EncryptedSession.wrap(store, ring, ttl=86_400) for store in stores]
        added = 0
        while not stopped.is_set():
            found: Counter[str] = Counter()
            for session in sessions:
                await session.add_items([{"role": "user", "content": f"from {number}"}])
                found.update((await session.read()).outcomes)
            added += len(sessions)
            kid = (await ring.active()).kid
            print(json.dumps({"kid": kid, "found": found, "added": added}), flush=True)  # noqa: T201 - it is read
            await asyncio.sleep(BREATH_S)
    for store in stores:
        store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Measures an outage of the key server, with the default numbers of a ring, and draws it.

    python tests/bench/outage.py measure    (20 minutes: writes docs/key-server-outage.json)
    python tests/bench/outage.py draw       (from that, docs/key-server-outage.svg)

The first part is real: a key server that is another process is stopped, then killed, then started
again, while a session is written and read once a second. The second part is the 24 hours: the same
ring and another outage, with a clock that is set forward step by step.
"""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from encrypted_sessions import EncryptedSession, KeyProviderError, KeyRing
from encrypted_sessions.demo_outage_server import KeyServer
from keyproviders import CachePolicy, KeyEvent

DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA = DOCS / "key-server-outage.json"
PICTURE = DOCS / "key-server-outage.svg"

#: What happens to the server, in seconds after the first key came.
STOPPED_S, KILLED_S, STARTED_S, END_S = 60.0, 360.0, 1020.0, 1080.0
EVERY_S = 1.0


class ListSession:
    """A session in memory: what is measured is the ring, not a disk."""

    session_settings = None

    def __init__(self) -> None:
        self.session_id = "measured"
        self.items: list[Any] = []

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return self.items if limit is None else self.items[len(self.items) - min(limit, len(self.items)) :]

    async def add_items(self, items: list[Any]) -> None:
        self.items.extend(items)

    async def pop_item(self) -> Any:
        return self.items.pop() if self.items else None

    async def clear_session(self) -> None:
        self.items.clear()


async def timed(do: Callable[[], Any], began: float) -> dict[str, Any]:
    """When it began and how long it took, in seconds, and the error, if it failed."""
    at = time.monotonic()
    try:
        await do()
        error = None
    except KeyProviderError as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"at_s": round(at - began, 3), "took_s": round(time.monotonic() - at, 6), "error": error}


async def real_part() -> dict[str, Any]:
    """The outage of some minutes, in real time."""
    events: list[dict[str, Any]] = []
    began = time.monotonic()

    def note(event: KeyEvent) -> None:
        events.append({"at_s": round(time.monotonic() - began, 3), "what": event.what, "error": event.error})

    with KeyServer() as server:
        acts: list[tuple[float, str, Callable[[], None]]] = [
            (STOPPED_S, "SIGSTOP", server.stop),
            (KILLED_S, "SIGKILL", server.kill),
            (STARTED_S, "started", server.start),
        ]
        ring = KeyRing(server.provider(), on_event=note)
        session = EncryptedSession.wrap(ListSession(), ring, ttl=86_400)
        began = time.monotonic()
        done: list[dict[str, Any]] = []

        async def writing() -> None:
            number = 0
            while time.monotonic() - began < END_S:
                number += 1
                item: Any = {"role": "user", "content": f"number {number}"}
                writes.append(await timed(lambda item=item: session.add_items([item]), began))
                await asyncio.sleep(max(0.0, writes[-1]["at_s"] + EVERY_S - (time.monotonic() - began)))

        async def reading() -> None:
            while time.monotonic() - began < END_S:
                reads.append(await timed(lambda: session.get_items(limit=10), began))
                await asyncio.sleep(max(0.0, reads[-1]["at_s"] + EVERY_S - (time.monotonic() - began)))

        async def acting() -> None:
            for at, name, act in acts:
                await asyncio.sleep(at - (time.monotonic() - began))
                await asyncio.to_thread(act)
                done.append({"at_s": round(time.monotonic() - began, 3), "what": name})

        async def watching() -> None:
            could: bool | None = None
            while time.monotonic() - began < END_S:
                health = ring.health()
                if health.can_write is not could:
                    could = health.can_write
                    healthy_s = health.last_healthy_s
                    changes.append(
                        {
                            "at_s": round(time.monotonic() - began, 3),
                            "can_write": could,
                            "last_healthy_s": None if healthy_s is None else round(healthy_s, 3),
                        }
                    )
                await asyncio.sleep(0.05)

        writes: list[dict[str, Any]] = []
        reads: list[dict[str, Any]] = []
        changes: list[dict[str, Any]] = []
        await asyncio.gather(writing(), reading(), acting(), watching())
        calls = ring.health().counts["calls"]
        await ring.aclose()
    return {"acts": done, "events": events, "writes": writes, "reads": reads, "changes": changes, "calls": calls}


async def accelerated_part() -> dict[str, Any]:
    """The 24 hours, with a clock that is set forward: what a ring does depends on nothing else."""
    ahead = 0.0
    with KeyServer() as server:
        ring = KeyRing(server.provider(), clock=lambda: time.monotonic() + ahead)
        session = EncryptedSession.wrap(ListSession(), ring, ttl=None)
        item: Any = {"role": "user", "content": "before"}
        await session.add_items([item])
        server.kill()
        answered = time.monotonic()
        write_ended_s = read_ended_s = None
        error = ""
        while read_ended_s is None:
            # Hours in steps of a minute, what is near a bound in steps of a second.
            age = time.monotonic() + ahead - answered
            ahead += 1.0 if min(abs(age - 900), abs(age - 86_400)) < 90 else 60.0
            health = ring.health()
            if write_ended_s is None and not health.can_write:
                write_ended_s = health.last_healthy_s
            if not health.can_read:
                read_ended_s = health.last_healthy_s
                try:
                    await session.get_items()
                except KeyProviderError as raised:
                    error = f"{type(raised).__name__}: {raised}"
            else:
                await session.get_items()
        await ring.aclose()
    return {
        "write_ended_s": round(write_ended_s or 0, 1),
        "read_ended_s": round(read_ended_s, 1),
        "error_of_reading": error,
    }


def measure() -> None:
    """Run both parts and write what they gave."""
    logging.getLogger("keyproviders").addHandler(logging.NullHandler())
    real = asyncio.run(real_part())
    accelerated = asyncio.run(accelerated_part())
    policy = CachePolicy()
    measured = {
        "measured_on": datetime.now(timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "policy": {name: getattr(policy, name) for name in policy.__slots__},
        "real": real,
        "accelerated": accelerated,
    }
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else DATA
    target.write_text(json.dumps(measured) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure()
    else:
        sys.exit("measure or draw?")

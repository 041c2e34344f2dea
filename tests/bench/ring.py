"""What a key ring costs: a warm call, calls to the place in an hour, memory, threads."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import tracemalloc

from measuring import Table

from keyproviders import Key, KeyRing
from keyproviders.testing import FakeKeyProvider

_TARGET_US = 10.0
_HOUR_S = 3600
_KEYS = 1_000
_RINGS = 1_000


class _ManyKeys:
    """A place with many older keys, that counts what it is asked."""

    def __init__(self, count: int) -> None:
        self.keys = {f"k{number}": Key.generate(f"k{number}") for number in range(count)}
        self.calls = 0

    def active(self) -> Key:
        self.calls += 1
        return self.keys["k0"]

    def get(self, name: str) -> Key:
        self.calls += 1
        return self.keys[name]


async def measure(*, quick: bool) -> Table:
    table = Table(
        "A key ring",
        ("what", "figure", "target", "met"),
        "A warm call is one with a usable key in hand. The hour is that of a busy process on a clock that is set"
        " forward, with a call every second for the active key and one older key. Memory is what the ring holds in"
        " addition to the keys themselves.",
    )
    warm_us = await _warm_us(200 if quick else 2_000)
    table.add(
        "a warm `await ring.active()`, median",
        f"{warm_us:.2f} us",
        *table.judged("a warm call", warm_us, _TARGET_US, f"{_TARGET_US:.0f} us"),
    )
    table.add("calls to the place in an hour of a busy process", f"{await _calls_in_an_hour()}", "", "")
    table.add(f"memory of a ring that holds {_KEYS:,} keys", f"{await _memory_kib():.0f} KiB", "", "")
    threads, calls = await _many_rings()
    table.add(f"threads of a process with {_RINGS:,} rings, at most", f"{threads}", "", "")
    table.add(f"calls to the place of {_RINGS:,} rings, each used twice", f"{calls:,}", "", "")
    return table


async def _warm_us(rounds: int) -> float:
    async with KeyRing(FakeKeyProvider()) as ring:
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(100):
                await ring.active()
            taken.append((time.perf_counter() - start) / 100)
    return statistics.median(taken) * 1e6


async def _calls_in_an_hour() -> int:
    now = 0.0
    place = _ManyKeys(2)
    ring = KeyRing(place, clock=lambda: now)
    older = place.keys["k1"].kid
    for _ in range(_HOUR_S):
        now += 1
        await ring.active()
        await ring.get(older)
        while ring.health().counts["waiting"]:  # noqa: ASYNC110 - a refresh in the background tells nobody of its end
            await asyncio.sleep(0.001)
    await ring.aclose()
    return place.calls


async def _memory_kib() -> float:
    place = _ManyKeys(_KEYS)
    ring = KeyRing(place)
    await ring.active()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for key in place.keys.values():
        await ring.get(key.kid)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(ring.health().held) == _KEYS
    await ring.aclose()
    return held / 1024


async def _many_rings() -> tuple[int, int]:
    place = _ManyKeys(1)
    rings = [KeyRing(place) for _ in range(_RINGS)]
    before = threading.active_count()
    using = asyncio.gather(*(ring.active() for ring in rings))
    most = 0
    while not using.done():
        await asyncio.sleep(0.0005)
        most = max(most, threading.active_count() - before)
    await using
    await asyncio.gather(*(ring.active() for ring in rings))
    for ring in rings:
        ring.close()
    return most, place.calls

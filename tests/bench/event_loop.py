"""How long the event loop stands still while a long history is read."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

from measuring import Samples, Table, Taken, in_turn, ms
from subjects import OURS, SDK, all_three, message

from encrypted_sessions.history import classified

_ROWS = 10_000
_TARGET_S = 0.010
_BARE_SEALED = "bare store, sealed rows"


async def measure(*, quick: bool) -> Table:
    table = Table(
        f"The event loop while {_ROWS:,} items are read",
        (
            "session",
            "longest stall, median",
            "longest stall, largest",
            "target",
            "met",
            "get_items, nothing else running",
        ),
        "Items of 200 B over a SQLite file. Another task asks for its turn all the time; a stall is its longest"
        " wait in each of several runs. The bare store reads this library's sealed rows; it decodes their JSON in a"
        " thread, which holds the interpreter for 5 ms at a time. The target applies to the median: the largest"
        " stall can be a full garbage collection of the process, which any of the three may start. The last line"
        " shows the cost of yielding to other tasks.",
    )
    with tempfile.TemporaryDirectory() as folder:
        async with all_three(folder) as sessions:
            for subject in (SDK, OURS):
                await sessions[subject].add_items([message(200)] * _ROWS)
            reads = {
                _BARE_SEALED: sessions[OURS].underlying_session.get_items,
                SDK: sessions[SDK].get_items,
                OURS: sessions[OURS].get_items,
            }
            stalls = await _stalls(reads, 3 if quick else 15)
            throughput = await _throughput(reads, 3 if quick else 15)
    most = statistics.median(stalls[_BARE_SEALED]) + _TARGET_S
    for name, found in stalls.items():
        middle = statistics.median(found)
        judged = table.judged(name, middle, most, ms(most)) if name == OURS else ("", "")
        table.add(name, ms(middle), ms(max(found)), *judged, ms(throughput.median(name)))
    cost = throughput.ratio(OURS, _UNINTERRUPTED) - 1
    table.add(
        "this library, without giving turns", "", "", "", "", f"{ms(throughput.median(_UNINTERRUPTED))} ({cost:+.0%})"
    )
    return table


Read = Callable[[], Awaitable[Any]]
_UNINTERRUPTED = "without giving turns"


async def _stalls(reads: dict[str, Read], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in reads}
    for order in in_turn(list(reads), rounds):
        for name in order:
            found[name].append(await longest_stall(reads[name], _ROWS))
    return found


async def longest_stall(read: Read, expected: int | None = None) -> float:
    """The longest time that another task waits for its turn, while this is read."""
    longest, done = 0.0, False

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    found = len(await read())
    assert expected is None or found == expected
    done = True
    await ticking
    return longest


async def _throughput(reads: dict[str, Read], rounds: int) -> Samples:
    samples = Samples()
    for order in in_turn([*reads, _UNINTERRUPTED], rounds):
        for name in order:
            slice_s = 3600 if name == _UNINTERRUPTED else classified._SLICE_S
            with mock.patch.object(classified, "_SLICE_S", slice_s):
                start = Taken.since()
                await reads[OURS if name == _UNINTERRUPTED else name]()
                samples.add(name, Taken.since(start))
    return samples

"""Reading and writing batches of 200 items, and single items."""

from __future__ import annotations

import tempfile
from typing import Any

from measuring import Samples, Table, Taken, in_turn, ms
from subjects import BARE, OURS, SDK, SUBJECTS, add_and_get, all_three, bushy, deep, message, tool_result

_BATCH = 200
_GET, _ADD = "get_items", "add_items"

# name, one item, target of get_items and of add_items, rounds
_KINDS: tuple[tuple[str, dict[str, Any], float, float, int], ...] = (
    ("200 B", message(200), 0.75, 1.0, 90),
    ("1 KiB", message(1024), 1.0, 1.0, 90),
    ("4 KiB", message(4096), 1.0, 1.0, 75),
    ("20 KiB", message(20_480), 1.0, 1.0, 75),
    ("100 levels deep", deep(100), 1.0, 1.25, 60),
    ("a tool's result", tool_result(), 1.0, 1.25, 60),
    ("a tree of 200 nodes", bushy(), 1.0, 1.25, 45),
)


async def measure(*, quick: bool) -> Table:
    """Batches of 200."""
    table = Table(
        "Batches of 200 items",
        ("items, call", *SUBJECTS, "ours / bare", "ours / SDK's", "in CPU time", "target", "met"),
        "`add_items` of 200 items to an empty session, and `get_items` of the same 200, over a SQLite file. Nested"
        " items, the last three kinds, take longer because their JSON must come back exactly as it was given.",
    )
    for name, item, most_to_get, most_to_add, rounds in _KINDS:
        taken = {_GET: Samples(), _ADD: Samples()}
        with tempfile.TemporaryDirectory() as folder:
            async with all_three(folder) as sessions:
                await _batches(sessions, [item] * _BATCH, taken, rounds // 10 if quick else rounds)
        for call, target in ((_GET, most_to_get), (_ADD, most_to_add)):
            samples, label = taken[call], f"{name}, {call}"
            table.add(
                label,
                *(ms(samples.median(subject)) for subject in SUBJECTS),
                f"{samples.ratio(OURS, BARE):.2f}",
                f"{samples.ratio(OURS, SDK):.2f}",
                f"{samples.cpu_ratio(OURS, SDK):.2f}",
                *table.judged(label, samples.ratio(OURS, SDK), target),
            )
    return table


async def _batches(sessions: dict[str, Any], batch: list[Any], taken: dict[str, Samples], rounds: int) -> None:
    for number, order in enumerate(in_turn(SUBJECTS, rounds + 2)):
        for subject in order:
            added, got = await add_and_get(sessions[subject], batch)
            if number >= 2:  # the first rounds open connections
                taken[_ADD].add(subject, added)
                taken[_GET].add(subject, got)


async def measure_single(*, quick: bool) -> Table:
    """One item at a time."""
    table = Table(
        "Single items",
        ("call", *SUBJECTS, "ours / SDK's"),
        "One item of 1 KiB added to and popped from a session of 100 items, over a SQLite file; no target."
        " `pop_item` judges the newest row, then removes it only if nothing has changed: two steps in worker threads"
        " instead of one.",
    )
    added, popped = Samples(), Samples()
    item = message(1024)
    with tempfile.TemporaryDirectory() as folder:
        async with all_three(folder) as sessions:
            for session in sessions.values():
                await session.add_items([item] * 100)
            for order in in_turn(SUBJECTS, 30 if quick else 400):
                for subject in order:
                    start = Taken.since()
                    await sessions[subject].add_items([item])
                    added.add(subject, Taken.since(start))
                    start = Taken.since()
                    last = await sessions[subject].pop_item()
                    popped.add(subject, Taken.since(start))
                    assert last == item, subject
    for call, samples in (("add_items of one", added), ("pop_item", popped)):
        medians = [ms(samples.median(subject)) for subject in SUBJECTS]
        table.add(call, *medians, f"{samples.ratio(OURS, SDK):.2f}")
    return table

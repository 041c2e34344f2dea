"""`make bench`: how fast this library is, beside the SDK's own encrypted session and the bare store.

Everything that is compared takes turns in one run, so that what else the machine does meets all of
it alike. Figures are medians; a ratio is the median of the ratios within the turns.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "support"))

import advanced
import agent_loop
import audit
import batches
import event_loop
import events
import expired
import imports
import kms
import maintenance
import memory
import page
import poppers
import providers
import ring
import sessions
import stores
import suites
import telemetry
from measuring import Table

Measurement = Callable[..., Coroutine[Any, Any, Table]]

MEASUREMENTS: dict[str, Measurement] = {
    "imports": imports.measure,
    "batches": batches.measure,
    "single": batches.measure_single,
    "suites": suites.measure,
    "stores": stores.measure,
    "poppers": poppers.measure,
    "agent-loop": agent_loop.measure,
    "event-loop": event_loop.measure,
    "events": events.measure,
    "audit": audit.measure,
    "telemetry": telemetry.measure,
    "advanced": advanced.measure,
    "expired": expired.measure,
    "memory": memory.measure,
    "ring": ring.measure,
    "kms": kms.measure,
    "providers": providers.measure,
    "maintenance": maintenance.measure,
    "maintenance-two": maintenance.measure_two,
    "maintenance-commands": maintenance.measure_commands,
    "maintenance-memory": maintenance.measure_memory,
    "sessions": sessions.measure,
    "page": page.measure,
}

_PAGE = """\
# Benchmarks

Written by `make bench ARGS='--write docs/benchmarks.md'`, which runs on any machine that can run the tests.

"SDK's class" is `agents.extensions.memory.EncryptedSession`, with a Fernet key; "this library" is
`EncryptedSession` with a key ring; both seal with AES-128-CBC and HMAC-SHA256. "bare store" is the session
beneath, which seals nothing. All take turns in one run. Times are medians; a ratio is the median of the ratios
within the turns. "in CPU time" is the same ratio in processor time, which other work on the machine disturbs less.
A target is the most that a figure may be. What lies close to its target can fall on the other side in another run.

Measured on {machine}, each table on the day that stands below it.

{verdict}

{tables}"""


def main() -> None:
    options = _options()
    names = options.only or list(MEASUREMENTS)
    began = time.monotonic()
    machine = _machine()
    sys.stdout.write(f"{machine}\n\n")
    tables = []
    for name in names:
        table = _in_a_process_of_its_own(name, quick=options.quick)
        tables.append(table)
        sys.stdout.write(f"{table.text()}\n")
        sys.stdout.flush()
    missed = [one for table in tables for one in table.missed]
    sys.stdout.write(f"{_verdict(missed)}\nThis took {time.monotonic() - began:.0f} s.\n")
    if options.write:
        written = {
            table.title: f"{table.markdown()}\n{datetime.now(tz=timezone.utc).date().isoformat()}\n" for table in tables
        }
        before = options.write.read_text(encoding="utf-8") if options.only and options.write.exists() else ""
        options.write.write_text(_page(machine, before, written), encoding="utf-8")


def _page(machine: str, before: str, written: dict[str, str]) -> str:
    """The page with these tables; those that the page had before and that were not measured anew stay."""
    sections = {section.partition("\n")[0]: f"## {section}" for section in before.split("\n## ")[1:]}
    sections = {title: f"{section.rstrip()}\n" for title, section in sections.items()} | written
    rows = [(title, line) for title, section in sections.items() for line in section.splitlines()]
    missed = [f"{title}, {line.split(' | ')[0].removeprefix('| ')}" for title, line in rows if " | NO |" in line]
    return _PAGE.format(machine=machine, verdict=_verdict(missed), tables="\n".join(sections.values()))


def _verdict(missed: list[str]) -> str:
    return "Targets missed: " + "; ".join(missed) + "." if missed else "All targets are met."


def _in_a_process_of_its_own(name: str, *, quick: bool) -> Table:
    """What a measurement finds where none before it has left anything in memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, name, quick=quick).result()


def _measure(name: str, *, quick: bool) -> Table:
    return asyncio.run(MEASUREMENTS[name](quick=quick))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="measure this alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows: some minutes, and rough")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="also write the tables, as Markdown; with --only, in place of the same ones of the file",
    )
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write needs figures that are worth keeping: without --quick")
    return options


def _machine() -> str:
    """What the figures depend on."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("cryptography", "openai-agents", "encrypted-sessions"))
    return (
        f"{_processor()} ({os.cpu_count()} logical processors), {platform.system()},"
        f" {platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


if __name__ == "__main__":
    main()

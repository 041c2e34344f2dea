"""The command over whole stores, run in this process or as a program."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from typer.testing import CliRunner, Result

from encrypted_sessions.cli import application
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.sealed_rows import Sealer
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import fill, names_of, url_of

#: Variables that hold what may not stand on a command line.
STORE, KEYS = "STORE_OF_THE_TEST", "KEYS_OF_THE_TEST"

_OPTIONS = {"sessions_table": "--sessions-table", "messages_table": "--messages-table", "key_prefix": "--key-prefix"}


def environment_of(place: StoreLocation, sealer: Sealer | None) -> dict[str, str]:
    """The variables with the place's URL and the sealer's keys, of which the active one comes first."""
    keys = [] if sealer is None else [sealer.active, sealer.older]
    shown = ",".join(f"{key.name}={key.reveal_base64()}" for key in keys)
    return {STORE: url_of(place), KEYS: shown, "ENCRYPTED_SESSIONS_KEYS": f"env:{KEYS}" if keys else ""}


def arguments_for(place: StoreLocation, command: str, *more: str) -> list[str]:
    """A command line that works on this place."""
    names = [part for name, value in names_of(place).items() for part in (_OPTIONS[name], value)]
    return [command, f"env:{STORE}", *names, *more]


def run(place: StoreLocation, sealer: Sealer | None, command: str, *more: str, stdin: str | None = None) -> Result:
    """Run a command in this process. Not within an event loop."""
    arguments = arguments_for(place, command, *more)
    runner = CliRunner(env=environment_of(place, sealer))
    return runner.invoke(application(), arguments, input=stdin, prog_name="encrypted-sessions")


def report_of(result: Result) -> dict[str, Any]:
    """The report that a command printed with --json."""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    assert lines[-1]["event"] == "report"
    report: dict[str, Any] = lines[-1]
    return report


def start(
    place: StoreLocation, sealer: Sealer | None, command: str, *more: str, **options: Any
) -> warm_programs.Program:
    """Start a command as a program."""
    words = [warm_programs.COMMAND, *arguments_for(place, command, *more)]
    return warm_programs.Program(words, env={**os.environ, **environment_of(place, sealer)}, **options)


def start_from_the_start(
    place: StoreLocation, sealer: Sealer | None, command: str, *more: str
) -> subprocess.Popen[str]:
    """The same, in an interpreter that has imported nothing yet."""
    return subprocess.Popen(
        [sys.executable, "-m", warm_programs.COMMAND, *arguments_for(place, command, *more)],
        env={**os.environ, **environment_of(place, sealer)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def filled(place: StoreLocation, rows: Mapping[str, Sequence[str]]) -> None:
    """Write rows of some sessions, from outside of an event loop."""
    asyncio.run(fill(place, rows))

"""The commands as programs: told to stop, killed, run twice at once, watched on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.maintenance_command import filled, report_of, run, start, start_from_the_start
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows

Process = warm_programs.Program | subprocess.Popen[str]

TIMEOUT_S = 60
MANY = 3_000


def many(sealer: Sealer) -> list[str]:
    """Rows of the older key: one by one, they take a while."""
    return [sealer.row(message(str(number)), sealer.older) for number in range(MANY)]


def ended(process: Process) -> tuple[str, str]:
    try:
        return process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def when_it_runs(process: Process) -> str:
    """Wait for its first line of progress, which is returned."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert json.loads(line)["event"] == "progress", line
    return line


def when_it_has_open(process: Process, path: str) -> None:
    """Wait until the process has a file open."""
    descriptors = Path(f"/proc/{process.pid}/fd")
    ends = time.monotonic() + TIMEOUT_S
    while time.monotonic() < ends:
        with suppress(OSError):  # one may close while it is looked at
            if path in {str(descriptor.readlink()) for descriptor in descriptors.iterdir()}:
                return
        time.sleep(0.01)
    raise AssertionError(f"it did not open {path} within {TIMEOUT_S} s")


def kids(place: StoreLocation) -> set[str]:
    return {json.loads(row)["kid"] for row in asyncio.run(raw_rows(place, SESSION))}


# -- Told to stop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_run_after_its_batch_with_3_and_the_next_run_goes_on(
    file: StoreLocation, sealer: Sealer, number: signal.Signals
):
    filled(file, {SESSION: many(sealer)})
    process = start(file, sealer, "reencrypt", "--batch", "1", "--json")
    when_it_runs(process)
    process.send_signal(number)
    stdout, stderr = ended(process)
    report = json.loads(stdout.splitlines()[-1])
    assert (process.returncode, report["exit_code"], report["stopped"]) == (3, 3, "interrupted")
    assert 0 < report["changed"] < MANY
    assert "Stopping after this batch" in stderr
    next_one = report_of(run(file, sealer, "reencrypt", "--json"))
    assert next_one["changed"] + report["changed"] == MANY
    assert kids(file) == {sealer.active.kid}


def test_a_second_signal_breaks_a_run_off_once_the_store_has_answered(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: many(sealer)})
    process = start(file, sealer, "reencrypt", "--batch", "1", "--json")
    when_it_runs(process)
    assert process.stderr is not None
    with closing(sqlite3.connect(file.where)) as other:
        other.execute("BEGIN IMMEDIATE")  # the run waits for this lock
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() + process.stderr.readline() == (
            "\nStopping after this batch. Interrupt once more to stop at once.\n"
        )
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() + process.stderr.readline() == "\nStopping as soon as the store answers.\n"
    stdout, stderr = ended(process)
    assert (process.returncode, stderr) == (3, "Interrupted.\n")
    assert json.loads(stdout.splitlines()[-1])["error"] == "KeyboardInterrupt", "and no counts: it was not at its end"
    assert run(file, sealer, "reencrypt").exit_code == 0


def test_a_terminal_that_is_gone_ends_a_run_as_any_signal_does(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: many(sealer)})
    process = start(file, sealer, "reencrypt", "--batch", "1", "--json")
    when_it_runs(process)
    assert process.stderr is not None
    process.stderr.close()  # who writes there now, gets an error
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    report = json.loads(process.stdout.readlines()[-1])
    assert (process.wait(TIMEOUT_S), report["stopped"]) == (3, "interrupted")
    assert 0 < report["changed"] < MANY
    process.stdout.close()


def test_a_command_that_has_no_batches_is_broken_off_by_the_first_signal(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.ok("a")]})
    with closing(sqlite3.connect(file.where)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")  # the command waits for this lock, also to read
        process = start(file, None, "inspect", "--session", SESSION)
        when_it_has_open(process, file.where)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        first = process.stderr.readline() + process.stderr.readline()
    stdout, stderr = ended(process)
    assert (process.returncode, first + stderr) == (3, "\nStopping as soon as the store answers.\nInterrupted.\n")
    assert SESSION not in stdout


def test_kills_lose_nothing_and_the_next_run_goes_on(place: StoreLocation, sealer: Sealer):
    filled(place, {SESSION: many(sealer)})
    for _ in range(3):
        process = start(place, sealer, "reencrypt", "--batch", "1", "--json")
        when_it_runs(process)
        process.kill()
        process.communicate()
    assert run(place, sealer, "reencrypt").exit_code == 0
    report = report_of(run(place, sealer, "verify", "--json"))
    assert (report["ok"], report["found"]) == (True, {"ok": MANY})
    assert kids(place) == {sealer.active.kid}


def test_two_at_once_share_the_work(place: StoreLocation, sealer: Sealer):
    filled(place, {SESSION: many(sealer)})
    begin: list[Callable[..., Process]] = [start, start_from_the_start]
    processes = [one(place, sealer, "reencrypt", "--json") for one in begin]
    reports = []
    for process in processes:
        stdout, stderr = ended(process)
        assert process.returncode == 0, stderr
        reports.append(json.loads(stdout.splitlines()[-1]))
    assert sum(report["changed"] for report in reports) == MANY
    assert kids(place) == {sealer.active.kid}


# -- On a terminal ------------------------------------------------------------------------------------


def on_a_terminal(place: StoreLocation, sealer: Sealer, *arguments: str) -> tuple[str, str]:
    """What a command writes to stdout, and to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    try:
        process = start(place, sealer, *arguments, stderr=theirs)
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # its end is closed
                break
            shown += piece
            if not piece:
                break
        stdout, _ = ended(process)
    finally:
        os.close(ours)
    assert process.returncode == 0
    return stdout, shown.decode(errors="replace")


def test_a_terminal_gets_a_bar_with_the_rate_and_the_time_left(file: StoreLocation, sealer: Sealer, monkeypatch: Any):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    filled(file, {SESSION: many(sealer)})
    stdout, shown = on_a_terminal(file, sealer, "reencrypt", "--batch", "10")
    assert f"of about {MANY:,} rows, " in shown
    assert "/s" in shown
    assert " left" in shown
    assert "All is well." in stdout
    assert "\x1b" not in stdout


def test_json_and_a_pipe_get_no_bar(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: many(sealer)})
    _, shown = on_a_terminal(file, sealer, "verify", "--json")
    assert shown == ""
    process = start(file, sealer, "verify")
    _, stderr = ended(process)
    assert stderr == ""

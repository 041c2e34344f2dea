"""What nobody means to give: no more is done than was said, and it is said what was wrong."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from encrypted_sessions_tests.maintenance_command import arguments_for, environment_of, filled, report_of, run
from encrypted_sessions_tests.maintenance_peak import can_be_measured
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer
from encrypted_sessions_tests.soak import FULL
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows

WITH_PREFIX: dict[str, tuple[str, ...]] = {
    "inventory": (),
    "verify": (),
    "sessions": (),
    "reencrypt": (),
    "encrypt": ("--yes",),
    "purge": ("--ttl", str(TTL), "--yes"),
    "discard": ("--outcome", "unauthentic", "--export", "FILE", "--yes"),
    "erase": ("--expect", "1", "--yes"),
}

#: Runs a command, and says what memory it took at most.
_MEASURED = """
import atexit, re, sys
from encrypted_sessions.cli import main
def say():
    print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
atexit.register(say)
main()
"""


@pytest.mark.parametrize("command", WITH_PREFIX)
def test_an_empty_prefix_is_none(command: str, file: StoreLocation, sealer: Sealer, tmp_path: Path):
    """It would be how every id begins."""
    rows = [sealer.expired(), sealer.of("unauthentic"), sealer.of("plaintext")]
    filled(file, {SESSION: rows})
    more = [str(tmp_path / "export") if one == "FILE" else one for one in WITH_PREFIX[command]]
    result = run(file, sealer, command, "--session-prefix", "", *more, "--json")
    told = report_of(result)
    assert (result.exit_code, told["exit_code"], "empty" in told["message"]) == (2, 2, True)
    assert asyncio.run(raw_rows(file, SESSION)) == rows
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("kind", ["redis", "sqlalchemy-postgres"])
def test_what_came_out_of_another_kind_of_store_is_not_put_back(
    kind: str, request: pytest.FixtureRequest, file: StoreLocation, sealer: Sealer, tmp_path: Path
):
    source, export = new_place(kind, request), str(tmp_path / "export")
    filled(source, {SESSION: [sealer.ok("a")]})
    filled(file, {SESSION: [sealer.ok("b")]})
    before = asyncio.run(raw_rows(file, SESSION))
    assert run(source, sealer, "erase", "--session", SESSION, "--export", export, "--yes").exit_code == 0
    for more in ((), ("--unverified", "--incomplete", "--yes")):
        result = run(file, sealer, "put-back", "--from", export, *more, "--json")
        told = report_of(result)
        assert (result.exit_code, told["exit_code"]) == (2, 2)
        assert "another kind of store" in told["message"]
    assert asyncio.run(raw_rows(file, SESSION)) == before


@pytest.mark.soak
@pytest.mark.long
@pytest.mark.skipif(not can_be_measured(), reason="this system does not tell a process's memory")
def test_a_long_file_of_sessions_takes_the_memory_of_a_short_one(file: StoreLocation, sealer: Sealer, tmp_path: Path):
    many, most_kb = (1_000_000, 16 * 1024) if FULL else (200_000, 8 * 1024)
    filled(file, {f"session-{number}": [sealer.ok("a")] for number in (3, 400, many - 1)})
    peaks = []
    for count in (1_000, many):
        ids = tmp_path / "ids"
        ids.write_text("".join(f"session-{number}\n" for number in range(count)), encoding="utf-8")
        more = ("--sessions-from", str(ids), "--missing-ok", "--json")
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *arguments_for(file, "erase", *more)],
            env={**os.environ, **environment_of(file, None), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=1_800,
        )
        assert done.returncode == 0, done.stderr
        assert f'"named": {2 if count == 1_000 else 3}' in done.stdout
        peaks.append(int(re.findall(r"^(\d+)$", done.stderr, re.MULTILINE)[-1]))
    assert peaks[1] - peaks[0] < most_kb, peaks

"""The commands over whole stores, run as programs: no key, token, plaintext or password comes out."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.leaks import Net
from encrypted_sessions_tests.maintenance_command import STORE, environment_of, filled, start
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows

COMMANDS = (
    ("inventory", "--ttl", "600"),
    ("verify",),
    ("verify", "--ttl", "600", "--max-row-bytes", "4096"),
    ("discard", "--outcome", "too_large", "--export", "EXPORT", "--yes"),
    ("discard", "--outcome", "not_yet_valid", "--export", "EXPORT", "--yes"),
    ("inspect", "--session", SESSION),
    ("encrypt", "--yes", "--upstream-key", "env:UPSTREAM_STRING"),
    ("reencrypt",),
    ("purge", "--ttl", "600", "--yes"),
    ("discard", "--outcome", "malformed", "--export", "EXPORT", "--yes"),
    ("doctor",),
    ("erase", "--session", SESSION, "--yes"),
)


@pytest.fixture
def secret_place(request: pytest.FixtureRequest, net: Net) -> tuple[StoreLocation, Sealer]:
    """A store with the sentinel text in plain and sealed, under the sentinel key."""
    file = new_place("sqlite", request)
    sealer = Sealer()
    sealer.active = net.master()
    rows = [
        sealer.row(net.item()),
        sealer.row(net.item(), age=10_000),
        json.dumps(net.item()),
        f'{{"a": "{net.text.text}',
        sealer.row(net.item(), age=-10_000),
        json.dumps({"role": "user", "content": net.text.text * 200}),
    ]
    filled(file, {SESSION: rows})
    sealer.ring.close()
    return file, sealer


@pytest.mark.parametrize("as_json", [False, True])
def test_no_command_prints_a_key_a_token_or_a_plaintext(
    secret_place: tuple[StoreLocation, Sealer],
    net: Net,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    as_json: bool,
):
    place, sealer = secret_place
    monkeypatch.setenv("UPSTREAM_STRING", net.text.text)
    tokens = {str(json.loads(row)["payload"])[30:60] for row in asyncio.run(raw_rows(place, SESSION))[:2]}
    for command, *more in COMMANDS:
        options = [str(tmp_path / "-".join(more[1:2])) if word == "EXPORT" else word for word in more]
        if command == "doctor":
            variables = environment_of(place, sealer)
            options = [variables["ENCRYPTED_SESSIONS_KEYS"], "--store", f"env:{STORE}"]
            words = [warm_programs.COMMAND, "doctor", *options, *(["--json"] if as_json else [])]
            process = warm_programs.Program(words, env={**os.environ, **variables})
        else:
            process = start(place, sealer, command, *options, *(["--json"] if as_json else []))
        stdout, stderr = process.communicate(timeout=60)
        net.add(f"output of {command}", stdout)
        net.add(f"errors of {command}", stderr)
        # What is too large is never discarded: to ask for it is wrong use.
        assert process.returncode in ((2,) if "too_large" in more else (0, 1)), stderr
        assert not [token for token in tokens if token in stdout + stderr]


@pytest.mark.parametrize(
    "store", ["redis://user:{password}@127.0.0.1:1/0", "postgresql+asyncpg://user:{password}@127.0.0.1:1/name"]
)
def test_a_store_that_cannot_be_reached_is_told_without_its_password(
    store: str, net: Net, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STORE_WITH_PASSWORD", store.format(password=net.text.text))
    done = warm_programs.run_command("inventory", "env:STORE_WITH_PASSWORD")
    net.add("output", done.stdout)
    net.add("errors", done.stderr)
    assert (done.returncode, done.stdout) == (4, "")
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://user:{password}@host/name",
        "redis://:{password}@host:6379/0",
        "rediss://host/0?password={password}",
        "postgresql+psycopg://host/name?user=u&password={password}",
        "sqlite+x://user:{password}@host/a.db",
        "mysql://user:{password}@host/name",
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_shown(store: str, net: Net):
    given = store.format(password=net.text.text)
    for command in (["inventory"], ["erase", "--session", "a"], ["doctor", "env:A"]):
        words = [*command, *(["--store"] if command[0] == "doctor" else []), given]
        done = warm_programs.run_command(*words, env={**os.environ, "A": net.key_text})
        net.add(f"output of {command}", done.stdout)
        net.add(f"errors of {command}", done.stderr)
        assert done.returncode == 2, done.stderr

"""From `env:` to a keyset to Vault by commands alone: two processes write, and a second tenant shares the store."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions_tests import moving_writer, warm_programs


class Writer:
    """A process that goes on until it is stopped, and starts again with what the variable says then."""

    def __init__(self, number: int, file: Path) -> None:
        self._words = [moving_writer.__name__, str(number), str(file)]
        self._program: warm_programs.Program | None = None
        self._said: list[dict[str, Any]] = []
        self.outcomes: set[str] = set()
        self.kids: list[str] = []
        self.added = 0

    def start(self, environment: dict[str, str]) -> None:
        self._said = []
        self._program = warm_programs.Program(self._words, env=environment)
        self._listening = threading.Thread(target=self._listen, args=(self._program.stdout,))
        self._listening.start()
        self.until(lambda: len(self._said) >= 2)

    def _listen(self, stdout: Any) -> None:
        with stdout:
            for line in stdout:
                self._said.append(json.loads(line))

    def until(self, holds: Callable[[], bool]) -> None:
        last = time.monotonic() + 120
        while not holds():
            assert self._program is not None
            assert self._program.poll() is None, self._errors(self._program)
            assert time.monotonic() < last
            time.sleep(0.01)

    def _errors(self, program: warm_programs.Program) -> str:
        """Of one that has ended, or is about to."""
        self._listening.join()
        return program.communicate(60)[1]

    def go_on(self) -> None:
        """Wait until it has made a turn that began from now on."""
        turns = len(self._said) + 2
        self.until(lambda: len(self._said) >= turns)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._program is None:
            return
        program, self._program = self._program, None
        program.send_signal(how)
        errors = self._errors(program)
        if how is signal.SIGKILL:
            return
        assert program.returncode == 0, errors
        self.outcomes |= {outcome for turn in self._said for outcome in turn["found"]}
        self.kids += [turn["kid"] for turn in self._said]
        self.added += self._said[-1]["added"]


class Fleet:
    """Two writers, one store, and the commands that whoever moves the keys gives."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        self.writers = [Writer(number, file) for number in range(2)]

    def roll_out(self, *places: str) -> str:
        """One process after the other is started anew, and the other one writes. Gives the kid that they seal with."""
        for writer in self.writers:
            writer.stop()
            writer.start({**self.environment, "SESSION_KEY_PLACES": " ".join(places)})
        kids = {writer._said[-1]["kid"] for writer in self.writers}
        assert len(kids) == 1
        return str(kids.pop())

    def command(self, *words: str) -> str:
        """What a command prints. The writers write before and after it."""
        done = warm_programs.run_command(*words, env=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        for writer in self.writers:
            if writer._program is not None:
                writer.go_on()
        return " ".join(done.stdout.split())

    def move_rows(self, new: str, old: str, kid: str, to: str) -> None:
        """As the page has it for those who do not wait, and who share the store."""
        places = ("env:SESSIONS_URL", "--keys", new, "--keys", old)
        dry = self.command("reencrypt", *places, "--kid", kid)
        assert f"{kid} would be sealed again under {to}" in dry
        self.command("reencrypt", *places, "--kid", kid, "--yes")
        self.command("inventory", *places, "--require-free", kid)


@pytest.fixture
def fleet(place: Any, transit: Any, tmp_path: Path) -> Iterator[Fleet]:
    secret = f'path "secret/data/{place.path}" {{ capabilities = ["read"] }}'
    environment = {
        **os.environ,
        "VAULT_ADDR": place.server.url,
        "VAULT_TOKEN": transit.token(transit.rule("datakey/plaintext"), transit.rule("decrypt"), secret),
        "SESSIONS_URL": f"sqlite:///{tmp_path}/agents.db",
        "SESSION_KEYS": Key.generate("2026-05").reveal_base64(),
    }
    made = Fleet(tmp_path / "agents.db", environment)
    yield made
    for writer in made.writers:
        writer.stop(signal.SIGKILL)


def rows_of(file: Path, session_id: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT id, message_data, created_at FROM agent_messages WHERE session_id = ? ORDER BY id"
        return connection.execute(query, (session_id,)).fetchall()


@pytest.mark.long
async def test_two_moves_by_commands_leave_nothing_unreadable_and_another_tenant_untouched(
    fleet: Fleet, place: Any, transit: Any, tmp_path: Path
) -> None:
    file, env = tmp_path / "agents.db", "env:SESSION_KEYS"
    async with KeyRing.ephemeral() as other:
        theirs = EncryptedSession.wrap(SQLiteSession("theirs/team", file), other, ttl=None)
        await theirs.add_items([{"role": "user", "content": str(number)} for number in range(3)])
        theirs.underlying_session.close()
    before = rows_of(file, "theirs/team")
    of_env = fleet.roll_out(env)

    keyset = f"vault-transit:agents?mount={transit.mount}&keyset=file:{tmp_path}/keyset.json"
    fleet.command("keys", "create", keyset, "--key-name", "first")
    fleet.command("doctor", keyset)
    assert fleet.roll_out(env, keyset) == of_env
    of_keyset = fleet.roll_out(keyset, env)
    fleet.move_rows(keyset, env, of_env, of_keyset)
    assert fleet.roll_out(keyset) == of_keyset
    del fleet.environment["SESSION_KEYS"]

    vault = f"vault-kv:secret/{place.path}"
    place.write()
    fleet.command("doctor", vault)
    assert fleet.roll_out(keyset, vault) == of_keyset
    of_vault = fleet.roll_out(vault, keyset)
    fleet.move_rows(vault, keyset, of_keyset, of_vault)
    assert fleet.roll_out(vault) == of_vault
    (tmp_path / "keyset.json").unlink()
    fleet.command("verify", "env:SESSIONS_URL", "--keys", vault, "--session-prefix", "ours/")

    for writer in fleet.writers:
        writer.stop()
        assert writer.outcomes == {"ok"}
        assert list(dict.fromkeys(writer.kids)) == [of_env, of_keyset, of_vault]
    assert rows_of(file, "theirs/team") == before
    ours = [row for name in ("0", "1", "team") for row in rows_of(file, f"ours/{name}")]
    assert len(ours) == sum(writer.added for writer in fleet.writers)
    assert {json.loads(data)["kid"] for _, data, _ in ours} == {of_vault}

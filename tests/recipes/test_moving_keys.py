"""The runbook of docs/moving-keys.md: its steps, in its words, under agents that run."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, SQLiteSession
from agents.testing import ModelStep, ScriptedModel, assistant_message
from typer.testing import CliRunner

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.cli import application
from encrypted_sessions_tests.aws_servers import REGION, FaultProxy, client_of, moto_server
from encrypted_sessions_tests.documents import ROOT, blocks
from encrypted_sessions_tests.scripted_vault import ScriptedVault

PAGE = ROOT / "docs" / "moving-keys.md"
WITHOUT_WAITING = "Without waiting"
STEPS = 6
PROCESSES = 3
TURNS = 2


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that the runbook takes for granted: a variable with a key, a Vault with a secret, a KMS key."""
    for name in os.environ:
        if name.startswith(("AWS_", "VAULT_", "BAO_")):
            monkeypatch.delenv(name)
    vault = ScriptedVault()
    vault.has_key(Key.generate())
    vault.on(
        "GET",
        "/v1/secret/data/agents/session-key?version=1",
        *vault.routes["GET", "/v1/secret/data/agents/session-key"],
    )
    try:
        with moto_server() as address:
            client = client_of("kms", address)
            arn = client.create_key()["KeyMetadata"]["Arn"]
            # moto's memory is that of the test process.
            known = {alias["AliasName"] for alias in client.list_aliases()["Aliases"]}
            (client.update_alias if "alias/agents" in known else client.create_alias)(
                AliasName="alias/agents", TargetKeyId=arn
            )
            client.close()
            proxy = FaultProxy(address)
            settings = {
                "SESSIONS_URL": f"sqlite:///{tmp_path}/agents.db",
                "SESSION_KEYS": Key.generate().reveal_base64(),
                "VAULT_ADDR": vault.url,
                "VAULT_TOKEN": "TOKEN",
                "AWS_ENDPOINT_URL_KMS": proxy.url,
                "AWS_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "x",
            }
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            yield
            proxy.close()
    finally:
        vault.close()


def commands_of_each_step(folder: Path) -> list[list[str]]:
    """The lines of the page's shell blocks, step by step, with files that a test can write."""
    source = PAGE.read_text(encoding="utf-8").replace("/etc/agents/", f"{folder}/")
    steps = re.split(r"^## Step \d.*$", source.partition(f"\n## {WITHOUT_WAITING}\n")[0], flags=re.MULTILINE)[1:]
    return [lines_of(step) for step in steps]


def lines_of(part: str) -> list[str]:
    """The lines of the shell blocks of a part of the page."""
    found = re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.splitlines()]


def opener() -> Callable[[], KeyRing]:
    """The page's own function that opens a ring."""
    code = blocks(PAGE, "python")[0].text.partition("\nkeys = ")[0]
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # noqa: S102 - the project's own page
    found: Callable[[], KeyRing] = namespace["open_ring"]
    return found


class Process:
    """One process of the fleet: a ring as the variable said when it started, and agents that talk all the time."""

    def __init__(self, number: int, open_ring: Callable[[], KeyRing], database: Path) -> None:
        self.number = number
        self.open_ring = open_ring
        self.database = database
        self.outcomes: Counter[str] = Counter()
        self.kids: set[str] = set()
        self.turns = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._stop.clear()
        before = self.turns
        self._task = asyncio.create_task(self._talk(self.open_ring()))
        while self.turns < before + TURNS:
            assert not self._task.done() or self._task.result()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task

    async def _talk(self, ring: KeyRing) -> None:
        step = ModelStep.respond(lambda call: [assistant_message(f"I know {len(call.input)} items.")])
        own, team = SQLiteSession(f"user-{self.number}", self.database), SQLiteSession("team", self.database)
        with closing(own), closing(team):
            await self._take_turns(ring, step, own, team)

    async def _take_turns(self, ring: KeyRing, step: ModelStep, own: SQLiteSession, team: SQLiteSession) -> None:
        async with ring:
            mine, ours = (EncryptedSession.wrap(bare, ring, ttl=86_400) for bare in (own, team))
            while not self._stop.is_set():
                agent = Agent(name="helper", model=ScriptedModel([step]))  # it copies each step that it is given
                await Runner.run(agent, f"turn {self.turns}", session=mine)
                await ours.add_items([{"role": "user", "content": f"from {self.number}"}])
                for session in (mine, ours):
                    self.outcomes.update((await session.read()).outcomes)
                self.kids.add((await ring.active()).kid)
                self.turns += 1
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(fleet: list[Process]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for process in fleet:
            await process.stop()


async def roll_out(fleet: list[Process]) -> None:
    """One process after the other stops and starts with what the variable says now; the others go on."""
    for process in fleet:
        await process.stop()
        await process.start()


async def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        monkeypatch.setenv(name, value)
        return
    assert words[0] == "encrypted-sessions"
    done = await asyncio.to_thread(CliRunner().invoke, application(), words[1:])
    assert done.exit_code == 0, done.output


@pytest.mark.long
async def test_the_runbook_leads_from_a_variable_to_vault_to_kms_without_an_unreadable_item(
    places: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = commands_of_each_step(tmp_path)
    assert len(steps) == STEPS
    open_ring = opener()
    monkeypatch.delenv("SESSION_KEY_PLACES", raising=False)
    fleet = [Process(number, open_ring, tmp_path / "agents.db") for number in range(PROCESSES)]
    written_with = []
    for number, lines in enumerate(steps):
        for line in lines:
            await run(line, monkeypatch)
        if number == STEPS - 1:
            break
        if number == 0:
            for process in fleet:
                await process.start()
            continue
        await roll_out(fleet)
        written_with.append({kid for process in fleet for kid in process.kids})
        for process in fleet:
            process.kids.clear()
    async with running(fleet):
        pass

    total = sum((process.outcomes for process in fleet), Counter())
    assert set(total) == {"ok"}, total
    assert all(process.turns >= STEPS * TURNS - TURNS for process in fleet)
    names = [{kid.partition("~")[0] for kid in kids} for kids in written_with]
    assert names[0] == {""}
    assert names[1] == {"", "1"}
    assert names[2] == {"1"}
    (of_keyset,) = names[3] - {"1"}
    assert of_keyset not in {"", "1"}

    # Step 5, when what the old places sealed has expired: what was written since needs the keyset alone.
    async with open_ring() as ring:
        session = EncryptedSession.wrap(SQLiteSession("later", tmp_path / "agents.db"), ring, ttl=86_400)
        await session.add_items([{"role": "user", "content": "after the move"}])
        assert (await session.read()).outcomes == {"ok": 1}
        assert [key.partition("~")[0] for key in ring.health().held] == [of_keyset]
        old = EncryptedSession.wrap(SQLiteSession("team", tmp_path / "agents.db"), ring, ttl=86_400)
        left = (await old.read()).outcomes
        assert left["ok"] > 0
        assert left["unknown_key"] > 0
        for one in (session, old):
            one.underlying_session.close()


async def test_with_commands_the_rows_move_while_agents_write_and_another_tenants_stay(
    places: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's part for those who do not wait, with kids instead of --all-sessions: two tenants share the store."""
    steps = commands_of_each_step(tmp_path)
    open_ring = opener()
    monkeypatch.delenv("SESSION_KEY_PLACES", raising=False)
    process = Process(0, open_ring, tmp_path / "agents.db")
    other = KeyRing.ephemeral()
    theirs = EncryptedSession.wrap(SQLiteSession("their-team", tmp_path / "agents.db"), other, ttl=None)
    await theirs.add_items([{"role": "user", "content": "not yours"}])
    wrote: set[str] = set()
    for number, lines in enumerate(steps[:-1]):
        for line in lines:
            if " doctor " not in line:  # the other test runs it
                await run(line, monkeypatch)
        if number % 2 == 0:  # another place is the first one
            if process.turns:
                await process.stop()
            await process.start()
            wrote |= process.kids
    async with running([process]):
        page = PAGE.read_text(encoding="utf-8").replace("/etc/agents/", f"{tmp_path}/")
        lines = lines_of(page.partition(f"\n## {WITHOUT_WAITING}\n")[2])
        kids = " ".join(f"--kid {kid}" for kid in sorted(wrote))
        assert [line.count("--all-sessions") for line in lines] == [0, 1, 1, 0, 0]
        for line in lines:
            extra = f" {kids}" if " verify " in line else ""
            await run(line.replace("--all-sessions", kids) + extra, monkeypatch)
    assert (len(wrote), set(process.outcomes)) == (3, {"ok"})
    assert (await theirs.read()).outcomes == {"ok": 1}

    await run(steps[-1][-1], monkeypatch)
    async with open_ring() as ring:
        for name in ("team", "user-0"):
            session = EncryptedSession.wrap(SQLiteSession(name, tmp_path / "agents.db"), ring, ttl=86_400)
            assert set((await session.read()).outcomes) == {"ok"}, "the old places are not needed any more"
            session.underlying_session.close()
    theirs.underlying_session.close()
    other.close()


async def test_going_ahead_of_the_others_loses_nothing(
    places: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row of the page's table: step 2 while another process is at step 0."""
    steps = commands_of_each_step(tmp_path)
    open_ring = opener()
    stores = [SQLiteSession("team", tmp_path / "agents.db") for _ in range(2)]
    await run(steps[0][-1], monkeypatch)
    async with open_ring() as behind:
        await run(steps[2][-1], monkeypatch)
        async with open_ring() as ahead:
            for ring, store, text in ((behind, stores[0], "a"), (ahead, stores[1], "b")):
                session = EncryptedSession.wrap(store, ring, ttl=86_400)
                await session.add_items([{"role": "user", "content": text}])
            late = EncryptedSession.wrap(stores[0], behind, ttl=86_400)
            assert (await late.read()).outcomes == {"ok": 1, "unknown_key": 1}
    await run(steps[1][-1], monkeypatch)
    async with open_ring() as ring:
        assert (await EncryptedSession.wrap(stores[0], ring, ttl=86_400).read()).outcomes == {"ok": 2}
    for store in stores:
        store.close()

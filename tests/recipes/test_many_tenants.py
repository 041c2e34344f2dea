"""The recipe "many tenants" of docs/recipes.md: twenty tenants, one of them down, one denied, and no other notices."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from agents import Agent
from agents.testing import ModelStep, ScriptedModel, assistant_message

from encrypted_sessions import Key
from encrypted_sessions_tests.documents import ROOT
from encrypted_sessions_tests.scripted_vault import Reply, ScriptedVault

TENANTS = [f"tenant-{number}" for number in range(20)]
DOWN, DENIED, *WELL = TENANTS


def recipe() -> str:
    source = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    found = re.search(r"^## Many tenants\n.*?^```python\n(.*?)^```$", source, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ScriptedVault, threading.Event]]:
    """A Vault with a key for each tenant, where one path hangs until it is told, and one is denied."""
    vault, back = ScriptedVault(), threading.Event()
    for tenant in TENANTS:
        vault.has_key(Key.generate(), path=f"secret/data/tenants/{tenant}/session-key")
    path = f"/v1/secret/data/tenants/{DOWN}/session-key"
    vault.on("GET", path, Reply(503, {"errors": ["sealed"]}, waits=back))
    vault.on("GET", f"/v1/secret/data/tenants/{DENIED}/session-key", Reply(403, {"errors": ["permission denied"]}))
    monkeypatch.setenv("VAULT_ADDR", vault.url)
    monkeypatch.setenv("VAULT_TOKEN", "TOKEN")
    yield vault, back
    back.set()
    vault.close()


@contextmanager
def served() -> Iterator[int]:
    """The port of the recipe's application, which has an agent and a way to check tokens."""
    steps = [ModelStep.respond(lambda call: [assistant_message(f"I know {len(call.input)} items.")])] * 100
    code: dict[str, Any] = {
        "__name__": "recipe",
        "agent": Agent(name="helper", model=ScriptedModel(steps)),
        "verify": lambda token: {"tenant": token, "sub": "ada"},
    }
    exec(compile(recipe(), "recipes.md", "exec"), code)  # noqa: S102 - the project's own page
    server = uvicorn.Server(uvicorn.Config(code["app"], port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)


def ask(port: int, method: str, path: str, tenant: str) -> tuple[int, Any, str | None]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, "hello", {"Authorization": f"Bearer {tenant}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers["Retry-After"]
    finally:
        connection.close()


def test_of_twenty_tenants_one_is_down_and_one_denied_and_no_other_notices(
    vault: tuple[ScriptedVault, threading.Event],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    script, back = vault
    later = {"error": "try again later"}
    with served() as port, ThreadPoolExecutor(1) as waiting:
        began = time.monotonic()
        down = waiting.submit(ask, port, "POST", "/chat", DOWN)
        assert ask(port, "POST", "/chat", DENIED) == (503, later, "30")
        for turn in (1, 2):
            for tenant in WELL:
                items = {"answer": f"I know {2 * turn - 1} items.", "items": 2 * turn}
                assert ask(port, "POST", "/chat", tenant) == (200, items, None)
        # None of them waited: whoever is down was given up only after 8 s.
        assert not down.done() or time.monotonic() - began > 8
        back.set()
        assert down.result(30) == (503, later, "30")
        assert ask(port, "POST", "/chat", "../other")[0] == 503
        # When it is back, the next request is answered; and the others are not asked anew.
        script.has_key(Key.generate(), path=f"secret/data/tenants/{DOWN}/session-key")
        assert ask(port, "POST", "/chat", DOWN)[0] == 200
        states = ask(port, "GET", "/tenants", "-")[1]
    assert states == {**dict.fromkeys(TENANTS, "ok"), DENIED: "down"}
    for tenant in WELL:
        assert len([path for path in script.paths() if f"/{tenant}/" in path]) == 1
    told = {getattr(record, "ring", None) for record in caplog.records if record.levelno >= logging.WARNING}
    assert told == {DOWN, DENIED}

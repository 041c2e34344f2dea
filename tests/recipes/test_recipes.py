"""The recipes of docs/recipes.md, in the processes that they are about.

What can be seen in one process is checked by tests/docs, which runs every block of the page.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from documents import ROOT
from encrypted_sessions import EncryptedSession, Key, KeyRing
from keyproviders import RetryPolicy
from stores import PlainSession

PAGE = ROOT / "docs" / "recipes.md"

#: What the page leaves to its reader: an agent. It answers without a network.
AN_AGENT = """
import agents
from agents.testing import ModelStep, ScriptedModel, assistant_message

agents.set_tracing_disabled(True)
steps = [ModelStep.respond(lambda call: [assistant_message(f"I know {len(call.input)} items.")])] * 50
agent = agents.Agent(name="helper", model=ScriptedModel(steps))
"""


def recipe(heading: str) -> str:
    """The first Python block under a heading of the page."""
    source = PAGE.read_text(encoding="utf-8")
    after = source.partition(f"\n## {heading}\n")[2]
    found = re.search(r"^```python\n(.*?)^```$", after, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no recipe {heading!r}"
    return found[1]


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SESSION_KEYS": Key.generate("2026-11").reveal_base64(),
        **more,
    }


def run(folder: Path, program: str, **more: str) -> list[str]:
    """The lines that a program prints, in a process of its own, in that folder."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment(**more),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


# -- A web application ------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, **more: str) -> Iterator[int]:
    """The port of the recipe's application, served by uvicorn."""
    (folder / "web.py").write_text(AN_AGENT + recipe("A web application"), encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "--port", "0", "--no-access-log", "web:app"]
    with subprocess.Popen(command, env=environment(**more), cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield port_of(server)
        finally:
            server.terminate()
            server.communicate(timeout=60)


def port_of(server: subprocess.Popen[str]) -> int:
    assert server.stderr is not None
    log = []
    for line in server.stderr:
        log.append(line)
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", line)
        if found:
            return int(found[1])
    raise AssertionError("".join(log))


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_web_application_has_one_ring_and_a_session_for_each_request(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        assert ask(port, "GET", "/ready") == (200, {"can_write": True})
        assert ask(port, "POST", "/chat/ada", "hello") == (200, {"answer": "I know 1 items.", "items": 2})
        assert ask(port, "POST", "/chat/ada", "again") == (200, {"answer": "I know 3 items.", "items": 4})
        assert ask(port, "POST", "/chat/bob", "hello") == (200, {"answer": "I know 1 items.", "items": 2})
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("web.db*"))
    assert b"__enc__" in stored
    assert b"I know" not in stored


def test_a_web_application_without_keys_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="InvalidKeyError"), served(tmp_path, SESSION_KEYS="no key"):
        pass


# -- Servers that fork ------------------------------------------------------------------------------

#: What gunicorn with --preload and Celery's prefork pool do: load the module, then fork.
A_FORKING_SERVER = """
import os, sys, traceback
from recipe import KEYS, task

if "used before" in sys.argv:
    KEYS.active_sync()
children = []
for number in range(3):
    # One after the other: what is shown is the ring, not a store under load.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = [task(f"user-{number}", "hello") for _ in range(2)]
            os.write(writing, f"{answers} {KEYS.health().counts['calls']}".encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading) as told:
        print(told.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(task("parent", "hello"))
KEYS.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("used", ["used before", "made before"])
def test_a_ring_goes_through_the_fork_of_a_server_that_preloads(used: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(AN_AGENT + recipe("Servers that fork"), encoding="utf-8")
    lines = run(tmp_path, f"import sys; sys.argv.append({used!r}); sys.path.insert(0, '.')\n{A_FORKING_SERVER}")
    # A child of a parent that held the key need not ask; one of a parent that did not asks once.
    calls = 0 if used == "used before" else 1
    assert lines[:3] == [f"['I know 1 items.', 'I know 3 items.'] {calls}"] * 3
    assert lines[3:] == ["I know 1 items."]


# -- AWS Lambda -------------------------------------------------------------------------------------


def test_a_handler_may_run_an_event_loop_for_each_invocation(tmp_path: Path) -> None:
    block = recipe("AWS Lambda")
    program = AN_AGENT + block[: block.index("for _ in range(3)")]
    program += "\nfor n in range(5): print(handler({'user': 'u', 'text': 'hi'}, None)['answer'])\n"
    program += "print(KEYS.health().counts['calls'])\n"
    assert run(tmp_path, program) == [f"I know {2 * n + 1} items." for n in range(5)] + ["1"]


# -- A notebook -------------------------------------------------------------------------------------


def test_a_ring_serves_loops_within_and_after_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_KEYS", Key.generate().reveal_base64())
    ring = KeyRing.from_url("env:SESSION_KEYS")
    session = EncryptedSession.wrap(PlainSession("a", []), ring, ttl=None)
    found: list[int] = []

    async def add_and_count() -> int:
        await session.add_items([{"role": "user", "content": "hi"}])
        return len(await session.get_items())

    async def with_another_loop_in_a_thread() -> None:
        thread = threading.Thread(target=lambda: found.append(asyncio.run(add_and_count())))
        found.append(await add_and_count())
        thread.start()
        await asyncio.to_thread(thread.join)
        found.append(await add_and_count())

    for _ in range(2):
        asyncio.run(with_another_loop_in_a_thread())
    assert found == [1, 2, 3, 4, 5, 6]
    ring.close()


# -- A Kubernetes secret ----------------------------------------------------------------------------


class Mount:
    """A secret as Kubernetes mounts it: files are links through ``..data``, which is swapped in one move."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = 0
        path.mkdir()

    def update(self, entries: dict[str, str]) -> None:
        self._version += 1
        folder = self.path / f"..version_{self._version}"
        folder.mkdir()
        for name, content in entries.items():
            (folder / name).write_text(content, encoding="ascii")
        swap = self.path / "..data_tmp"
        swap.symlink_to(folder.name)
        swap.replace(self.path / "..data")
        for name in entries:
            link = self.path / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
async def test_a_mounted_secret_is_rotated_under_a_running_process(tmp_path: Path) -> None:
    old, new = Key.generate("2026-05"), Key.generate("2026-11")
    first = {"ACTIVE": "2026-05\n", "2026-05": old.reveal_base64()}
    mount = Mount(tmp_path / "session-keys")
    mount.update(first)
    url = re.findall(r'value: "(file:)/etc/session-keys"', PAGE.read_text(encoding="utf-8"))[0] + str(mount.path)
    store = PlainSession("a", [])
    async with KeyRing.from_url(url) as ring:
        session = EncryptedSession.wrap(store, ring, ttl=600)
        for entries in (
            first,
            {**first, "2026-11": new.reveal_base64()},
            {**first, "2026-11": new.reveal_base64(), "ACTIVE": "2026-11"},
        ):
            mount.update(entries)
            await ring.refresh()
            await session.add_items([{"role": "user", "content": "hi"}])
        assert len(await session.get_items()) == 3
    assert [row["kid"] for row in await store.get_items()] == [old.kid, old.kid, new.kid]


# -- A Vault agent sidecar --------------------------------------------------------------------------


def test_a_file_that_is_rendered_late_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "session-keys"
    key = Key.generate("2026-11")
    # The file is there once the ring has asked for it twice.
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            path.write_text(f"# rendered\n2026-11={key.reveal_base64()}\n", encoding="ascii")
            path.chmod(0o400)

    ring = KeyRing.from_url(f"file:{path}", sleep=wait)
    assert ring.active_sync() == key
    assert len(waited) == 2
    ring.close()


async def test_a_file_that_is_rendered_badly_is_no_outage(tmp_path: Path) -> None:
    path = tmp_path / "session-keys"
    old, new = Key.generate("a"), Key.generate("b")
    path.write_text(f"a={old.reveal_base64()}\n", encoding="ascii")
    path.chmod(0o600)
    store = PlainSession("a", [])
    retry = RetryPolicy(attempts=1, deadline_s=5.0)
    async with KeyRing.from_url(f"file:{path}", retry=retry) as ring:
        session = EncryptedSession.wrap(store, ring, ttl=600)
        for content in ("", f"b={new.reveal_base64()[:20]}", "<no value>"):
            path.write_text(content, encoding="ascii")
            with pytest.raises(ValueError, match=r"is empty|is no key"):
                await ring.refresh()
            await session.add_items([{"role": "user", "content": "sealed all the same"}])
        path.write_text(f"b={new.reveal_base64()}\na={old.reveal_base64()}\n", encoding="ascii")
        await ring.refresh()
        await session.add_items([{"role": "user", "content": "with the new one"}])
        assert len(await session.get_items()) == 4
    assert [row["kid"] for row in await store.get_items()] == [old.kid] * 3 + [new.kid]

"""The recipes of docs/recipes.md, in the processes that they are about.

What can be seen in one process is checked by tests/docs, which runs every block of the page.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions_tests.documents import ROOT, blocks
from encrypted_sessions_tests.soak import with_full
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import RetryPolicy

PAGE = ROOT / "docs" / "recipes.md"

#: What the page leaves to its reader: an agent. It answers without a network.
AN_AGENT = """
import agents
from agents.testing import ModelStep, ScriptedModel, assistant_message

agents.set_tracing_disabled(True)
steps = [ModelStep.respond(lambda call: [assistant_message(f"I know {len(call.input)} items.")])] * 50
agent = agents.Agent(name="helper", model=ScriptedModel(steps))
"""


def blocks_under(heading: str) -> list[str]:
    """The Python blocks under a heading of the page."""
    source = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(r"^```python\n(.*?)^```$", source, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no recipe {heading!r}"
    return found


def recipe(heading: str) -> str:
    """The first Python block under a heading of the page."""
    return blocks_under(heading)[0]


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
        status, told = ask(port, "GET", "/ready")
        assert (status, told["state"]) == (200, "ok")
        assert ask(port, "GET", "/live") == (200, {"live": True})
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

#: Its answers tell in which process the module was loaded, and in which it was asked. They are given only when
#: two processes are asked at the same time: the server has both of its children at work.
AN_AGENT_IN_TWO_PROCESSES = """
import os, time
from pathlib import Path
import agents
from agents.testing import ModelStep, ScriptedModel, assistant_message

agents.set_tracing_disabled(True)
LOADED_IN = os.getpid()

def tell(call):
    Path(f"{os.getpid()}.asked").touch()
    last = time.monotonic() + 15
    while len(list(Path().glob("*.asked"))) < 2:
        if time.monotonic() > last:
            raise TimeoutError("no second process was asked")
        time.sleep(0.01)
    return [assistant_message(f"{LOADED_IN} {os.getpid()} {calls_of_the_ring()}")]

def calls_of_the_ring():
    ring = globals().get("KEYS")
    return ring.health().counts["calls"] if ring else "-"

agent = agents.Agent(name="helper", model=ScriptedModel([ModelStep.respond(tell)] * 50))
"""

#: Celery warns whoever runs it as root, which may be the one who runs the tests; and its way of storing a result
#: is one that the Redis client calls deprecated.
NOT_OURS = ["-W", "ignore:You're running the worker with superuser", "-W", "ignore:Call to deprecated setex"]

#: A line for the end of the module: with it, the ring holds a key when the server forks.
USED_BEFORE = "\nKEYS.active_sync()\n"


@contextmanager
def running(folder: Path, *module_and_options: str, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A Python program that serves, and its log. It ends in good order, warns of nothing, and leaves no process."""
    log = folder / "log"
    command = [sys.executable, "-W", "error", *NOT_OURS, "-m", *module_and_options]
    with log.open("wb") as file:
        program = subprocess.Popen(
            command, env=environment(**more), cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    family: list[psutil.Process] = []
    try:
        yield program, log
        family = psutil.Process(program.pid).children(recursive=True)
    finally:
        end(program)
    written = log.read_text(encoding="utf-8")
    assert program.returncode == 0, written
    assert not re.search("Traceback|Warning", written), written
    assert len(family) >= 2
    assert not [process for process in family if process.is_running()], written


def end(program: subprocess.Popen[bytes]) -> None:
    """End it as its init system would; if it does not follow within 20 s, end it and its children hard."""
    if program.poll() is not None:
        return
    family = psutil.Process(program.pid).children(recursive=True)
    program.terminate()
    try:
        program.wait(20)
    except subprocess.TimeoutExpired:
        program.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        program.wait()


def until(found: Callable[[], Any], program: subprocess.Popen[bytes], log: Path) -> Any:
    """What `found` gives as soon as it gives something."""
    for _ in range(6_000):
        if answer := found():
            return answer
        if program.poll() is not None:
            break
        time.sleep(0.01)
    raise AssertionError(log.read_text(encoding="utf-8"))


def shown(program: str) -> list[str]:
    """The command of the page that starts a program."""
    commands = [shlex.split(block.text) for block in blocks(PAGE, "sh")]
    return next(words for words in commands if words[0] == program)


def write_module(folder: Path, *parts: str) -> None:
    (folder / "recipe.py").write_text("\n".join([AN_AGENT_IN_TWO_PROCESSES, *parts]), encoding="utf-8")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
#: What became of a child's ring before the fork. Each server has one case in every run.
made_before = pytest.mark.parametrize("use", with_full(["made before"], ["used before"]))
used_before = pytest.mark.parametrize("use", with_full(["used before"], ["made before"]))

#: What stands at the end of the module then, and how often the ring of a child asks for a key.
ENDINGS = {"made before": ("", "1"), "used before": (USED_BEFORE, "0")}


def ask_two_workers_of_gunicorn(folder: Path, path: str) -> tuple[int, list[list[str]]]:
    """The process that gunicorn is, and the words that each of its two workers answers."""
    # Any free port; and no file in the home folder.
    options = ["--bind", "127.0.0.1:0", "--no-control-socket"]
    with running(folder, *shown("gunicorn"), *options) as (gunicorn, log), ThreadPoolExecutor(2) as threads:
        log_says = partial(re.search, r"Listening at: http://127\.0\.0\.1:(\d+)")
        port = int(until(lambda: log_says(log.read_text(encoding="utf-8")), gunicorn, log)[1])
        first = threads.submit(ask, port, "POST", f"{path}/ada", "hello")
        # Whoever took the first question is busy with it: the second one goes to the other worker.
        until(lambda: list(folder.glob("*.asked")), gunicorn, log)
        second = threads.submit(ask, port, "POST", f"{path}/bob", "hello")
        answers = [question.result(timeout=20) for question in (first, second)]
        return gunicorn.pid, [str(body["answer"]).split() for _, body in answers]


@pytest.mark.long
@forks
@made_before
def test_a_ring_goes_through_the_fork_of_gunicorn(use: str, tmp_path: Path) -> None:
    ending, calls = ENDINGS[use]
    ring, _, web = blocks_under("Servers that fork")
    write_module(tmp_path, ring, web, ending)
    parent, answers = ask_two_workers_of_gunicorn(tmp_path, "/answer")
    assert [answer[0] for answer in answers] == [str(parent)] * 2
    assert len({str(parent), *(answer[1] for answer in answers)}) == 3
    assert [answer[2] for answer in answers] == [calls] * 2


@forks
def test_each_worker_of_gunicorn_has_the_ring_of_its_lifespan(tmp_path: Path) -> None:
    write_module(tmp_path, recipe("A web application"))
    parent, answers = ask_two_workers_of_gunicorn(tmp_path, "/chat")
    assert [answer[0] for answer in answers] == [str(parent)] * 2
    assert len({str(parent), *(answer[1] for answer in answers)}) == 3


@pytest.mark.long
@forks
@used_before
@pytest.mark.private_servers
def test_a_ring_goes_through_the_fork_of_celery(use: str, tmp_path: Path, redis_url: str) -> None:
    ending, calls = ENDINGS[use]
    ring, celery, _ = blocks_under("Servers that fork")
    write_module(tmp_path, ring, celery, ending)
    # A database of its own, that is empty again afterwards.
    url = redis_url.removesuffix("/0") + "/9"
    where = {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
    ask_both = """
import sys; sys.path.insert(0, '.')
from recipe import answer
for asked in [answer.delay(user, "hello") for user in ("ada", "bob")]:
    print(asked.get(timeout=20))
"""
    try:
        with running(tmp_path, *shown("celery"), "--concurrency", "2", **where) as (worker, _):
            answers = [line.split() for line in run(tmp_path, ask_both, **where)]
    finally:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    assert [answer[0] for answer in answers] == [str(worker.pid)] * 2
    assert len({str(worker.pid), *(answer[1] for answer in answers)}) == 3
    assert [answer[2] for answer in answers] == [calls] * 2


#: A server whose parent goes on to use the ring after it has forked. gunicorn's and Celery's only wait.
A_FORKING_SERVER = """
import asyncio, os, sys, traceback
from recipe import KEYS, turn

def task(user, text):
    return asyncio.run(turn(user, text))

if "used before" in sys.argv:
    KEYS.active_sync()
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


@forks
@pytest.mark.parametrize("used", ["used before", "made before"])
def test_parent_and_children_of_a_fork_both_work(used: str, tmp_path: Path) -> None:
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
            (folder / name).chmod(0o600)  # there it would be mounted read-only
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
            with pytest.raises(ValueError, match=r"is empty|is not a key"):
                await ring.refresh()
            await session.add_items([{"role": "user", "content": "sealed all the same"}])
        path.write_text(f"b={new.reveal_base64()}\na={old.reveal_base64()}\n", encoding="ascii")
        await ring.refresh()
        await session.add_items([{"role": "user", "content": "with the new one"}])
        assert len(await session.get_items()) == 4
    assert [row["kid"] for row in await store.get_items()] == [old.kid] * 3 + [new.kid]

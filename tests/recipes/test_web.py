"""The recipe "a web application" of docs/recipes.md while its keys and its database are taken away, as a program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from encrypted_sessions import Key, KeyRing
from encrypted_sessions_tests.openbao import OpenBaoServer
from encrypted_sessions_tests.servers import PostgresServer
from keyproviders import RetryPolicy
from keyproviders.testing import FakeKeyProvider

from .test_recipes import AN_AGENT, environment, port_of, recipe

#: The application with the times of a short day.
SERVED = """
import uvicorn
from encrypted_sessions import KeyRing
from keyproviders import CachePolicy, RetryPolicy

opened = KeyRing.from_url
day = CachePolicy(fresh_s=1, stale_write_s=3, stale_read_s=6)
KeyRing.from_url = lambda url: opened(url, cache=day, retry=RetryPolicy(attempts=1))

import web

uvicorn.run(web.app, port=0, log_config=None)
"""

LATER = (503, {"error": "try again later"}, "30")


class Client:
    """What the application answers: the status, the body, and when to come again."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, method: str, path: str) -> tuple[int, Any, str | None]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, "a secret of ours" if method == "POST" else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers["Retry-After"]
        finally:
            connection.close()

    def chat(self, user: str = "ada") -> tuple[int, Any, str | None]:
        return self("POST", f"/chat/{user}")

    def until_ready(self, state: str) -> list[tuple[int, str]]:
        """What `/ready` says until it says that, each once. `/live` says the same all the time."""
        said: list[tuple[int, str]] = []
        last = time.monotonic() + 30
        while not said or said[-1][1] != state:
            assert time.monotonic() < last, said
            status, told, _ = self("GET", "/ready")
            if (status, told["state"]) not in said:
                said.append((status, told["state"]))
            assert self("GET", "/live")[0] == 200
            time.sleep(0.05)
        return said


@contextmanager
def served(folder: Path, log: list[str], **settings: str) -> Iterator[Client]:
    (folder / "web.py").write_text(AN_AGENT + recipe("A web application"), encoding="utf-8")
    command = [sys.executable, "-c", SERVED]
    with subprocess.Popen(
        command, env=environment(**settings), cwd=folder, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield Client(port_of(program))
        finally:
            program.terminate()
            log += program.communicate(timeout=60)[1].splitlines()


async def test_a_process_that_was_idle_is_ready_and_finds_its_key_again() -> None:
    code: dict[str, Any] = {"__name__": "recipe", "agent": None}
    exec(compile(recipe("A web application"), "recipes.md", "exec"), code)  # noqa: S102 - the project's own page
    place, now = FakeKeyProvider(), 0.0
    async with KeyRing(place, retry=RetryPolicy(attempts=1), clock=lambda: now) as ring:
        request = SimpleNamespace(state=SimpleNamespace(keys=ring))

        async def ready() -> tuple[int, str, int]:
            answer = await code["ready"](request)
            return answer.status_code, json.loads(answer.body)["state"], len(place.asked)

        assert await ready() == (200, "ok", 1)
        now = 7 * 3_600.0
        assert await ready() == (200, "read_only", 1)
        now = 30 * 3_600.0
        place.go_down()
        assert await ready() == (503, "down", 2)
        place.come_back()
        assert await ready() == (200, "ok", 3)


def write(bao: OpenBaoServer, key: Key) -> None:
    client = bao.client()
    client.secrets.kv.v2.create_or_update_secret("agents/session-key", {"key": key.reveal_base64()})
    client.adapter.close()


@pytest.mark.long
@pytest.mark.private_servers
def test_a_web_application_answers_in_an_outage_and_goes_on_after_it(
    tmp_path: Path,
    postgres_server: PostgresServer,
    new_server: Callable[..., AbstractContextManager[OpenBaoServer]],
) -> None:
    key, log = Key.generate(), list[str]()
    with new_server(OpenBaoServer) as bao:
        write(bao, key)
        places = {
            "ENCRYPTED_SESSIONS_KEYS": "vault-kv:secret/agents/session-key",
            "VAULT_ADDR": bao.url,
            "VAULT_TOKEN": bao.root_token,
            "DATABASE_URL": postgres_server.url,
        }
        with served(tmp_path, log, **places) as client:
            assert client.until_ready("ok") == [(200, "ok")]
            assert client.chat() == (200, {"answer": "I know 1 items.", "items": 2}, None)

            bao.kill()
            assert client.until_ready("degraded")[-1] == (200, "degraded")
            answered = client.chat()[0] == 200
            assert answered or client("GET", "/ready")[1]["state"] != "degraded"
            assert client.until_ready("read_only")[-1] == (200, "read_only")
            assert client.chat() == LATER
            assert client.until_ready("down")[-1] == (503, "down")
            assert client.chat() == LATER
            bao.start()
            write(bao, key)
            assert client.until_ready("ok")[-1] == (200, "ok")
            status, told, _ = client.chat()
            assert (status, told["items"]) == (200, 6 if answered else 4)

            postgres_server.stop()
            assert client.chat() == LATER
            assert client("GET", "/ready")[0] == 200
            postgres_server.start()
            assert client.chat()[0] == 200

            reference = unreadable(client, postgres_server)
    assert [line for line in log if not re.match(r"\d{4}-\d\d-\d\d [\d:,]+ (INFO|WARNING|ERROR) [\w.]+: ", line)] == []
    assert "secret of ours" not in "".join(log)
    (line,) = (line for line in log if reference in line)
    assert "1 unauthentic" in line
    assert "in session 'ada'" in line


def unreadable(client: Client, postgres: PostgresServer) -> str:
    """The reference that is answered when somebody has altered a row."""
    engine = create_engine(postgres.url.replace("+asyncpg", "+psycopg"))
    altered = text(
        "UPDATE agent_messages SET message_data = replace(message_data, 'gAAAAAB', 'gAAAAAA')"
        " WHERE id = (SELECT max(id) FROM agent_messages)"
    )
    with engine.begin() as connection:
        connection.execute(altered)
    engine.dispose()
    status, told, again = client.chat()
    assert (status, again, told["error"]) == (500, None, "this conversation cannot be read")
    assert sorted(told) == ["error", "reference"]
    return str(told["reference"])

"""`encrypted-sessions keys` as a program, with KMS and a real place for the keyset, and services that only read it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from encrypted_sessions import EncryptedSession
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.soak import with_full
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import (
    KeyAccessDeniedError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
    open_keyset,
)
from keyproviders.keyset import KeysetRefusedError

TABLE = "encrypted_sessions_keysets"
VARIABLE = "DSN_OF_THE_KEYSETS"
PASSWORD = "p@ss/w:rd?"
ITEM = {"role": "user", "content": "hello"}
FIELDS = ["name", "state", "created_at", "activate_at", "kek", "written_until", "retired_at", "destroyed_at"]


class Place:
    """Where the keyset lies, as an operator uses it."""

    def __init__(self, kind: str, kms: Any, dsn: str, folder: Path) -> None:
        self.kind = kind
        self.kms = kms
        self.dsn = dsn
        self.name = f"k{secrets.token_hex(4)}"
        self.file = folder / "keyset.json"

    def url(self, kek: str = "") -> str:
        """Under the KMS key of the test, or another one."""
        where = f"file:{self.file}" if self.kind == "file" else f"sql&dsn_env={VARIABLE}"
        return f"aws-kms:{kek or self.kms.alias}?keyset={where}&keyset_name={self.name}"

    def run(self, *statements: str) -> None:
        url = sqlalchemy.make_url(self.dsn.replace("asyncpg", "psycopg"))
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def reader(self) -> str:
        """The DSN of a user that may SELECT from the table, and nothing else."""
        user = f"u{secrets.token_hex(6)}"
        host = "" if self.kind == "postgresql" else "@'127.0.0.1'"
        made = "LOGIN PASSWORD" if self.kind == "postgresql" else "IDENTIFIED BY"
        role = "ROLE" if self.kind == "postgresql" else "USER"
        self.run(f"CREATE {role} {user}{host} {made} '{PASSWORD}'", f"GRANT SELECT ON {TABLE} TO {user}{host}")
        url = sqlalchemy.make_url(self.dsn).set(username=user, password=PASSWORD)
        return url.render_as_string(hide_password=False)


def make_place(kind: str, request: pytest.FixtureRequest, kms: Any, tmp_path: Path) -> Iterator[Place]:
    dsns = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}
    dsn = request.getfixturevalue(dsns[kind]) if kind in dsns else f"sqlite:///{tmp_path}/keysets.db"
    made = Place(kind, kms, dsn, tmp_path)
    yield made
    if kind in dsns:
        made.run(f"DROP TABLE IF EXISTS {TABLE}")


# tests/keyset shows what a store of keysets does, on each of them.
@pytest.fixture(params=with_full(["file", "postgresql"], ["sqlite", "mariadb"]))
def place(request: pytest.FixtureRequest, kms, tmp_path: Path, proxy, monkeypatch) -> Iterator[Place]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", proxy.url)
    yield from _with_its_variable(make_place(request.param, request, kms, tmp_path), monkeypatch)


@pytest.fixture(params=with_full(["postgresql"], ["mariadb"]))
def server_place(request: pytest.FixtureRequest, kms, tmp_path: Path, proxy, monkeypatch) -> Iterator[Place]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", proxy.url)
    yield from _with_its_variable(make_place(request.param, request, kms, tmp_path), monkeypatch)


def _with_its_variable(places: Iterator[Place], monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for place in places:
        monkeypatch.setenv(VARIABLE, place.dsn)
        monkeypatch.setenv("COLUMNS", "1000")  # a sentence is one line
        yield place


@pytest.fixture
def server(server_place: Place, request: pytest.FixtureRequest) -> Server:
    """The server of `server_place`."""
    made: Server = request.getfixturevalue(
        {"postgresql": "postgres_server", "mariadb": "mariadb_server"}[server_place.kind]
    )
    return made


def keys(*words: str, code: int = 0, **environment: str) -> str:
    """Run `encrypted-sessions keys ...` as a program; what it prints, or its one line of error."""
    return _said(warm_programs.run_command("keys", *words, env={**os.environ, **environment}), code)


def keys_from_the_start(*words: str) -> str:
    """The same, in an interpreter that has imported nothing yet."""
    command = [sys.executable, "-m", warm_programs.COMMAND, "keys", *words]
    return _said(subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL), 0)


def _said(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stdout == ""
        assert re.fullmatch(r"Error: .*\n", done.stderr)
    return done.stderr if code else done.stdout


def listed(url: str, keys: Callable[..., str] = keys) -> dict[str, str]:
    found = json.loads(keys("list", url, "--json"))
    assert list(found)[:2] + list(found)[-1:] == ["keyset", "keyset_id", "keys"]
    assert all(list(key) == FIELDS for key in found["keys"])
    return {key["name"]: key["state"] for key in found["keys"]}


def may_be_retired(list_as_json: str, name: str) -> bool:
    (until,) = (key["written_until"] for key in json.loads(list_as_json)["keys"] if key["name"] == name)
    return until is not None and datetime.fromisoformat(until.replace("Z", "+00:00")) <= datetime.now(timezone.utc)


@pytest.mark.long
def test_a_keyset_goes_through_its_whole_life(place: Place) -> None:
    url = place.url()
    assert "there is no keyset" in keys("list", url, code=2)
    keys("create", url, "--key-name", "first", "--activation-delay", "1")
    assert "already, and nothing was changed" in keys("create", url, code=1)
    key = json.loads(keys("rotate", url, "--key-name", "second", "--json"))["key"]
    assert (list(key), key["state"]) == (FIELDS, "pending")
    assert listed(url)["second"] in {"pending", "active"}
    assert "only a retired key can be destroyed" in keys("destroy", url, "first", "--yes", code=1)

    until = time.monotonic() + 60
    while not may_be_retired(keys("list", url, "--json"), "first"):
        assert time.monotonic() < until
        time.sleep(0.2)
    keys("retire", url, "first")
    assert listed(url) == {"first": "retired", "second": "active"}
    assert keys("restore", url, "first") == "The key first is decrypt-only.\n"
    keys("retire", url, "first")

    other = place.kms.new_key()
    assert keys("rewrap", place.url(other)) == f"Wrapped 2 keys again under {other}.\n"
    assert "copies of the keyset in backups" in keys("destroy", url, "first", "--now", "first", "--yes").lower()
    assert listed(url) == {"first": "destroyed", "second": "active"}
    for refused in ("retire", "restore"):
        word = {"retire": "second", "restore": "first"}[refused]
        assert word in keys(refused, url, word, code=1)
    assert listed(url, keys_from_the_start) == listed(url)


def test_a_change_of_many_programs_at_once_is_made_once(place: Place) -> None:
    started = [
        warm_programs.Program([warm_programs.COMMAND, "keys", "create", place.url(), "--key-name", f"by-{at}"])
        for at in range(4)
    ]
    said = [(*process.communicate(), process.returncode) for process in started]
    assert sorted(code for *_, code in said) == [0, 1, 1, 1], said
    ((made, state),) = listed(place.url()).items()
    assert state == "active"
    assert [made in stdout for stdout, *_ in said].count(True) == 1


def test_a_dsn_with_a_password_is_refused_in_a_url_and_never_shown(server_place: Place) -> None:
    password = sqlalchemy.make_url(server_place.dsn).password
    kek = server_place.kms.alias
    for place in (
        f"keyset={server_place.dsn}",
        f"keyset=sql&dsn={server_place.dsn}",
        f"keyset=sql&dsn_env={server_place.dsn}",
    ):
        said = keys("list", f"aws-kms:{kek}?{place}", code=2)
        assert password is None or str(password) not in said
    url = sqlalchemy.make_url(server_place.dsn).set(username="nobody-there", password=PASSWORD)
    for dsn in (url, url.set(port=1)):
        said = keys("list", server_place.url(), code=4, **{VARIABLE: dsn.render_as_string(hide_password=False)})
        assert PASSWORD not in said
        assert "p%40ss" not in said
    assert f"variable {VARIABLE} is not set or is empty" in keys("list", server_place.url(), code=2, **{VARIABLE: ""})


async def test_a_service_may_only_read_the_table_and_needs_no_more(server_place: Place, monkeypatch) -> None:
    keys("create", server_place.url(), "--key-name", "first")
    keys("rotate", server_place.url(), "--key-name", "second", "--now")
    monkeypatch.setenv(VARIABLE, server_place.reader())
    async with KeyRing.from_url(server_place.url()) as ring:
        assert (await ring.active()).name == "second"
        store = PlainSession("a", [])
        await EncryptedSession.wrap(store, ring, ttl=600).add_items([ITEM])
        assert await EncryptedSession.wrap(store, ring, ttl=600).get_items() == [ITEM]
    with closing(open_keyset(server_place.url())) as manager:
        assert [key.name for key in manager.list().keys] == ["first", "second"]
        for change in (lambda: manager.rotate(now=True), manager.rewrap):
            with pytest.raises(KeyAccessDeniedError, match=TABLE):
                change()
        with pytest.raises(KeysetRefusedError, match="already"):
            manager.create()
    monkeypatch.setenv(VARIABLE, server_place.dsn)
    assert listed(server_place.url()) == {"first": "decrypt-only", "second": "active"}


@pytest.mark.private_servers
async def test_an_outage_of_the_database_ends_nothing(server_place: Place, server: Server) -> None:
    keys("create", server_place.url(), "--key-name", "first")
    async with KeyRing.from_url(server_place.url(), retry=RetryPolicy(attempts=1)) as ring:
        key = await ring.active()
        server.stop()
        with pytest.raises(KeyUnavailableError):
            await ring.refresh()
        assert await ring.active() == await ring.get(key.kid) == key
        cold = KeyRing.from_url(server_place.url(), retry=RetryPolicy(attempts=1))
        with pytest.raises(KeyUnavailableError):
            await cold.active()
        await cold.aclose()
        server.start()
        assert await ring.refresh() == key


async def test_services_read_on_while_their_keyset_moves_to_another_kms_key(place: Place) -> None:
    keys("create", place.url(), "--key-name", "first")
    other = place.kms.new_key()
    store = PlainSession("a", [])
    async with (
        KeyRing.from_url(f"{place.url()}&also_kek={other}") as both,
        KeyRing.from_url(place.url(place.kms.arn), retry=RetryPolicy(attempts=1)) as strict,
    ):
        await EncryptedSession.wrap(store, both, ttl=600).add_items([ITEM])
        assert (await strict.active()).name == "first"
        keys("rewrap", place.url(other))
        keys("rotate", place.url(other), "--now", "--key-name", "second")
        assert (await both.refresh()).name == "second"
        await EncryptedSession.wrap(store, both, ttl=600).add_items([ITEM])
        async with KeyRing.from_url(place.url(other)) as moved:
            assert await EncryptedSession.wrap(store, moved, ttl=600).get_items() == [ITEM, ITEM]
        # One that was told of the old key only goes on with what it holds, and says what to do.
        with pytest.raises(ProviderConfigError, match=rf"may be used here; .* also_kek={other}"):
            await strict.refresh()
        assert (await strict.active()).name == "first"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_program_that_is_interrupted_leaves_the_keyset_as_it_was(name: str, proxy, kms, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", proxy.url)
    place = Place("file", kms, "", tmp_path)
    keys("create", place.url(), "--key-name", "first")
    before = place.file.read_bytes()
    del proxy.asked[:]
    with (tmp_path / "keyset.json.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = warm_programs.Program([warm_programs.COMMAND, "keys", "rotate", place.url()])
        until = time.monotonic() + 60
        while not proxy.asked:
            # The key is made before the lock is asked for.
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (3, "")
    assert stderr == "Interrupted. The change was either made or not: `keys list` shows it.\n"
    assert place.file.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "keyset.json",
        "keyset.json.changes",
        "keyset.json.lock",
    ]
    assert listed(place.url()) == {"first": "active"}

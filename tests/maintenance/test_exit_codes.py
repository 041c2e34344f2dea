"""What every command ends with where it cannot do its work, and the line of JSON that says so to programs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions import Key, KeyAccessDeniedError, KeyRing, KeyUnavailableError, StoreUnavailableError
from encrypted_sessions.cli import application
from encrypted_sessions.demo import conversation, steps
from encrypted_sessions.demo.errors import UnreachedError
from encrypted_sessions.doctor import examination
from encrypted_sessions.doctor.installed import Installation
from encrypted_sessions.maintenance import keys as keys_module
from encrypted_sessions.stores.sqlite.whole import SQLiteStore
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.documents import ROOT
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyring_fakes import ACTIVE, ScriptedKeys, impatient_ring
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation
from keyproviders.keyset import FileKeysetStore

PASSWORD = "".join(("open", "-", "sesame"))
KEYS = ("--keys", "env:KEYS")
#: What is asked of a store, with what it takes besides.
OVER_A_STORE: dict[str, tuple[str, ...]] = {
    "inventory": KEYS,
    "verify": KEYS,
    "inspect": ("--session", SESSION),
    "sessions": (),
    "reencrypt": KEYS,
    "encrypt": KEYS,
    "purge": (*KEYS, "--ttl", str(TTL)),
    "discard": (*KEYS, "--outcome", "unauthentic"),
    "erase": ("--session", SESSION),
    "put-back": (*KEYS, "--from", "FILE"),
}
OPENING_ROWS = tuple(name for name, more in OVER_A_STORE.items() if KEYS[0] in more)
OF_A_KEYSET = {
    "create": (),
    "list": (),
    "rotate": (),
    "rewrap": (),
    "upgrade": (),
    "retire": ("k",),
    "restore": ("k",),
    "destroy": ("k",),
}


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENCRYPTED_SESSIONS_KEYS", raising=False)
    monkeypatch.setenv("KEYS", f"2026={Key.generate().reveal_base64()}")
    monkeypatch.setattr(keys_module, "_TRIES", 1)
    monkeypatch.setattr("encrypted_sessions.maintenance.store_calls._RETRY_WAITS_S", ())
    monkeypatch.setattr(examination, "whose_package", lambda: Installation("/here", ("ours 1",)))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(application(), arguments, prog_name="encrypted-sessions")


def refused(exit_code: int, *arguments: str, command: str | None = None) -> str:
    """What a program is told of a run that cannot start, which is what a person is told, too."""
    plain = invoke(*arguments)
    assert (plain.exit_code, plain.stdout) == (exit_code, ""), plain.output
    result = invoke(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    (line,) = result.stdout.splitlines()
    told: dict[str, Any] = json.loads(line)
    assert list(told) == ["event", "command", "ok", "exit_code", "error", "message"]
    known = (told["event"], told["command"], told["ok"], told["exit_code"])
    assert known == ("report", command or arguments[0], False, exit_code)
    assert told["error"].isidentifier()
    assert "".join(told["message"].split()) in "".join(plain.stderr.replace("│", "").split())
    assert PASSWORD not in plain.output + result.output
    return f"{told['error']}: {told['message']}"


def of_no_store(command: str, store: str) -> tuple[str, ...]:
    return (command, store, *OVER_A_STORE[command])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Exception]], ScriptedKeys]:
    """A place of keys that answers every question with an error of a kind, whatever the URL."""

    def answer(kind: type[Exception]) -> ScriptedKeys:
        provider = ScriptedKeys(Key.generate("2026"))
        provider.fail(ACTIVE, kind)
        monkeypatch.setattr(KeyRing, "from_url", lambda *_, **__: impatient_ring(provider))
        monkeypatch.setattr(examination, "open_provider", lambda _: provider)
        return provider

    return answer


# -- At the start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", OVER_A_STORE)
def test_a_store_that_is_not_there_or_does_not_answer(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "does not exist; nothing was created" in refused(4, *of_no_store(command, f"sqlite:///{tmp_path}/none.db"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file.db").write_text("no database")
    assert refused(4, *of_no_store(command, f"sqlite:///{tmp_path}/file.db")).startswith("StoreError: ")
    for url in ("redis://user:{}@127.0.0.1:1/0", "postgresql+asyncpg://user:{}@127.0.0.1:1/name"):
        monkeypatch.setenv("STORE", url.format(PASSWORD))
        said = refused(4, *of_no_store(command, "env:STORE"))
        assert said.startswith("StoreUnavailableError: ")
        assert "127.0.0.1:1" in said


@pytest.mark.parametrize("command", OVER_A_STORE)
def test_what_was_given_wrongly(command: str, file: StoreLocation):
    assert "NOT_SET is not set" in refused(2, *of_no_store(command, "env:NOT_SET"))
    assert refused(2, *of_no_store(command, "mongodb://host/name")).startswith("StoreConfigError: ")
    assert "Missing argument" in refused(2, command)
    assert refused(2, command, "sqlite:///a.db", "--odd").startswith("UsageError: ")
    said = refused(2, command, "sqlite:///a.db", f"redis://user:{PASSWORD}/@host/0", *OVER_A_STORE[command])
    assert "redis://...@host/0" in said
    if command in OPENING_ROWS:
        filled(file, {})
        more = OVER_A_STORE[command][2:]
        given = (command, f"sqlite:///{file.where}", *more, "--keys")
        said = refused(2, *given, "env:NOT_SET")
        assert said.startswith("ProviderConfigError: no key could be fetched: ")
        assert "NOT_SET is not set" in said
        assert refused(2, *given, "nothing:x").startswith("ProviderConfigError: ")
        Path(file.where).chmod(0o600)
        assert "no key could be fetched: " in refused(4, *given, f"file:{file.where}")  # which is no key


@pytest.mark.parametrize("kind", [KeyUnavailableError, KeyAccessDeniedError])
@pytest.mark.parametrize("command", OPENING_ROWS)
def test_a_place_of_keys_that_does_not_answer_or_refuses(
    command: str, kind: type[Exception], file: StoreLocation, broken: Callable[[type[Exception]], ScriptedKeys]
):
    filled(file, {})
    broken(kind)
    said = refused(4, *of_no_store(command, f"sqlite:///{file.where}"))
    assert said.startswith(f"{kind.__name__}: no key could be fetched: ")
    assert "scripted keys" in said


@pytest.mark.parametrize("command", OF_A_KEYSET)
def test_a_keyset_whose_place_does_not_answer_or_refuses(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    more = OF_A_KEYSET[command]
    assert refused(2, "keys", command, "nothing:x", *more, command=f"keys {command}").startswith("ProviderConfigError")
    unset = "aws-kms:alias/agents?keyset=sql&dsn_env=NOT_SET&keyset_name=a"
    assert "NOT_SET" in refused(2, "keys", command, unset, *more, command=f"keys {command}")
    url = f"aws-kms:alias/agents?keyset=file:{tmp_path}/keyset.json"
    for kind in (KeyUnavailableError, KeyAccessDeniedError):

        def fail(*_: object, _kind: type[Exception] = kind) -> None:
            raise _kind("the cupboard does not open")

        monkeypatch.setattr(FileKeysetStore, "read", fail)
        said = refused(4, "keys", command, url, *more, command=f"keys {command}")
        assert said == f"{kind.__name__}: the cupboard does not open"


def test_what_the_state_of_a_keyset_does_not_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    url = f"aws-kms:alias/agents?keyset=file:{tmp_path}/keyset.json"
    assert invoke("keys", "create", url).exit_code == 0
    assert refused(1, "keys", "create", url, command="keys create").startswith("KeysetRefusedError: ")


def test_the_doctor(
    file: StoreLocation, tmp_path: Path, broken: Callable[[type[Exception]], ScriptedKeys], sealer: Sealer
):
    for url in ("env:NOT_SET", "nothing:x"):
        assert invoke("doctor", url).exit_code == 2
    assert refused(4, "doctor", "env:KEYS", "--store", f"sqlite:///{tmp_path}/none.db").startswith("StoreError: ")
    assert refused(2, "doctor", "env:KEYS", "--store", "env:NOT_SET").startswith("StoreConfigError: ")
    filled(file, {SESSION: [sealer.ok("of another key")]})
    over = ("doctor", "env:KEYS", "--store", f"sqlite:///{file.where}")
    assert invoke(*over).exit_code == 1
    provider = broken(KeyUnavailableError)
    assert invoke("doctor", "env:KEYS").exit_code == 4
    provider.work(ACTIVE)
    provider.fail(sealer.active.name or "", KeyAccessDeniedError)
    assert invoke(*over).exit_code == 4


def test_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    def fail(*_: object) -> None:
        raise UnreachedError("the store does not answer.")

    monkeypatch.setattr(conversation, "run", fail)
    assert invoke("demo").exit_code == 4
    for store, unreached in (
        (f"redis://:{PASSWORD}@127.0.0.1:1/0", True),
        (f"mssql+aioodbc://:{PASSWORD}@host/a", False),
    ):
        settings = steps.Settings("env:KEYS", store, SESSION, str(tmp_path), str(tmp_path))
        monkeypatch.setenv(*settings.to_environment().popitem())
        assert steps.main("go-on") == 1
        told = json.loads(capsys.readouterr().out)
        assert (told["unreached"], PASSWORD in str(told)) == (unreached, False), told


# -- On the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [name for name in OVER_A_STORE if name != "put-back"])
def test_a_store_that_goes_away(command: str, file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    filled(file, {SESSION: [sealer.ok("one")]})

    async def fail(*_: object, **__: object) -> Any:
        raise StoreUnavailableError("the store went away")

    for call in ("rows", "session_rows", "rows_of_sessions", "session_ids", "erase"):
        monkeypatch.setattr(SQLiteStore, call, fail)
    more = [one for one in OVER_A_STORE[command] if one not in KEYS]
    result = run(file, sealer, command, *more, "--json")
    told = report_of(result)
    assert (result.exit_code, told["exit_code"], told["ok"]) == (4, 4, False)
    if command in ("inspect", "sessions"):  # without a report there is nothing to say of rows
        assert (told["error"], told["message"]) == ("StoreUnavailableError", "the store went away")
    else:
        assert (told["stopped"], "went away" in told["stopped_because"]) == ("store", True)


@pytest.mark.parametrize("command", [name for name in OPENING_ROWS if name != "put-back"])
def test_a_place_that_refuses_one_key_or_goes_away(
    command: str, file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    rows = [sealer.row(message("old"), sealer.older) for _ in range(3)]
    filled(file, {SESSION: rows})
    more = [one for one in OVER_A_STORE[command] if one not in KEYS]
    looks_at_labels = command == "encrypt"
    for kind in (KeyAccessDeniedError, KeyUnavailableError):
        provider = ScriptedKeys(sealer.active, sealer.older)
        provider.fail(sealer.older.name or "", kind)
        monkeypatch.setattr(KeyRing, "from_url", lambda *_, _of=provider, **__: impatient_ring(_of))
        result = run(file, sealer, command, *more, "--json")
        told = report_of(result)
        assert (result.exit_code, told["exit_code"], told["ok"]) == ((0, 0, True) if looks_at_labels else (4, 4, False))
        if not looks_at_labels:
            said = told["stopped_because"] if kind is KeyUnavailableError else "; ".join(told["notices"])
            assert f"scripted keys: {sealer.older.name} answers with {kind.__name__}" in said


def test_what_was_found_stays_1(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.of("unauthentic")]})
    with closing(sqlite3.connect(file.where)) as connection:
        connection.execute(f"CREATE TRIGGER odd AFTER DELETE ON {file.messages_table} BEGIN SELECT 1; END")
    assert run(file, sealer, "verify").exit_code == 1
    result = run(file, sealer, "purge", "--ttl", str(TTL), "--yes", "--json")
    told = report_of(result)
    assert (result.exit_code, told["exit_code"], told["error"]) == (1, 1, "StoreError")
    assert "the trigger odd" in told["message"]


# -- The installed command, and what is written of it ---------------------------------------------------


def test_by_the_installed_command(tmp_path: Path):
    done = warm_programs.run_command("sessions", f"sqlite:///{tmp_path}/none.db", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"], told["error"]) == (4, 4, "StoreError")
    assert done.stderr == f"Error: {told['message']}\n"


def test_the_handbook_and_each_help_have_every_code():
    handbook = (ROOT / "docs" / "operators-handbook.md").read_text(encoding="utf-8")
    for code in range(5):
        assert f"\n| {code} | " in handbook
    commands = [[name] for name in (*OVER_A_STORE, "doctor", "demo")] + [["keys", name] for name in OF_A_KEYSET]
    for words in commands:
        said = " ".join(invoke(*words, "--help").stdout.split())
        assert ", 4 " in said.partition("Exit codes: 0 ")[2], words

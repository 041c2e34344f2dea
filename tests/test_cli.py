"""The command: what it prints where, and with which code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions.cli import application
from encrypted_sessions.demo import conversation as demo
from keyproviders import Key, decode_key_text

PASSWORD = "".join(("open", "-", "sesame"))


@pytest.fixture(autouse=True)
def _no_default_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENCRYPTED_SESSIONS_KEYS", raising=False)


@pytest.fixture
def invocations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str | None]]:
    """What the demo would have been told; it does not run."""
    told: list[tuple[str | None, str | None]] = []
    monkeypatch.setattr(demo, "run", lambda keys, store: told.append((keys, store)))
    return told


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(application(), arguments, prog_name="encrypted-sessions")


def in_a_process(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a program, after a statement that spoils something."""
    code = f"import sys; sys.argv[1:] = {list(arguments)!r}; {before}\nfrom encrypted_sessions.cli import main; main()"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def raising(error: BaseException) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_keygen_prints_one_key_and_nothing_else():
    done = in_a_process("keygen")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout.removesuffix("\n")
    assert len(text) == 44
    assert Key(None, decode_key_text(text)).reveal_base64() == text


def test_keygen_prints_another_key_each_time():
    assert len({invoke("keygen").stdout for _ in range(5)}) == 5


def test_the_version_is_the_installed_one():
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"encrypted-sessions {version('encrypted-sessions')}\n")


@pytest.mark.parametrize("mistaken", [True, "False"])
def test_no_command_is_taken_for_the_version(mistaken: object):
    # As typer 0.12.5 made of the default beside click 8.3: every command printed the version, and exited with 0.
    result = CliRunner().invoke(application(), ["keygen"], default_map={"version": mistaken})
    assert result.exit_code == 0
    assert decode_key_text(result.stdout)


@pytest.mark.parametrize("arguments", [["--help"], ["keygen", "--help"], ["demo", "--help"]])
def test_help_states_the_exit_codes(arguments: list[str]):
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted" in one_line(result.stdout)


def test_help_lists_the_commands():
    stdout = one_line(invoke("--help").stdout)
    assert "keygen Print a new key." in stdout
    assert "demo Show an encrypted conversation of a real agent." in stdout


def test_the_help_of_keygen_says_where_to_put_the_key():
    stdout = invoke("keygen", "--help").stdout
    assert 'export SESSION_KEYS="$(encrypted-sessions keygen)"\n' in stdout
    assert 'KeyRing.from_url("env:SESSION_KEYS")\n' in stdout


def test_the_help_of_the_demo_names_each_kind_of_store_and_the_variable():
    stdout = one_line(invoke("demo", "--help").stdout)
    for word in ("env:SESSION_KEYS", "ENCRYPTED_SESSIONS_KEYS", "SQLite file", "postgresql+asyncpg://", "redis://"):
        assert word in stdout


def test_no_help_is_wider_than_a_terminal():
    for arguments in (["--help"], ["keygen", "--help"], ["demo", "--help"]):
        assert max(map(len, invoke(*arguments).stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["keygen", "more"], ["demo", "--stores", "x"], ["demo", "--store"]]
)
def test_wrong_use_ends_with_2_and_says_so_on_stderr(arguments: list[str]):
    result = invoke(*arguments)
    assert result.exit_code == 2
    if arguments:
        assert result.stdout == ""
        assert "Error: " in result.stderr


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("", "is empty"),
        (":memory:", "is a store in memory"),
        ("sqlite+aiosqlite://", "is a store in memory"),
        ("sqlite+aiosqlite:///:memory:", "is a store in memory"),
        ("env:SESSION_KEYS", "looks like a URL"),
        ("redis:localhost", "looks like a URL"),
        ("redis://", "has nothing after redis://"),
        (f"postgresql://me:{PASSWORD}@host/db", "begin it with postgresql+asyncpg://"),
        (f"postgres://me:{PASSWORD}@host/db", "begin it with postgresql+asyncpg://"),
        ("sqlite:///demo.db", "begin it with sqlite+aiosqlite://"),
    ],
)
def test_a_store_that_cannot_be_one_is_wrong_use(store: str, words: str):
    result = invoke("demo", "--store", store)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--store" in result.stderr
    assert words in one_line(result.stderr)
    assert PASSWORD not in result.stderr


def test_keys_that_are_no_url_are_wrong_use_and_not_shown():
    key = Key.generate().reveal_base64()
    result = invoke("demo", "--keys", key)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must begin with a scheme" in result.stderr
    assert key not in result.stderr


def test_a_key_put_into_the_variable_of_the_url_is_wrong_use_and_not_shown(monkeypatch: pytest.MonkeyPatch):
    key = Key.generate().reveal_base64()
    monkeypatch.setenv("ENCRYPTED_SESSIONS_KEYS", key)
    result = invoke("demo")
    assert result.exit_code == 2
    assert "ENCRYPTED_SESSIONS_KEYS" in result.stderr
    assert key not in result.stderr


def test_keys_that_do_not_come_fail_before_anything_starts():
    result = invoke("demo", "--keys", "env:THIS_VARIABLE_IS_NOT_SET")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no key could be fetched from env:THIS_VARIABLE_IS_NOT_SET: " in one_line(result.stderr)
    assert "encrypted-sessions keygen" in one_line(result.stderr)


def test_the_demo_gets_the_options(invocations: list[tuple[str | None, str | None]]):
    invoke("demo")
    invoke("demo", "--keys", "env:A", "--store", "here.db")
    assert invocations == [(None, None), ("env:A", "here.db")]


def test_the_variable_stands_in_for_keys(
    invocations: list[tuple[str | None, str | None]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ENCRYPTED_SESSIONS_KEYS", "env:B")
    invoke("demo")
    invoke("demo", "--keys", "env:A")
    assert invocations == [("env:B", None), ("env:A", None)]


def test_a_failed_demo_is_one_sentence_and_1(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "run", raising(demo.DemoError("the store is on fire.")))
    result = invoke("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: the store is on fire.\n")


def test_an_interrupted_demo_ends_with_3(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "run", raising(KeyboardInterrupt()))
    result = invoke("demo")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "Interrupted.\n")


@pytest.mark.parametrize(("package", "arguments"), [("typer", ["keygen"]), ("rich", ["demo"])])
def test_without_its_packages_the_command_says_what_to_install(package: str, arguments: list[str]):
    done = in_a_process(*arguments, before=f"sys.modules[{package!r}] = None")
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'encrypted-sessions[cli]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bug_shows_a_traceback_without_local_variables():
    spoil = "import keyproviders; generate = keyproviders.Key.generate; keyproviders.Key.generate = lambda: 1 / 0"
    done = in_a_process("keygen", before=spoil)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "locals" not in done.stderr


def test_importing_the_command_loads_none_of_its_packages():
    code = "import json, sys, encrypted_sessions.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"typer", "rich", "agents", "encrypted_sessions.demo.conversation"} & set(json.loads(done.stdout))

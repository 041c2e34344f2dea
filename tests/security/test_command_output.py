"""The command, used right and wrong, prints no key and no password."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from encrypted_sessions.cli import application
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.keyset_fixture import make_format_1
from encrypted_sessions_tests.leaks import Net
from keyproviders.keyset import FileKeysetStore, WrappedKey

VARIABLE = "SENTINEL_KEYS"


def run(net: Net, *arguments: str, **environment: str) -> int:
    """Run the command in this process; all of its output, and of an error in it, is seen."""
    result = CliRunner().invoke(application(), list(arguments), env={"ENCRYPTED_SESSIONS_KEYS": None, **environment})
    net.add(f"output of {arguments[:1]}", result.output)
    net.add(f"stderr of {arguments[:1]}", result.stderr)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        with net.raises(BaseException):
            raise result.exception
    return result.exit_code


#: Ways in which a key ends up where its URL belongs.
WRONG_KEYS = (
    "{key}",
    "{bare}",
    "env:{key}",
    "env:{bare}",
    "env://{key}",
    "file:{key}",
    "vault-kv://{key}@host/x",
    "KEY={key}",
)


@pytest.mark.parametrize("keys", WRONG_KEYS)
def test_a_key_where_its_url_belongs_is_not_printed(keys: str, net: Net) -> None:
    given = keys.format(key=net.key_text, bare=net.key_text.rstrip("="))
    assert run(net, "demo", "--keys", given) == 2
    assert run(net, "demo", ENCRYPTED_SESSIONS_KEYS=given) == 2


@pytest.mark.parametrize(
    "content",
    [
        "{key}x",
        "new={key}x",
        "{key},{key}",
        "{key},,{key}",
        "new {key}",
        "new={key},new={key}",
        "={key}",
        "{hex}",
        "a={hex}",
    ],
)
def test_a_variable_that_holds_no_keys_is_not_printed(content: str, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, content.format(key=net.key_text, hex=net.secret.hex()))
    assert run(net, "demo", "--keys", f"env:{VARIABLE}") == 4


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://user:{password}@host/name",
        "postgres://user:{password}@host/name",
        "mysql://user:{password}@host/name",
        "sqlite://user:{password}@host/:memory:",
        "redis:user:{password}@host:6379",
        "postgresql+asyncpg:user:{password}@host/name",
        "redis://:{password}@host/:memory:",
        "postgresql://host/name?user=u&password={password}",
        "postgresql://us@er:{password}@host/name",
        "postgresql://user:a/{password}@host/name",
    ],
)
def test_a_store_that_cannot_be_one_is_shown_without_its_password(store: str, net: Net) -> None:
    assert run(net, "demo", "--store", store.format(password=net.text.text)) == 2


def test_a_demo_with_the_users_keys_prints_none_of_them(net: Net, tmp_path: Path) -> None:
    environment = {**os.environ, VARIABLE: f"sentinel={net.key_text}", "TMPDIR": str(tmp_path)}
    done = warm_programs.run_command("demo", "--keys", f"env:{VARIABLE}", env=environment)
    net.add("output of the demo", done.stdout)
    net.add("errors of the demo", done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sentinel~" in done.stdout


@pytest.mark.parametrize(
    "store", ["redis://user:{password}@127.0.0.1:1/0", "postgresql+asyncpg://user:{password}@127.0.0.1:1/name"]
)
def test_a_store_that_cannot_be_reached_is_told_without_its_password(store: str, net: Net, tmp_path: Path) -> None:
    done = warm_programs.run_command(
        "demo", "--store", store.format(password=net.text.text), env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    net.add("output of the demo", done.stdout)
    net.add("errors of the demo", done.stderr)
    assert done.returncode == 4
    assert "127.0.0.1:1" in done.stderr


def test_keygen_prints_its_key_once_and_logs_nothing(net: Net) -> None:
    assert run(net, "keygen") == 0
    (printed,) = {shown.strip() for where, shown in net.caught if where.startswith("output")}
    assert len(printed) == 44
    assert not [where for where, shown in net.caught if where.startswith("log") and printed in shown]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_command_about_keys_prints_one(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """`keys ...` and `doctor`, over a keyset whose every key is looked for, wrapped and plain."""

    class Watched(FakeKeyWrapper):
        def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
            secret, wrapped = super().generate(context)
            net.also(secret)
            return secret, wrapped

    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", Watched)
    url = f"aws-kms:fake/agents?keyset=file:{tmp_path}/keyset.json"
    old = f"aws-kms:fake/agents?keyset=file:{tmp_path}/old.json"
    store = FileKeysetStore(tmp_path / "old.json")
    for secret in make_format_1(FakeKeyWrapper(), store, "first", "second", now=1_600_000_000).values():
        net.also(secret)
    json_too = ["--json"] if as_json else []

    def keys(command: str, *arguments: str) -> int:
        return run(net, "keys", command, *arguments, *json_too)

    steps: list[Callable[[], int]] = [
        lambda: keys("create", url, "--key-name", "first"),
        lambda: keys("rotate", url, "--now", "--key-name", "second"),
        lambda: keys("list", url),
        lambda: keys("rewrap", url),
        lambda: keys("upgrade", url),
        lambda: keys("list", old),
        lambda: keys("upgrade", old),
        lambda: keys("retire", old, "first"),
        lambda: keys("restore", old, "first"),
        lambda: keys("retire", old, "first"),
        lambda: keys("destroy", old, "first", "--now", "first", "--yes"),
        lambda: run(net, "doctor", url, *json_too),
        lambda: run(net, "doctor", old, *json_too),
    ]
    assert [step() for step in steps] == [0] * len(steps)
    refusals: list[Callable[[], int]] = [
        lambda: keys("create", url),
        lambda: keys("retire", url, "second"),
        lambda: keys("destroy", url, "first", "--now", "first", "--yes"),
        lambda: keys("list", f"{url}&keyset_id={'0' * 32}"),
        lambda: run(net, "doctor", f"{url}&keyset_id={'0' * 32}", *json_too),
    ]
    assert [step() for step in refusals] == [1, 1, 1, 2, 2]

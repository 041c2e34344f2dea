"""Options in general: none is ignored in silence, and a time is written the same way everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from encrypted_sessions import Key
from encrypted_sessions.cli import application
from encrypted_sessions.cli.durations import whole_seconds

STORE = "sqlite:///none.db"


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"ENCRYPTED_SESSIONS_KEYS": None}).invoke(
        application(), arguments, prog_name="encrypted-sessions"
    )


def options() -> list[tuple[tuple[str, ...], Any]]:
    """Every option of every command, but those that do their own work, such as --help."""
    found = []

    def look(words: tuple[str, ...], command: Any) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            look((*words, name), inner)
        if words and not hasattr(command, "commands"):
            named = [one for one in command.params if one.param_type_name == "option" and not one.is_eager]
            found.extend((words, one) for one in named)

    look((), typer.main.get_command(application()))
    return found


def test_an_option_given_twice_is_wrong_use_in_every_command_unless_it_may_be_repeated():
    assert len(options()) > 50
    for words, option in options():
        value = () if option.is_flag else ("1",)
        result = invoke(*words, option.opts[0], *value, option.opts[0], *value)
        assert result.exit_code == 2 or option.multiple, (words, option.opts)
        assert ("was given 2 times" in " ".join(result.stderr.split())) is not option.multiple, (words, option.opts)


def test_what_may_be_repeated_is_what_the_documents_say():
    repeatable = {option.opts[0] for _, option in options() if option.multiple}
    assert {"--keys", "--kid", "--from", "--session", "--allow-trigger"} <= repeatable


def test_nothing_is_done_when_an_option_came_twice(tmp_path: Path):
    result = invoke("verify", STORE, "--keys", "env:A", "--batch", "5", "--batch=6")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--batch" in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("90s", 90), ("90m", 5_400), ("12h", 43_200), ("1d", 86_400), ("1.5h", 5_400), (" 1D ", 86_400)],
)
def test_a_time_is_read(text: str, seconds: int):
    assert whole_seconds()(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1w", "0.5", "1e3", "1 d", "none", "\u0661", "9999999999"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(typer.BadParameter):
        whole_seconds()(text)


def test_there_may_be_no_end_where_there_may_be_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("A", Key.generate().reveal_base64())
    assert whole_seconds(or_none=True)("none") is None
    for command in (["purge"], ["verify"]):
        result = invoke(*command, STORE, "--keys", "env:A", "--ttl", "none")
        assert result.exit_code == (2 if command == ["purge"] else 4), result.output
    for text in ("1x", "none"):
        result = invoke("verify", STORE, "--keys", "env:A", "--replica-wait" if text == "1x" else "--batch", text)
        assert result.exit_code == 2


def test_the_time_of_a_command_is_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sqlite3
    from contextlib import closing

    monkeypatch.setenv("A", Key.generate().reveal_base64())
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at, updated_at)")
        connection.execute(
            "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,"
            " message_data TEXT NOT NULL, created_at TIMESTAMP)"
        )
    result = invoke("purge", f"sqlite:///{path}", "--keys", "env:A", "--ttl", "2d", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["ttl"] == 172_800, result.output
    ended = invoke("inventory", f"sqlite:///{path}", "--ttl", "1.5h", "--replica-wait", "0", "--json")
    assert json.loads(ended.stdout.splitlines()[-1])["ttl"] == 5_400, ended.output

"""What shells complete, by the scripts that `encrypted-sessions completion` prints."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from encrypted_sessions.cli import application

SHELLS = ("bash", "zsh", "fish")
TIMEOUT_S = 60

#: What is typed, and what a tab makes of it.
TYPED = (
    ("encrypted-sessions inv", "encrypted-sessions inventory "),
    ("encrypted-sessions --log-level debug keys ro", "encrypted-sessions --log-level debug keys rotate "),
    ("encrypted-sessions --log-level=debug keys ro", "encrypted-sessions --log-level=debug keys rotate "),
    ("encrypted-sessions purge sqlite:///a.db --exp", "encrypted-sessions purge sqlite:///a.db --export "),
    ("encrypted-sessions purge --export expo", "encrypted-sessions purge --export exported.jsonl "),
    ("encrypted-sessions discard --outcome=unk", "encrypted-sessions discard --outcome=unknown_key"),
    ("encrypted-sessions completion z", "encrypted-sessions completion zsh "),
)


def script(shell: str) -> str:
    result = CliRunner().invoke(application(), ["completion", shell], prog_name="encrypted-sessions")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def words() -> Iterator[tuple[str, str]]:
    """Every command with each word that may follow it."""

    def look(at: str, command: Any) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield from ((at, name) for name in parameter.opts)
        for name, inner in getattr(command, "commands", {}).items():
            yield at, name
            yield from look(f"{at} {name}".strip(), inner)

    return look("", typer.main.get_command(application()))


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_option_and_is_one_of_its_shell(shell: str):
    text = script(shell)
    assert len(list(words())) > 150
    for at, word in words():
        assert (word.removeprefix("--") if shell == "fish" else word) in text, (at, word)
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=text, text=True, check=True, capture_output=True)


class Shell:
    """An interactive shell in which keys are pressed. It finds no Python, so nothing else completes."""

    def __init__(self, *command: str, folder: Path) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = {"PATH": "/nonexistent", "TERM": "dumb", "LC_ALL": "C", "ZDOTDIR": str(folder), "PS1": ""}
            os.execve(command[0], command, {**environment, "HOME": str(folder)})  # noqa: S606 - the shell that is tested

    def type(self, keys: str, expected: str) -> None:
        """Press these keys, and wait until that is to be seen."""
        os.write(self._terminal, keys.encode())
        seen, ends = b"", time.monotonic() + TIMEOUT_S
        while expected.encode() not in seen:
            assert time.monotonic() < ends, seen
            if select.select([self._terminal], [], [], 1)[0]:
                seen += os.read(self._terminal, 4_096)

    def close(self) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_without_starting_anything(shell: str, tmp_path: Path):
    needs(shell)
    (tmp_path / "exported.jsonl").touch()
    path = str(shutil.which(shell))
    (tmp_path / "script").write_text(script(shell))
    begin = "" if shell == "bash" else "autoload -U compinit; compinit -u -D; "
    (tmp_path / ".rc").write_text(f"{begin}source ./script; echo it is re''ady\n")
    (tmp_path / ".zshrc").write_text("source ./.rc\n")
    options = ["--noprofile", "--rcfile", ".rc", "-i"] if shell == "bash" else ["-d", "-i"]
    running = Shell(path, *options, folder=tmp_path)
    try:
        running.type("", "it is ready")
        for typed, completed in TYPED:
            running.type(f"{typed}\t", completed)
            running.type("\x15echo do''ne\r", "\ndone")
    finally:
        running.close()


def test_fish_completes_without_starting_anything(tmp_path: Path):
    needs("fish")
    (tmp_path / "exported.jsonl").touch()
    (tmp_path / "script").write_text(script("fish"))
    for typed, completed in TYPED:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source script; complete -C '{typed}'"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [completed.split()[-1]]


def test_a_shell_that_is_none_is_wrong_use():
    result = CliRunner().invoke(application(), ["completion", "powershell"], prog_name="encrypted-sessions")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the supported shells are bash, zsh, fish" in " ".join(result.stderr.split())

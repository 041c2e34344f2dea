"""What a person sees: lines that fit, colours where they are wanted, hints, and failures in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from encrypted_sessions import Key
from encrypted_sessions.cli import application
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.maintenance_command import arguments_for, environment_of, filled, run
from encrypted_sessions_tests.pseudo_terminal import on_a_terminal, without_styles
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place

EVIL = "evil\x1b]0;owned\x07\x1b[31m"
LONG = "6f1ed002-ab5e-4d91-8f53-9a1a0c0a7c11"
FULL = "Error: the output cannot be written: No space left on device\n"


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    sealer.active, sealer.older = Key.generate("2026-05"), Key.generate(LONG)
    yield sealer
    sealer.ring.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, sealer: Sealer) -> StoreLocation:
    place = new_place("sqlite", request)
    evil = Sealer(EVIL)
    evil.ring.close()
    rows = [sealer.row(message("a"), sealer.older), sealer.ok("b"), sealer.of("unauthentic"), sealer.of("unknown_key")]
    filled(place, {SESSION: rows, "user-70": [sealer.of("plaintext")], EVIL: [evil.of("unknown_key")]})
    return place


@pytest.fixture(params=["sqlalchemy-postgres", "redis"])
def server(request: pytest.FixtureRequest, sealer: Sealer) -> StoreLocation:
    place = new_place(request.param, request)
    filled(place, {SESSION: [sealer.ok("a"), sealer.of("unauthentic")]})
    return place


def commands() -> list[tuple[str, ...]]:
    """Every command, and groups of them."""
    found: list[tuple[str, ...]] = []

    def look(words: tuple[str, ...], command: Any) -> None:
        found.append(words)
        for name, inner in getattr(command, "commands", {}).items():
            look((*words, name), inner)

    look((), typer.main.get_command(application()))
    return found


def invoke(*arguments: str, **environment: str) -> Result:
    env = {"ENCRYPTED_SESSIONS_KEYS": None, **environment}
    return CliRunner(env=env).invoke(application(), arguments, prog_name="encrypted-sessions")


def one_line(text: str) -> str:
    return " ".join(text.split())


def too_wide(text: str, columns: int) -> list[str]:
    """Lines that are too wide, but for those that are one word: a kid or a path is not cut."""
    lines = [line for line in re.split(r"[\r\n]", without_styles(text)) if len(line) > columns]
    return [line for line in lines if " " in line.strip()]


# -- Width --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("command", [("inventory",), ("verify", "--ttl", str(TTL)), ("sessions",), ("--help",)])
def test_what_a_terminal_shows_fits_it_and_no_kid_is_cut(
    place: StoreLocation, sealer: Sealer, columns: int, command: tuple[str, ...]
):
    needs_key = command[0] in {"inventory", "verify"}
    words = command if command == ("--help",) else arguments_for(place, *command)
    code, shown = on_a_terminal(*words, columns=columns, env=environment_of(place, sealer if needs_key else None))
    assert code == (1 if needs_key else 0), shown
    assert too_wide(shown, columns) == []
    if command[0] in {"inventory", "sessions"}:
        assert sealer.active.kid in shown
        assert sealer.older.kid in shown
    assert "\x1b]0;owned" not in shown


def test_a_row_of_a_table_is_one_line_where_there_is_room(place: StoreLocation, sealer: Sealer):
    _, shown = on_a_terminal(
        *arguments_for(place, "inventory", "--replica-wait", "0"), columns=160, env=environment_of(place, sealer)
    )
    row = next(line for line in shown.splitlines() if line.startswith(sealer.older.kid))
    assert row.split()[:5] == [sealer.older.kid, "1", "ok", "1", "1"]
    assert row.endswith(" B")


def test_a_pipe_gets_80_columns_or_as_many_as_columns_says(place: StoreLocation, sealer: Sealer):
    for command in ("inventory", "verify"):
        assert too_wide(run(place, sealer, command).stdout, 80) == []
    runner = CliRunner(env={**environment_of(place, sealer), "COLUMNS": "60"})
    narrow = runner.invoke(application(), arguments_for(place, "verify"), prog_name="encrypted-sessions").stdout
    assert too_wide(narrow, 60) == []
    assert len(narrow.splitlines()) > len(run(place, sealer, "verify").stdout.splitlines())
    for words in commands():
        assert too_wide(invoke(*words, "-h").stdout, 80) == [], words
        wide = too_wide(invoke(*words, "--help", COLUMNS="60").stdout, 60)
        assert [line for line in wide if "encrypted-sessions " not in line] == [], words  # which are to be copied


def test_an_error_is_wrapped_on_a_terminal_and_one_line_in_a_pipe(place: StoreLocation):
    words = arguments_for(place, "verify", "--keys", "env:THIS_VARIABLE_IS_NOT_SET")
    code, shown = on_a_terminal(*words, columns=40, env=environment_of(place, None))
    assert too_wide(shown, 40) == []
    piped = run(place, None, "verify", "--keys", "env:THIS_VARIABLE_IS_NOT_SET")
    assert (piped.exit_code, piped.stderr.count("\n")) == (code, 1)
    assert one_line(without_styles(shown)).endswith(one_line(piped.stderr))


# -- Colours ------------------------------------------------------------------------------------------


def test_colours_are_shown_on_a_terminal_and_not_where_they_are_not_wanted(place: StoreLocation, sealer: Sealer):
    words, environment = arguments_for(place, "verify"), environment_of(place, sealer)
    _, shown = on_a_terminal(*words, columns=80, env=environment)
    assert "\x1b[1;31mNot well: " in shown
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        _, plain = on_a_terminal(*words, columns=80, env={**environment, **unwanted})
        assert "\nNot well: " in plain, unwanted
        assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m(?!━)", plain.rpartition("\x1b[2K")[2]), unwanted
    assert "\x1b" not in run(place, sealer, "verify").output


def test_an_error_is_red_on_a_terminal_alone(place: StoreLocation):
    _, shown = on_a_terminal("verfy", columns=80, env={})
    assert "\x1b[1;31mError:\x1b[0m No such command 'verfy'. Did you mean verify?" in shown
    assert "\x1b" not in invoke("verfy").stderr


# -- What cannot be written -------------------------------------------------------------------------


def to_full_disk(*words: str, env: dict[str, str]) -> tuple[int, str]:
    with Path("/dev/full").open("w") as full:
        program = warm_programs.Program([warm_programs.COMMAND, *words], env={**os.environ, **env}, stdout=full)
    _, stderr = program.communicate()
    return program.wait(), stderr


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words) or "top")
def test_help_that_a_full_disk_does_not_take_is_one_line_and_1(words: tuple[str, ...]):
    assert to_full_disk(*words, "--help", env={}) == (1, FULL)


def test_what_a_full_disk_does_not_take_is_one_line_and_1(place: StoreLocation, sealer: Sealer):
    environment = environment_of(place, sealer)
    for command in (("inventory",), ("verify",), ("sessions",), ("inspect", "--session", SESSION), ("reencrypt",)):
        for more in ((), ("--json",)):
            assert to_full_disk(*arguments_for(place, *command, *more), env=environment) == (1, FULL), (command, more)
    for words in (("keygen",), ("completion", "bash"), ("doctor",), ("doctor", "--json")):
        assert to_full_disk(*words, env=environment) == (1, FULL), words


def test_a_full_disk_changes_no_exit_code_where_it_has_stderr(place: StoreLocation):
    with Path("/dev/full").open("w") as full:
        program = warm_programs.Program([warm_programs.COMMAND, "verfy"], stderr=full)
    assert (program.communicate(), program.wait()) == (("", ""), 2)


def test_who_reads_no_longer_is_told_nothing(place: StoreLocation, sealer: Sealer):
    for words in (("--help",), arguments_for(place, "verify", "--json"), arguments_for(place, "verify")):
        ours, theirs = os.pipe()
        os.close(ours)
        env = {**os.environ, **environment_of(place, sealer)}
        program = warm_programs.Program([warm_programs.COMMAND, *words], env=env, stdout=theirs)
        os.close(theirs)
        assert (program.communicate(), program.wait()) == (("", ""), 1), words


def test_a_program_from_the_start_says_so_too():
    import subprocess
    import sys

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", warm_programs.COMMAND, "keygen"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr.decode()) == (1, FULL)


# -- Hints --------------------------------------------------------------------------------------------


def test_wrong_words_get_what_may_have_been_meant():
    for words, meant in (
        (("verfy",), "verify"),
        (("keys", "rotat"), "rotate"),
        (("purge", "--expor", "x"), "--export"),
        (("completion", "bsh"), "bash"),
    ):
        result = invoke(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Did you mean {meant}?" in one_line(result.stderr), words
    assert "Did you mean" not in invoke("frobnicate").stderr


def test_part_of_a_kid_gets_the_whole_one(place: StoreLocation, sealer: Sealer):
    kid = sealer.active.kid
    for given in (sealer.active.name, "2026-5", kid.partition("~")[2]):
        for command, option in (("verify", "--kid"), ("reencrypt", "--from"), ("inventory", "--require-free")):
            result = run(place, sealer, command, option, str(given))
            assert (result.exit_code, result.stdout) == (2, ""), (command, given)
            assert f"Did you mean {kid}?" in one_line(result.stderr), (command, given)
    listed = run(place, None, "sessions", "--kid", str(sealer.active.name))
    assert f"Did you mean {kid}?" in one_line(listed.stderr)


def test_a_kid_that_no_row_names_gets_the_one_that_rows_name(place: StoreLocation, sealer: Sealer):
    wrong = f"2026-05~{'0' * 8}"
    verified = run(place, sealer, "verify", "--kid", wrong)
    assert f"no row names {wrong} (did you mean {sealer.active.kid}?)" in one_line(verified.stdout)
    required = run(place, sealer, "inventory", "--require-free", wrong, "--replica-wait", "0")
    assert f"(did you mean {sealer.active.kid}?)" in one_line(required.stdout)


def test_places_that_do_not_answer_spoil_no_hint(place: StoreLocation, sealer: Sealer):
    result = run(place, sealer, "verify", "--kid", "2026-05", "--keys", "env:NOT_SET", "--keys", "env:KEYS_OF_THE_TEST")
    assert f"Did you mean {sealer.active.kid}?" in one_line(result.stderr)
    result = run(place, sealer, "verify", "--kid", "2026-05", "--keys", "env:NOT_SET")
    assert (result.exit_code, "Did you mean" in result.stderr) == (2, False)


def test_a_session_that_is_not_there_gets_those_that_are_like_it(place: StoreLocation):
    result = run(place, None, "inspect", "--session", "user-71")
    assert result.exit_code == 1
    assert "Did you mean user-1 or user-70?" in one_line(result.stdout)
    assert "Did you mean" not in run(place, None, "inspect", "--session", "nobody").stdout


def test_hints_come_from_servers_too(server: StoreLocation, sealer: Sealer):
    assert "Did you mean user-1?" in one_line(run(server, None, "inspect", "--session", "user-11").stdout)
    listed = run(server, None, "sessions", "--kid", "2026-05")
    assert f"Did you mean {sealer.active.kid}?" in one_line(listed.stderr)


# -- Help and logs ----------------------------------------------------------------------------------


def test_h_is_help():
    for words in ((), ("keys",), ("keys", "create"), ("verify",)):
        assert invoke(*words, "-h").stdout == invoke(*words, "--help").stdout != "", words


def test_what_is_logged_is_shown_when_it_is_asked_for(place: StoreLocation, sealer: Sealer):
    env, words = {**os.environ, **environment_of(place, sealer)}, arguments_for(place, "verify")
    for asked in (["--log-level", "INFO", *words], [*words, "--log-level=info"]):
        done = warm_programs.run_command(*asked, env=env)
        assert done.returncode == 1
        assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO keyproviders: ", done.stderr), asked
    assert warm_programs.run_command(*words, env=env).stderr == ""
    assert warm_programs.run_command("--log-level", "error", *words, env=env).stderr == ""


def test_a_level_that_is_none_is_wrong_use():
    for words in (("--log-level", "loud", "keygen"), ("keygen", "--log-level", "loud")):
        result = invoke(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "must be one of debug, info, warning, error" in one_line(result.stderr)


# -- What others wrote --------------------------------------------------------------------------------


def test_nothing_that_others_wrote_reaches_the_terminal_as_a_command(place: StoreLocation, sealer: Sealer):
    environment = environment_of(place, sealer)
    for words in (
        arguments_for(place, "verify"),
        arguments_for(place, "sessions"),
        arguments_for(place, "inspect", "--session", EVIL),
        arguments_for(place, "verify", "--kid", EVIL),
        arguments_for(place, "verify", "--session", EVIL),
        arguments_for(place, "discard", "--outcome", EVIL),
        ("verify", f"sqlite:///{EVIL}.db"),
        ("doctor", f"file:/{EVIL}"),
        ("keys", "list", f"aws-kms:alias/a?keyset=file:/{EVIL}.json"),
        (EVIL,),
        ("keygen", f"--{EVIL}"),
    ):
        _, shown = on_a_terminal(*words, columns=80, env={**environment, "NO_COLOR": "1"})
        assert "\x1b]" not in shown, words
        assert "\x07" not in shown, words
        assert "\x1b[31m" not in shown, words

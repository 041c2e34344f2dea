"""`encrypted-sessions audit verify`, and `--audit-log` of each command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions import Key
from encrypted_sessions.audit import AuditLog
from encrypted_sessions.audit.files import AuditFile
from encrypted_sessions.cli import application
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.audit_files import event, files_in, lines_in, read_event, said_in, verdict_of
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.maintenance_command import arguments_for, environment_of, filled
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer
from encrypted_sessions_tests.stores import new_place

NewLog = Callable[..., AuditLog]
ENVIRONMENT = {"ENCRYPTED_SESSIONS_AUDIT_LOG": ""}


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def invoke(*words: str, **environment: str) -> Result:
    runner = CliRunner(env={**ENVIRONMENT, **environment})
    return runner.invoke(application(), words, prog_name="encrypted-sessions")


# -- audit verify -------------------------------------------------------------------------------------


def test_a_whole_log_ends_with_0_and_shows_its_last_line(folder: Path, new_log: NewLog):
    log = new_log(rotate_bytes=4_096)
    for sequence in range(1, 31):
        log(event(sequence))
    log.close()
    verdict = verdict_of(folder)
    result = invoke("audit", "verify", *files_in(folder), "--until", f"{verdict.lines}:{verdict.hash}")
    assert result.exit_code == 0, result.output
    more = len(files_in(folder)) - 1
    assert result.stdout == (
        f"{files_in(folder)[0]} and {more} more: {verdict.lines} lines, whole, closed."
        f" The last one is {verdict.lines}:{verdict.hash}\n"
    )


def test_what_is_not_whole_ends_with_1_and_says_where(folder: Path, new_log: NewLog):
    log = new_log()
    for sequence in range(1, 6):
        log(event(sequence))
    log.close()
    (file,) = files_in(folder)
    lines = Path(file).read_bytes().splitlines(keepends=True)
    Path(file).write_bytes(b"".join([*lines[:2], *lines[3:]]))
    result = invoke("audit", "verify", file)
    assert result.exit_code == 1
    assert f"{file}, line 3: line 3 is missing or out of order before it" in result.stdout
    assert "The 2 lines before it are in order." in result.stdout
    Path(file).write_bytes(b"".join(lines[:-1]))
    assert "6 lines, whole, not closed" in invoke("audit", "verify", file).stdout
    Path(file).write_bytes(b"".join(lines)[:-5])
    result = invoke("audit", "verify", file)
    assert (result.exit_code, "line 7 is cut off" in result.stdout) == (1, True)


def test_a_cut_end_shows_by_what_was_kept_elsewhere(folder: Path, new_log: NewLog):
    log = new_log()
    log(event())
    log.close()
    kept = verdict_of(folder)
    (file,) = files_in(folder)
    lines = Path(file).read_bytes().splitlines(keepends=True)
    Path(file).write_bytes(b"".join(lines[:-1]))
    assert invoke("audit", "verify", file).exit_code == 0
    result = invoke("audit", "verify", file, "--until", f"{kept.lines}:{kept.hash}")
    assert result.exit_code == 1
    assert f"Line 3 with the hash {kept.hash} is missing, or was altered." in result.stdout


def test_a_keyed_log_needs_its_keys(folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch):
    key = Key.generate()
    monkeypatch.setenv("CHAIN", key.reveal_base64())
    log = new_log(chain_keys="env:CHAIN")
    log(event())
    log.close()
    (file,) = files_in(folder)
    result = invoke("audit", "verify", file)
    assert (result.exit_code, "it is keyed" in result.stdout) == (1, True)
    result = invoke("audit", "verify", file, "--chain-keys", "env:CHAIN")
    assert (result.exit_code, ": 3 lines, whole, closed." in result.stdout) == (0, True)
    result = invoke("audit", "verify", file, "--chain-keys", "env:CHAIN", CHAIN=Key.generate().reveal_base64())
    assert result.exit_code == 1
    assert key.reveal_base64() not in result.output


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("none.jsonl",), 1, "none.jsonl: No such file or directory"),
        ((), 2, "FILE"),
        (("none.jsonl", "--until", "7"), 2, "NUMBER:HASH"),
        (("none.jsonl", "--chain-keys", "nowhere"), 2, "must begin with a scheme"),
        (("none.jsonl", "--until", "7", "--until", "8"), 2, "given 2 times"),
    ],
)
def test_wrong_use_is_said(words: tuple[str, ...], exit_code: int, said: str):
    result = invoke("audit", "verify", *words)
    assert result.exit_code == exit_code
    assert said in " ".join(result.output.replace("│", " ").split())


def test_a_file_cannot_steer_the_terminal(folder: Path):
    file = folder / "audit-\x1b[2J-1.jsonl"
    kid = "\x1b]0;title\x07<b>\u202e"
    fields = {"n": 1, "prev": "0" * 64, "event": "begin", "log": "a", "chain": {"by": "hmac-sha256", "kid": kid}}
    file.write_text(json.dumps(fields) + "\n")
    result = invoke("audit", "verify", str(file))
    assert result.exit_code == 1
    assert all(one.isprintable() or one == "\n" for one in result.output)


def test_it_works_as_it_is_installed(folder: Path, new_log: NewLog):
    log = new_log()
    log(read_event())
    log.close()
    words = [sys.executable, "-m", "encrypted_sessions.cli", "audit", "verify", *files_in(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, ": 3 lines, whole, closed." in done.stdout) == (0, True), done.stderr


# -- --audit-log ----------------------------------------------------------------------------------------


def test_a_command_writes_its_start_and_its_end(request: pytest.FixtureRequest, folder: Path, sealer: Sealer):
    place = new_place("sqlite", request)
    filled(place, {SESSION: [sealer.ok("kept"), sealer.of("unauthentic"), sealer.expired()]})
    environment = {**environment_of(place, sealer), "ENCRYPTED_SESSIONS_AUDIT_LOG": str(folder)}
    result = invoke(*arguments_for(place, "purge", "--ttl", "3600", "--yes"), **environment)
    assert result.exit_code == 1, result.output
    start, end = (line for line in said_in(folder) if line["event"] == "run")
    assert (start["command"], start["phase"], start["sequence"]) == ("purge", "start", end["sequence"])
    assert (end["phase"], end["report"]["changed"], end["report"]["left"]) == ("end", 1, {"unauthentic": 1})
    assert "report" not in start
    assert SESSION not in "".join(Path(file).read_text() for file in files_in(folder))
    verdict = verdict_of(folder)
    assert (verdict.problem, verdict.closed) == (None, True)


@pytest.mark.parametrize("command", ["purge", "inventory"])
def test_with_audit_refuse_nothing_is_done_that_cannot_be_written(
    request: pytest.FixtureRequest, folder: Path, sealer: Sealer, command: str, monkeypatch: pytest.MonkeyPatch
):
    place = new_place("sqlite", request)
    filled(place, {SESSION: [sealer.expired()]})
    words = arguments_for(place, command, "--ttl", "3600", *(["--yes"] if command == "purge" else []))
    with monkeypatch.context() as context:
        context.setattr(AuditFile, "append", full_disk)
        result = invoke("--audit-log", str(folder), "--audit-refuse", *words, **environment_of(place, sealer))
        assert result.exit_code == 1
        assert "Error: the audit log cannot be written: No space left on device. Nothing was done" in result.stderr
        assert "Traceback" not in result.output
        # Told to go on, it does, and says what is missing.
        result = invoke("--audit-log", str(folder), *arguments_for(place, "inventory"), **environment_of(place, sealer))
        assert "Note: the audit log could not be written: " in result.stderr
    result = invoke(*words, **environment_of(place, sealer))
    assert "1 changed" in result.output or "expired" in result.output  # it was still there


def test_a_command_about_a_keyset_is_written_too_or_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    keyset = tmp_path / "keyset.json"
    words = ("--audit-log", str(folder), "--audit-refuse", "keys")
    url = f"aws-kms:alias/agents?keyset=file:{keyset}"
    append = AuditFile.append
    with monkeypatch.context() as context:
        context.setattr(AuditFile, "append", full_disk)
        result = invoke(*words, "create", url)
        assert result.exit_code == 1
        assert result.stderr.count("Error: the audit log cannot be written: No space left on device. Nothing was") == 1
        assert not keyset.exists()
    assert invoke(*words, "create", url, "--key-name", "one", "--reason", "first").exit_code == 0
    start, end = said_in(folder)
    assert [(one["event"], one["command"], one["phase"], one["key"], one["reason"]) for one in (start, end)] == [
        ("keyset", "create", "start", "one", "first"),
        ("keyset", "create", "end", "one", "first"),
    ]

    def full_after_the_start(self: AuditFile, lines: bytes) -> None:
        if b'"phase":"end"' in lines:
            full_disk()
        append(self, lines)

    monkeypatch.setattr(AuditFile, "append", full_after_the_start)
    result = invoke(*words, "rotate", url)
    assert result.exit_code == 1
    assert "The operation took place, or may have" in result.stderr
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--audit-refuse", "keygen"), "goes with --audit-log"),
        (("--audit-log", "/nowhere", "keygen"), "there is no folder at '/nowhere'"),
    ],
)
def test_wrong_use_of_the_options_is_said(words: tuple[str, ...], said: str):
    result = invoke(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_a_command_without_events_makes_no_file(folder: Path):
    assert invoke("--audit-log", str(folder), "keygen").exit_code == 0
    assert files_in(folder) == []


def test_a_program_writes_a_file_of_its_own(request: pytest.FixtureRequest, folder: Path, sealer: Sealer):
    place = new_place("sqlite", request)
    filled(place, {SESSION: [sealer.ok("kept")]})
    words = [warm_programs.COMMAND, "--audit-log", str(folder), *arguments_for(place, "verify")]
    program = warm_programs.Program(words, env={**os.environ, **environment_of(place, sealer)})
    stdout, stderr = program.communicate(timeout=60)
    assert program.returncode == 0, stdout + stderr
    assert [line["phase"] for line in said_in(folder) if line["event"] == "run"] == ["start", "end"]
    assert lines_in(folder)[-1]["event"] == "end"

"""The demo: that it shows what it says, finds out if it does not, and gives nothing away."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import session
from encrypted_sessions.demo import conversation as demo
from encrypted_sessions.demo import steps as demo_steps
from encrypted_sessions.demo import store as demo_store
from encrypted_sessions.demo import story as demo_story
from keyproviders import Key

PASSWORD = "".join(("open", "-", "sesame"))

Report = dict[str, Any]


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's folder lies in the test's: so it shows whether the demo removes it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("ENCRYPTED_SESSIONS_KEYS", raising=False)


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "temporary").iterdir())


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """The keys that the demo makes."""
    keys: list[Key] = []
    generate = Key.generate

    def remember(name: str | None = None) -> Key:
        keys.append(generate(name))
        return keys[-1]

    monkeypatch.setattr(Key, "generate", remember)
    return keys


def assert_no_secret(text: str, *keys: Key) -> None:
    for key in keys:
        secret = key.secret
        for form in (secret.hex(), base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode()):
            assert form.rstrip("=") not in text


# -- The whole, as a user runs it -------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    """The installed command."""
    script = shutil.which("encrypted-sessions", path=str(Path(sys.executable).parent))
    assert script is not None
    return [script, "demo", *arguments]


@pytest.mark.long
def test_the_demo_holds_what_it_promises_and_leaves_nothing_behind(tmp_path: Path):
    done = subprocess.run(command(), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    chapters = re.findall(r"^\d\. (.+)$", done.stdout, re.MULTILINE)
    assert chapters == [
        "An agent holds a conversation",
        "It is stopped, and started again",
        "The key rotates",
        "Old items expire",
        "A wrong key explains itself",
    ]
    assert "All 11 checks passed" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    assert not re.search("(?i)warning|traceback", done.stdout)
    assert left_behind(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.long
def test_keys_of_the_user_are_used_and_a_store_of_the_user_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    key = Key.generate("mine")
    monkeypatch.setenv("KEYS_OF_THIS_TEST", f"mine={key.reveal_base64()}")
    # A project may have a folder named like the SDK's package: nothing of it is to be imported.
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("raise SystemExit('the wrong agents')")
    arguments = command("--keys", "env:KEYS_OF_THIS_TEST", "--store", "kept.db")
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"env:KEYS_OF_THIS_TEST; the active one is {key.kid}." in done.stdout
    assert "Left out: rotation and a wrong key" in done.stdout
    assert "are still in kept.db." in done.stdout
    assert_no_secret(done.stdout, key)
    assert left_behind(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / "kept.db")) as connection:
        rows = [row for (row,) in connection.execute("SELECT message_data FROM agent_messages")]
    assert len(rows) == 8
    assert {json.loads(row)["kid"] for row in rows} == {key.kid}


@pytest.mark.parametrize("which", ["SIGINT", "SIGTERM"])
def test_an_interrupted_demo_says_so_and_leaves_nothing_behind(tmp_path: Path, which: str):
    started = subprocess.Popen(
        command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert started.stdout is not None
    while "1. " not in started.stdout.readline():
        assert started.poll() is None
    # Ctrl-C reaches every process of the terminal; a supervisor tells the command alone.
    if which == "SIGINT":
        os.killpg(started.pid, signal.SIGINT)
    else:
        started.send_signal(signal.SIGTERM)
    _, stderr = started.communicate(timeout=60)
    assert (started.returncode, stderr) == (3, "Interrupted.\n")
    assert left_behind(tmp_path) == []


# -- The story in one process: the steps are real, their processes are not --------------------


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Report], object]], None]:
    """Runs the steps here, with a clock that takes an hour's leap before items shall expire.

    The function given spoils the report of one step.
    """
    spoil: dict[str, Callable[[Report], object]] = {}
    pids = itertools.count(1)
    ahead = 0
    monkeypatch.setattr(session, "_now", lambda: time.time() + ahead)

    def run_here(story: Any, step: str) -> subprocess.CompletedProcess[str]:
        nonlocal ahead
        ahead = 3600 if step == "expire" else ahead
        entries = ",".join(f"{key.name}={key.reveal_base64()}" for key in story.keys)
        monkeypatch.setenv(demo_steps.KEYS_VARIABLE, entries)
        report = {"pid": next(pids), **asyncio.run(demo_steps.STEPS[step](story.settings))}
        report = json.loads(json.dumps(report))
        spoil.get(step, lambda _: None)(report)
        code = demo_steps.CUT_OFF_CODE if step == demo_steps.CUT_OFF else 0
        return subprocess.CompletedProcess([], code, json.dumps(report), "")

    monkeypatch.setattr(demo_story.Story, "_run", run_here)
    return spoil.__setitem__


def test_the_story_gives_no_key_away(doctor: object, generated: list[Key], capsys: pytest.CaptureFixture[str]):
    demo.run(None, None)
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    assert [key.name for key in generated] == ["first", "second", "other"]
    for key in generated:
        assert key.kid in stdout
    assert_no_secret(stdout, *generated)


def in_the_clear(report: Report) -> None:
    report["rows"][-1] = report["bare_row"]


def with_a_word_beside_the_payload(report: Report) -> None:
    report["rows"][0] = json.dumps({**json.loads(report["rows"][0]), "note": "for Rosalind"})


def with_another_kid(report: Report) -> None:
    report["rows"][-1] = json.dumps({**json.loads(report["rows"][-1]), "kid": "first~00000000"})


@pytest.mark.parametrize(
    ("step", "spoil", "words"),
    [
        ("start", in_the_clear, "not sealed with the active key"),
        ("start", lambda report: report["rows"].pop(), "not sealed with the active key"),
        ("start", with_a_word_beside_the_payload, "can be read in the store"),
        ("go-on", lambda report: report["before"].pop(), "finds another history"),
        ("go-on", lambda report: report.update(pid=1), "finds another history"),
        ("go-on", lambda report: report["turn"].update(shown_to_model=1), "not shown the history"),
        ("go-on", lambda report: report["turn"].update(agent="I know of no booking."), "not shown the history"),
        ("rotate", lambda report: report["before"].pop(0), "no longer open"),
        ("rotate", lambda report: report["rows"].reverse(), "were changed"),
        ("rotate", with_another_kid, "not sealed with the new key"),
        ("expire", lambda report: report["outcomes"].update(ok=1), "not all items count as expired"),
        ("expire", lambda report: report["turn"].update(shown_to_model=3), "was shown expired items"),
        ("mistake", lambda report: report.update(outcomes=None), "the outcomes are None"),
        ("mistake", lambda report: report["rows"].pop(), "changed rows"),
    ],
)
def test_a_claim_that_is_not_so_ends_the_demo(
    step: str,
    spoil: Callable[[Report], object],
    words: str,
    doctor: Callable[[str, Callable[[Report], object]], None],
    tmp_path: Path,
):
    doctor(step, spoil)
    with pytest.raises(demo.ClaimError, match=words):
        demo.run(None, None)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("store", ["file", "sqlalchemy"])
def test_the_story_can_be_told_in_a_file_of_the_user(
    store: str, doctor: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "kept.db"
    demo.run(None, str(path) if store == "file" else f"sqlite+aiosqlite:///{path}")
    assert "All 11 checks passed" in capsys.readouterr().out
    assert path.exists()


def test_the_story_can_be_told_in_postgres(doctor: object, postgres_url: str, capsys: pytest.CaptureFixture[str]):
    demo.run(None, postgres_url)
    assert "All 11 checks passed" in capsys.readouterr().out


def test_the_story_can_be_told_in_redis(doctor: object, redis_url: str, capsys: pytest.CaptureFixture[str]):
    demo.run(None, redis_url)
    assert "All 11 checks passed" in capsys.readouterr().out


# -- What the processes are given, and how they fail ------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The arguments and environments of the processes that the demo would start. Each answers at once."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run(arguments: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append((arguments, env))
        return subprocess.CompletedProcess(arguments, 1, json.dumps({"failed": f"no {PASSWORD} fits"}), "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_secrets_travel_in_the_environment_and_never_as_arguments(
    started: list[tuple[list[str], dict[str, str]]], generated: list[Key], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(demo.DemoError) as caught:
        demo.run(None, f"redis://:{PASSWORD}@127.0.0.1:1/0")
    [(arguments, environment)] = started
    assert arguments == [sys.executable, "-m", "encrypted_sessions.demo.steps", "start"]
    assert generated[0].reveal_base64() in environment[demo_steps.KEYS_VARIABLE]
    assert PASSWORD in environment[demo_steps.SETTINGS_VARIABLE]
    assert PASSWORD not in "".join([str(caught.value), *capsys.readouterr()])


def test_a_step_that_fails_is_told_with_the_store_and_what_to_check(
    started: list[tuple[list[str], dict[str, str]]],
):
    with pytest.raises(
        demo.DemoError, match=r"step 'start' failed with the store redis://127.0.0.1:1/0: no \*\*\* fits"
    ):
        demo.run(None, f"redis://:{PASSWORD}@127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (subprocess.CompletedProcess([], 1, "", "Traceback ...\nMemoryError: too much\n"), "MemoryError: too much"),
        (subprocess.CompletedProcess([], -11, "", ""), "it ended with -11"),
        (subprocess.CompletedProcess([], 0, "{}", ""), "ended with 0, which it should not"),
        (subprocess.TimeoutExpired([], 1), "did not end within 120 s"),
    ],
)
def test_a_process_that_ends_otherwise_is_an_error(
    answer: subprocess.CompletedProcess[str] | Exception, words: str, monkeypatch: pytest.MonkeyPatch
):
    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(demo.DemoError, match=re.escape(words)):
        demo.run(None, None)


def test_what_a_step_warns_of_reaches_the_user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    answer = subprocess.CompletedProcess([], 0, "{}", "RuntimeWarning: an old SDK\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(demo.DemoError):
        demo.run(None, None)
    assert capsys.readouterr().err == "RuntimeWarning: an old SDK\n"


def test_without_the_sdk_the_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(demo.DemoError, match=r"pip install 'encrypted-sessions\[agents\]'"):
        demo.run(None, None)


@pytest.mark.parametrize(("store", "extra"), [("postgresql+asyncpg://host/db", "sql"), ("redis://host", "redis")])
def test_without_the_packages_of_a_store_the_demo_says_what_to_install(
    store: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo_store, "find_spec", lambda _: None)
    with pytest.raises(demo.DemoError, match=rf"pip install 'encrypted-sessions\[{extra}\]'"):
        demo.run(None, store)


# -- One step's process -----------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> demo_steps.Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(demo_steps.KEYS_VARIABLE, f"first={Key.generate().reveal_base64()}")
    return demo_steps.Settings(
        keys=f"env:{demo_steps.KEYS_VARIABLE}",
        store=str(tmp_path / "demo.db"),
        session_id="demo-1",
        folder=str(tmp_path),
        started_in=str(tmp_path),
    )


def report_of(
    step: str, told: demo_steps.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, Report]:
    for name, value in told.to_environment().items():
        monkeypatch.setenv(name, value)
    code = demo_steps.main(step)
    return code, json.loads(capsys.readouterr().out)


def test_the_first_step_is_killed_once_it_has_reported(
    settings: demo_steps.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    _, report = report_of("start", settings, monkeypatch, capsys)
    assert killed == [report["pid"]] == [os.getpid()]
    assert len(report["rows"]) == 4
    assert "Rosalind" in report["bare_row"]


def test_no_other_step_is_killed(
    settings: demo_steps.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, report = report_of("go-on", settings, monkeypatch, capsys)
    assert code == 0
    assert report["turn"]["agent"] == "I know of no booking."  # nothing was said before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("cannot reach open-sesame"), "OSError: cannot reach ***"),
        (ValueError("one\ntwo"), "ValueError: one"),
        (ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg"), "pip install asyncpg"),
        (ModuleNotFoundError("No module named 'agents.testing'", name="agents.testing"), "encrypted-sessions[agents]"),
    ],
)
def test_a_step_that_fails_reports_a_sentence_without_the_password(
    error: Exception,
    words: str,
    settings: demo_steps.Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    async def fail(_: object) -> Report:
        raise error

    monkeypatch.setitem(demo_steps.STEPS, "go-on", fail)
    told = demo_steps.Settings(
        settings.keys, f"redis://:{PASSWORD}@host", settings.session_id, settings.folder, settings.started_in
    )
    code, report = report_of("go-on", told, monkeypatch, capsys)
    assert code == 1
    assert words in report["failed"]


def test_an_unreachable_key_is_told_in_its_own_words(
    settings: demo_steps.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv(demo_steps.KEYS_VARIABLE)
    code, report = report_of("go-on", settings, monkeypatch, capsys)
    assert code == 1
    assert report["failed"].startswith(f"the environment variable {demo_steps.KEYS_VARIABLE} is not set")


# -- The names of stores ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("demo.db", "demo.db"),
        ("C:\\demo@home.db", "C:\\demo@home.db"),
        ("sqlite+aiosqlite:////var/demo.db", "sqlite+aiosqlite:////var/demo.db"),
        (f"postgresql+asyncpg://me:{PASSWORD}@host:5432/db", "postgresql+asyncpg://host:5432/db"),
        (f"postgresql+asyncpg://host/db?user=me&password={PASSWORD}", "postgresql+asyncpg://host/db"),
        (f"redis://:{PASSWORD}@host:6379/0", "redis://host:6379/0"),
        (f"redis://me:{PASSWORD}/@host", "redis://..."),
        (f"redis://me:p@{PASSWORD}@host", "redis://..."),
        (f"redis://me:p#{PASSWORD}@host", "redis://..."),
        (f"redis://me:p?{PASSWORD}@host", "redis://..."),
        (f"unix://me:{PASSWORD}@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_store_is_shown_without_what_is_secret(store: str, shown: str):
    assert demo_store.shown(store) == shown


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ("postgresql+asyncpg://me:a%40b%2Fc@host/db", "no user me with a@b/c, that is a%40b%2Fc"),
        ("redis://host/0?password=a%40b%2Fc", "refused: a@b/c"),
        ("redis://:x@y@host/0", "refused: x@y"),
    ],
)
def test_what_others_say_is_shown_without_the_password(store: str, text: str):
    assert "a@b" not in demo_store.without_secrets(text, store)
    assert "a%40b" not in demo_store.without_secrets(text, store)
    assert "x@y" not in demo_store.without_secrets(text, store)


@pytest.mark.parametrize("store", ["demo.db", "./a/b.sqlite", "C:\\demo.db", "C:/demo.db", "sqlite+aiosqlite:///x.db"])
def test_paths_and_urls_pass_for_stores(store: str):
    assert demo_store.problem_with(store) is None

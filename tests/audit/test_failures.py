"""Disks that are full, files that are gone: what goes on, what is refused, and what is told."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSessionError
from encrypted_sessions.audit import AuditFailedError, AuditLog
from encrypted_sessions_tests.audit_files import event, files_in, lines_in, read_event, said_in, verdict_of
from encrypted_sessions_tests.small_disk import small_disk

NewLog = Callable[..., AuditLog]


def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


@pytest.fixture
def disk(folder: Path) -> Iterator[Callable[[str], None]]:
    with small_disk(folder, "8k") as resize:
        yield resize


# -- "refuse" -----------------------------------------------------------------------------------------


def test_before_a_change_there_is_a_line_of_intent_and_after_it_one_of_its_result(folder: Path, new_log: NewLog):
    log = new_log(on_failure="refuse", session_ids="plain")
    log.before(event(3, uses=(), context={"actor": "u-17"})).result()
    (intent,) = said_in(folder)
    assert {name: intent[name] for name in intent if name not in ("n", "prev", "at")} == {
        "event": "intent",
        "sequence": 3,
        "operation": "add_items",
        "session": "user-1",
        "store": "SQLiteSession",
        "context": {"actor": "u-17"},
    }
    log.after(event(3)).result()
    assert [(line["event"], line["sequence"]) for line in said_in(folder)] == [("intent", 3), ("session", 3)]


def test_what_cannot_be_written_is_refused_before_and_in_doubt_after(
    folder: Path, new_log: NewLog, disk: Callable[[str], None]
):
    log = new_log(on_failure="refuse")
    sequence = 0
    refused: AuditFailedError | None = None
    while refused is None:  # until the disk is full
        sequence += 1
        try:
            log.before(event(sequence)).result()
        except AuditFailedError as error:
            refused = error
    assert not refused.in_doubt
    assert "No space left on device. Nothing was done" in str(refused)
    with pytest.raises(AuditFailedError) as after_a_refusal:
        log.after(event(sequence, error="AuditFailedError")).result()
    assert not after_a_refusal.value.in_doubt
    with pytest.raises(AuditFailedError) as after_a_change:
        log.after(event(sequence - 1)).result()
    assert after_a_change.value.in_doubt
    with pytest.raises(AuditFailedError) as after_a_read:
        log.after(read_event(sequence + 1)).result()
    assert not after_a_read.value.in_doubt
    disk("1m")
    log.after(read_event(sequence + 2)).result()
    log.close()
    verdict = verdict_of(folder)
    assert (verdict.problem, verdict.lost) == (None, 4)  # no line was left in part
    assert [line["sequence"] for line in said_in(folder) if line["event"] == "session"] == [sequence + 2]


def test_who_waits_for_a_disk_that_hangs_is_let_go_and_the_event_loop_goes_on(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    hangs, write = threading.Event(), os.write

    def hanging(descriptor: int, data: Any) -> int:
        hangs.wait(30)
        return write(descriptor, data)

    monkeypatch.setattr("encrypted_sessions.audit.files.os.write", hanging)
    monkeypatch.setattr("encrypted_sessions.audit.log._REFUSED_AFTER_S", 0.1)
    log = new_log(on_failure="refuse")

    async def wait() -> None:
        answer = log.before(event())
        with pytest.raises(AuditFailedError, match="did not answer"):
            await asyncio.wrap_future(answer)

    try:
        asyncio.run(wait())
        with pytest.raises(AuditFailedError, match="did not answer"):
            log.before(event(2)).result()
    finally:
        hangs.set()


def test_with_continue_nobody_waits_long_and_the_loop_not_at_all(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    hangs, write = threading.Event(), os.write

    def hanging(descriptor: int, data: Any) -> int:
        hangs.wait(30)
        return write(descriptor, data)

    monkeypatch.setattr("encrypted_sessions.audit.files.os.write", hanging)
    monkeypatch.setattr("encrypted_sessions.audit.log._LET_GO_AFTER_S", 0.05)
    log = new_log()

    async def use() -> None:
        assert not log.refuses
        log(event(1))
        assert log.refuses  # for the line before is not written
        answer = log.after(event(2))
        await asyncio.wrap_future(answer)  # which is let go of
        assert not log.refuses  # and nobody waits again before the disk answers

    try:
        asyncio.run(use())
        log.before(event(3)).result(0)  # nothing is written before
    finally:
        hangs.set()
    log.close()
    assert [line["sequence"] for line in said_in(folder)] == [1, 2]


def test_after_its_end_it_refuses(folder: Path, new_log: NewLog, caplog: pytest.LogCaptureFixture):
    log = new_log(on_failure="refuse")
    log.close()
    log.close()
    with pytest.raises(AuditFailedError, match="it is closed"):
        log.before(event()).result()
    assert log.lines_lost == 1
    assert "it is closed" in caplog.text


# -- "continue" ---------------------------------------------------------------------------------------


def test_a_full_disk_is_told_once_a_minute_counted_and_noted_when_there_is_room_again(
    folder: Path, new_log: NewLog, disk: Callable[[str], None], caplog: pytest.LogCaptureFixture
):
    log = new_log()
    for sequence in range(1, 101):
        log(event(sequence))
    until(lambda: not log.refuses)
    assert log.lines_lost > 20
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("the audit log cannot be written: No space left on device. ")
    assert record.audit_file == files_in(folder)[0]  # type: ignore[attr-defined]  # of `extra`
    disk("1m")
    log(event(101))
    log.close()
    *written, note, last = said_in(folder)
    assert (note["event"], note["lines"], last["sequence"]) == ("lost", log.lines_lost, 101)
    assert len(written) + log.lines_lost == 100
    verdict = verdict_of(folder)
    assert (verdict.problem, verdict.closed, verdict.lost) == (None, True, log.lines_lost)


def test_a_line_that_was_written_in_part_is_taken_back(folder: Path, tmp_path: Path):
    """By a limit on the size of files, which cuts a line in its midst."""
    program = f"""
import resource, sys
from encrypted_sessions.audit import AuditLog
from encrypted_sessions_tests.audit_files import event
log = AuditLog({str(folder)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for sequence in range(1, 11):
    log(event(sequence))
    while log.refuses:
        pass
lost = log.lines_lost
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
log.close()
print(lost)
"""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=paths)
    verdict = verdict_of(folder)
    assert verdict.problem is None
    assert verdict.closed
    assert verdict.lost == int(done.stdout) > 0


def _moved(file: str) -> None:
    Path(file).rename(f"{file}.1")


def _replaced(file: str) -> None:
    Path(f"{file}.new").write_bytes(Path(file).read_bytes())
    Path(f"{file}.new").rename(file)


def _emptied(file: str) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize("take", [_moved, _replaced, _emptied, os.unlink])
def test_a_file_that_is_gone_is_a_failure_and_then_there_is_another_one(
    folder: Path, new_log: NewLog, take: Callable[[str], None]
):
    log = new_log(on_failure="refuse")
    log.before(event(1)).result()
    (file,) = files_in(folder)
    take(file)
    with pytest.raises(AuditFailedError, match=r"no longer at its path|there is another file|somebody else changed"):
        log.after(event(1)).result()
    log.before(event(2)).result()
    assert lines_in(folder)[-1]["n"] == 5  # begin, intent; begin, lost, intent
    log.close()
    files = [*files_in(folder), *map(str, folder.glob("*.1"))]
    from encrypted_sessions.audit.verification import verify_files

    problems = [verdict.problem for verdict in verify_files(files) if verdict.problem]
    assert bool(problems) == (take in (_emptied, os.unlink))  # what was moved is still there to be verified


def test_with_continue_a_file_is_looked_for_once_a_second(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.audit.journal._LOOK_S", 0.0)
    log = new_log()
    log(event(1))
    until(lambda: not log.refuses)
    Path(files_in(folder)[0]).unlink()
    log(event(2))
    until(lambda: log.lines_lost)
    log(event(3))
    log.close()
    assert [line["event"] for line in lines_in(folder)] == ["begin", "lost", "session", "end"]


def test_a_folder_that_is_gone_is_a_failure_until_it_is_back(folder: Path, new_log: NewLog):
    log = new_log(on_failure="refuse")
    log.before(event(1)).result()
    shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(AuditFailedError, match=r"no longer at its path|No such file"):
            log.before(event(2)).result()
    folder.mkdir(mode=0o700)
    log.before(event(3)).result()
    assert [line["event"] for line in lines_in(folder)] == ["begin", "lost", "intent"]


def test_a_disk_that_can_be_read_only_is_a_failure(folder: Path, new_log: NewLog, disk: Callable[[str], None]):
    log = new_log(on_failure="refuse")
    log.before(event(1)).result()
    for mode, words in (("ro", "Read-only file system"), ("rw", None)):
        subprocess.run(["mount", "-o", f"remount,{mode}", folder], check=False, capture_output=True)
        if words is not None and os.statvfs(folder).f_flag & os.ST_RDONLY == 0:
            # A file that is open for writing keeps the file system from it; so a new log tries.
            log.close()
            subprocess.run(["mount", "-o", f"remount,{mode}", folder], check=True)
            log = new_log(on_failure="refuse")
        if words is None:
            log.before(event(2)).result()
        else:
            with pytest.raises(AuditFailedError, match=words):
                log.before(event(2)).result()


def test_a_disk_that_fails_to_keep_what_it_took_is_not_trusted_again(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    log = new_log(on_failure="refuse", sync="always")
    log.before(event(1)).result()
    with monkeypatch.context() as context:

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        context.setattr("encrypted_sessions.audit.files.os.fsync", fail)
        with pytest.raises(AuditFailedError, match="Input/output error"):
            log.after(event(1)).result()
    log.before(event(2)).result()
    log.close()
    assert len(files_in(folder)) == 2
    assert verdict_of(folder).problem is None


def test_lines_that_wait_are_bounded(folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encrypted_sessions.audit.writer.MOST_WAITING", 5)
    hangs, write = threading.Event(), os.write

    def hanging(descriptor: int, data: Any) -> int:
        hangs.wait(30)
        return write(descriptor, data)

    monkeypatch.setattr("encrypted_sessions.audit.files.os.write", hanging)
    log = new_log()
    try:
        for sequence in range(1, 9):
            log(event(sequence))
    finally:
        hangs.set()
    log.close()
    assert log.lines_lost == 3
    assert [line["lines"] for line in said_in(folder) if line["event"] == "lost"] == [3]


def test_the_error_is_one_of_this_library_and_crosses_processes():
    import pickle

    error = pickle.loads(pickle.dumps(AuditFailedError("no", in_doubt=True)))  # noqa: S301 - its own
    assert isinstance(error, EncryptedSessionError)
    assert (str(error), error.in_doubt) == ("no", True)

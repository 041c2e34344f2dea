"""Processes that are killed, and such that fork."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from encrypted_sessions.audit import AuditLog
from encrypted_sessions.audit.verification import verify_files
from encrypted_sessions_tests.audit_files import event, files_in, lines_in
from encrypted_sessions_tests.audit_fork_harness import run
from encrypted_sessions_tests.soak import Rounds, Seed
from encrypted_sessions_tests.stores import new_place

NewLog = Callable[..., AuditLog]
KILLS = 100


@pytest.mark.parametrize("few", [pytest.param(True, id="few rounds"), pytest.param(False, marks=pytest.mark.soak)])
def test_a_kill_loses_the_last_line_at_most_and_the_verdict_says_where(
    request: pytest.FixtureRequest, folder: Path, tmp_path: Path, rounds: Rounds, seed: Seed, few: bool
):
    place = new_place("sqlite", request)
    kills = rounds.of(KILLS)
    said = run(place, tmp_path / "children.log", folder, rounds=kills, seed=seed)
    pids = {words[0]: words[2] for words in said if words[1] == "began"}
    done = Counter(words[0] for words in said if words[1] == "done")
    assert len(pids) == kills + 1
    lines = [line for line in lines_in_all(folder) if line.get("operation") in ("add_items", "get_items")]
    written = Counter(line["session"] for line in lines)
    for child, pid in pids.items():
        assert written[f"child-{child}"] >= done[child] - 1, f"child {child} lost more than its last line"
        files = [file for file in files_in(folder) if f"-{pid}-" in Path(file).name]
        for verdict in verify_files(files):
            assert verdict.problem is None or "is cut off" in verdict.problem or "is empty" in verdict.problem
            assert verdict.closed == (child == "0")
        assert files
    assert sum(done.values()) > kills or not rounds.many, "many were killed in the midst"


def lines_in_all(folder: Path) -> list[dict[str, object]]:
    """All whole lines."""
    import json

    lines = [line for file in files_in(folder) for line in Path(file).read_bytes().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def test_a_forked_child_begins_a_file_of_its_own(folder: Path, new_log: NewLog):
    log = new_log()
    log(event(1))
    pid = os.fork()
    if not pid:
        status = 1
        try:
            log(event(2))
            log.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    log(event(3))
    log.close()
    verdicts = verify_files(files_in(folder))
    assert [(verdict.problem, verdict.closed, verdict.lines) for verdict in verdicts] in (
        [(None, True, 4), (None, True, 3)],
        [(None, True, 3), (None, True, 4)],
    )
    ours, theirs = (
        [line["sequence"] for line in lines_in(folder) if line["event"] == "session" and (line["prev"] in known)]
        for known in _prevs_by_pid(folder, os.getpid(), pid)
    )
    assert (ours, theirs) == ([1, 3], [2])


def _prevs_by_pid(folder: Path, *pids: int) -> list[set[str]]:
    import json

    found = []
    for pid in pids:
        files = [file for file in files_in(folder) if f"-{pid}-" in Path(file).name]
        found.append({json.loads(line)["prev"] for file in files for line in Path(file).read_bytes().splitlines()})
    return found


def test_a_forked_child_that_says_nothing_makes_no_file(folder: Path, new_log: NewLog):
    log = new_log(on_failure="refuse")
    log.before(event(1)).result()
    pid = os.fork()
    if not pid:
        log.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(files_in(folder)) == 1
    log.after(event(1)).result()  # the parent's goes on

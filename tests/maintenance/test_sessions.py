"""The list of sessions: pages in the order of ids, by labels alone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from typer.testing import Result

from encrypted_sessions.maintenance._sessions import list_sessions
from encrypted_sessions_tests.maintenance_command import filled, run
from encrypted_sessions_tests.sealed_rows import AGE, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import fill, whole

LONG_AGO = 100 * 86_400


def listed(result: Result) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    assert result.exit_code == 0, result.output
    *lines, report = map(json.loads, result.stdout.splitlines())
    assert {line.pop("event") for line in lines} <= {"session"}
    return lines, report


def test_sessions_are_listed_by_page_with_what_their_labels_say(place: StoreLocation, sealer: Sealer):
    now = int(time.time())
    old, both = sealer.row(message("old"), sealer.older, age=LONG_AGO), sealer.ok("new")
    filled(place, {"b": [old, both], "B": [old], "a": ["{}", "no row"], "é": [both]})
    lines, report = listed(run(place, None, "sessions", "--json"))
    assert [line["session_id"] for line in lines] == ["B", "a", "b", "é"]
    assert [line["rows"] for line in lines] == [1, 2, 2, 1]
    assert lines[2]["kids"] == sorted([sealer.active.kid, sealer.older.kid])
    assert (lines[1]["oldest"], lines[1]["newest"], lines[1]["kids"]) == (None, None, [])
    then = time.strftime("%Y-%m-%dT%H:", time.gmtime(now - LONG_AGO))
    assert lines[0]["oldest"].startswith(then) or now % 3600 < 60
    assert lines[0]["oldest"].endswith("Z")
    assert (report["sessions"], report["rows"], report["after"], report["command"]) == (4, 6, None, "sessions")

    lines, report = listed(run(place, None, "sessions", "--limit", "3", "--json"))
    assert ([line["session_id"] for line in lines], report["after"]) == (["B", "a", "b"], "b")
    lines, report = listed(run(place, None, "sessions", "--limit", "3", "--after", "b", "--json"))
    assert ([line["session_id"] for line in lines], report["after"]) == (["é"], None)
    assert "There may be more: --after B" in run(place, None, "sessions", "--limit", "1").stdout

    old_ones, _ = listed(run(place, None, "sessions", "--older-than", "90d", "--json"))
    assert [line["session_id"] for line in old_ones] == ["B"]
    by_kid, _ = listed(run(place, None, "sessions", "--kid", sealer.active.kid, "--session-prefix", "b", "--json"))
    assert [line["session_id"] for line in by_kid] == ["b"]


async def test_a_page_of_those_that_fit_says_whether_there_are_more(file: StoreLocation, sealer: Sealer):
    names = [f"user-{number:03}" for number in range(120)]
    rows = {name: [sealer.row(message("a"), age=LONG_AGO if name < "user-115" else AGE)] for name in names}
    await fill(file, rows)
    async with whole(file) as store:
        found, after = [], None
        while True:
            page = await list_sessions(store, older_than_s=86_400.0, limit=50, after=after)
            found += [one.session_id for one in page.sessions]
            after = page.after
            if after is None:
                break
        assert found == names[:115]
        assert (await list_sessions(store, session_prefix="nobody")).sessions == ()


def test_no_such_session_is_said_and_nothing_a_terminal_obeys_is_printed(file: StoreLocation):
    filled(file, {"\x1b[2J": ["{}"]})
    assert "There are no such sessions" in run(file, None, "sessions", "--session-prefix", "a").stdout
    shown = run(file, None, "sessions", "--limit", "1").stdout
    assert "\x1b" not in shown
    assert "'\\x1b[2J'" in shown
    assert "no row was opened" in " ".join(shown.split())


@pytest.mark.parametrize(
    "more",
    [["--session-prefix", ""], ["--older-than", "soon"], ["--kid", "no kid"], ["--limit", "0"], ["--after", ""]],
)
def test_wrong_arguments_are_wrong_use(file: StoreLocation, more: list[str]):
    filled(file, {"a": ["{}"]})
    assert run(file, None, "sessions", *more).exit_code == 2

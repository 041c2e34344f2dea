"""A person is erased: by a prefix or a file, with the number that the dry run named, and a report that is evidence."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import asyncio
import getpass
import json
import os
import random
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.errors import StoreUnavailableError
from encrypted_sessions.maintenance import erase
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.maintenance_command import filled, report_of, run, start
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import MAINTAINED, fill, make_tables, whole

#: user-7 is a prefix of user-70.
IDS = ["user-7", "user-7/a", "user-70", "user-8"]
ROWS = {one: ["{}", "{}"] for one in IDS}


def at(place: StoreLocation) -> list[int]:
    return [len(asyncio.run(raw_rows(place, one))) for one in IDS]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def erased_in(path: Path) -> list[str]:
    return [line["session_id"] for line in lines_of(path) if line["event"] == "erased"]


# -- Expected numbers -------------------------------------------------------------------------------


def test_a_prefix_goes_with_the_number_that_the_dry_run_named(place: StoreLocation):
    filled(place, ROWS)
    dry = run(place, None, "erase", "--session-prefix", "user-7")
    assert "of 3 sessions would be" in " ".join(dry.stdout.split())
    assert "--yes --expect 3," in " ".join(dry.stdout.split())
    for wrong in ([], ["--expect", "2"], ["--expect", "4"]):
        result = run(place, None, "erase", "--session-prefix", "user-7", "--yes", *wrong)
        assert result.exit_code == (1 if wrong else 2), result.output
        assert at(place) == [2, 2, 2, 2]
    assert "3 sessions are there, or in the report file, and 4 were expected: nothing was erased" in " ".join(
        result.stdout.split()
    )
    result = run(place, None, "erase", "--session-prefix", "user-7/", "--yes", "--expect", "1", "--json")
    assert (report_of(result)["stopped"], result.exit_code) == (None, 0)
    assert at(place) == [2, 0, 2, 2]


def test_what_was_named_and_is_not_there_is_not_well_and_the_others_go(place: StoreLocation, tmp_path: Path):
    filled(place, ROWS)
    (tmp_path / "ids").write_text("user-7\nnobody\n", encoding="utf-8")
    file = ("--sessions-from", str(tmp_path / "ids"), "--expect", "1", "--yes")
    result = run(place, None, "erase", *file)
    assert result.exit_code == 1
    assert "No trace was found of these sessions: nobody." in " ".join(result.stdout.split())
    assert at(place) == [0, 2, 2, 2]
    assert run(place, None, "erase", "--session", "user-7", "--session", "user-8", "--yes").exit_code == 1
    assert at(place) == [0, 2, 2, 0]
    assert run(place, None, "erase", "--session", "user-7", "--missing-ok", "--yes").exit_code == 0
    for more, code in (([], 1), (["--missing-ok"], 0)):
        result = run(place, None, "erase", "--session-prefix", "none", "--expect", "0", "--yes", *more)
        assert result.exit_code == code, result.output


async def test_the_function_needs_the_number_for_a_prefix_too(file: StoreLocation):
    await fill(file, ROWS)
    async with whole(file) as store:
        with pytest.raises(ValueError, match="expect"):
            await erase(store, session_prefix="user-7")
        with pytest.raises(ValueError, match="no session is named"):
            await erase(store)
        with pytest.raises(TypeError, match="expect must be an int of sessions"):
            await erase(store, IDS, expect="4")  # type: ignore[arg-type]
        report = await erase(store, IDS, expect=3)
        assert (report.ok, report.stopped, report.named, report.changed) == (False, "expect", 4, 0)
        report = await erase(store, session_prefix="user-7", expect=3)
        assert (report.ok, report.sessions, report.named) == (True, 3, 3)


# -- The report -------------------------------------------------------------------------------------


def test_the_report_says_who_erased_what_when_and_what_it_cannot_reach(place: StoreLocation, tmp_path: Path):
    filled(place, ROWS)
    file = tmp_path / "erased.jsonl"
    erasing = ("erase", "--session-prefix", "user-7", "--report", str(file))
    assert report_of(run(place, None, *erasing, "--json"))["named"] == 3
    assert not file.exists(), "a dry run makes no file"
    result = run(place, None, *erasing, "--yes", "--expect", "3", "--json")
    assert result.exit_code == 0, result.output
    report, (begun, *lines, end) = report_of(result), lines_of(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (begun["event"], begun["what"], begun["expect"]) == ("run", {"session_prefix": "user-7"}, 3)
    assert (begun["host"], begun["user"], begun["store"]) == (socket.gethostname(), getpass.getuser(), report["store"])
    assert begun["at"].endswith("Z")
    assert begun["version"]
    assert erased_in(file) == IDS[:3]
    assert all(sum(line["rows"].values()) >= 2 for line in lines if line["event"] == "erased")
    assert (end["event"], end["sessions"], end["missing"]) == ("end", 3, 0)
    assert end["not_reached"] == report["not_reached"]
    assert any("backups" in sentence or "dumps" in sentence for sentence in end["not_reached"])

    # What stands there is not missing, and counts.
    again = run(place, None, *erasing, "--yes", "--expect", "3")
    assert again.exit_code == 0, again.output
    assert erased_in(file) == IDS[:3]
    assert run(place, None, "erase", "--session", "user-7", "--report", str(file), "--yes").exit_code == 0
    assert run(place, None, "erase", "--session", "user-7", "--yes").exit_code == 1


def test_the_report_names_the_export_as_a_copy_that_remains(file: StoreLocation, tmp_path: Path):
    filled(file, ROWS)
    report, export = tmp_path / "erased.jsonl", tmp_path / "copy.jsonl"
    more = ("--session-prefix", "user-7", "--expect", "3", "--report", str(report), "--export", str(export), "--yes")
    result = run(file, None, "erase", *more)
    assert result.exit_code == 0, result.output
    assert len(export.read_text(encoding="utf-8").splitlines()) == 6 + 1
    assert f"the file {export}, a copy of their rows" in lines_of(report)[-1]["not_reached"][0]
    assert at(file) == [0, 0, 0, 2]


def test_a_file_that_is_no_report_of_this_store_is_refused(file: StoreLocation, tmp_path: Path):
    filled(file, ROWS)
    report = tmp_path / "erased.jsonl"
    assert run(file, None, "erase", "--session", "user-8", "--report", str(report), "--yes").exit_code == 0
    lines = report.read_bytes().splitlines(keepends=True)
    begun = json.loads(lines[0])
    for content, words in (
        (b'{"event": "discard"}\n', "is no record of erase"),
        (b"\xff\n", "has a line that no erase wrote"),
        (json.dumps({**begun, "store": "another"}).encode() + b"\n", "is of another store"),
    ):
        report.write_bytes(content)
        result = run(file, None, "erase", "--session", "user-7", "--report", str(report), "--yes")
        assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True), result.output
        assert report.read_bytes() == content
    os.mkfifo(tmp_path / "pipe")
    result = run(file, None, "erase", "--session", "user-7", "--report", str(tmp_path / "pipe"))
    assert (result.exit_code, "is no file" in " ".join(result.stderr.split())) == (2, True), result.output
    # A line that was cut short is none.
    report.write_bytes(b"".join(lines) + b'{"event": "erased", "session_id": "user-7')
    assert run(file, None, "erase", "--session", "user-7", "--report", str(report), "--yes").exit_code == 0
    assert erased_in(report) == ["user-8", "user-7"]
    assert at(file) == [0, 2, 2, 0]


async def test_two_runs_do_not_share_a_report(file: StoreLocation, tmp_path: Path):
    await fill(file, ROWS)
    report = tmp_path / "erased.jsonl"
    async with whole(file) as store, whole(file) as other:
        really = store.erase

        async def erase_beside_another(*arguments: Any, dry_run: bool) -> Any:
            with pytest.raises(FileExistsError, match="in use by another run"):
                await erase(other, ["user-8"], report=report)
            return await really(*arguments, dry_run=dry_run)

        store.erase = erase_beside_another  # type: ignore[assignment, method-assign]
        assert (await erase(store, ["user-7"], report=report)).ok
    assert erased_in(report) == ["user-7"]


async def test_a_session_that_is_written_to_meanwhile_has_no_line_that_it_is_gone(file: StoreLocation, tmp_path: Path):
    await fill(file, ROWS)
    report = tmp_path / "erased.jsonl"
    async with whole(file) as store:
        really = store.erase

        async def erase_and_be_written_to(session_ids: Any, *, dry_run: bool) -> Any:
            found = await really(session_ids, dry_run=dry_run)
            if not dry_run and session_ids == ["user-7"]:
                await fill(file, {"user-7": ["{}"]})
            return found

        store.erase = erase_and_be_written_to  # type: ignore[assignment, method-assign]
        first = await erase(store, ["user-7", "user-8"], report=report)
        assert first.left["written_meanwhile"] >= 1
        assert erased_in(report) == ["user-8"]
        store.erase = really  # type: ignore[method-assign]
        assert (await erase(store, ["user-7", "user-8"], report=report, expect=2)).ok
    assert erased_in(report) == ["user-8", "user-7"]


async def test_a_run_whose_store_went_away_is_gone_on_with(file: StoreLocation, tmp_path: Path):
    await fill(file, ROWS)
    report = tmp_path / "erased.jsonl"
    async with whole(file) as store:
        really = store.erase

        async def erase_and_lose_the_answer(session_ids: Any, *, dry_run: bool) -> Any:
            found = await really(session_ids, dry_run=dry_run)
            if session_ids == ["user-70"]:
                raise StoreUnavailableError("no answer")
            return found

        store.erase = erase_and_lose_the_answer  # type: ignore[assignment, method-assign]
        first = await erase(store, IDS, report=report, expect=4)
        assert (first.stopped, erased_in(report)) == ("store", IDS[:2])
        store.erase = really  # type: ignore[method-assign]
        second = await erase(store, IDS, report=report, expect=4)
        assert (second.ok, second.named) == (True, 4)
    assert sorted(erased_in(report)) == IDS
    assert [line["rows"] for line in lines_of(report) if line.get("session_id") == "user-70"] == [None]


# -- Kills ------------------------------------------------------------------------------------------

KILLS = 100
SESSIONS = 10_000
BYTES_OF_A_LINE = 130


def size_of(report: Path) -> int:
    return report.stat().st_size if report.exists() else 0


async def fill_many(place: StoreLocation, ids: list[str]) -> None:
    """A row in each of many sessions."""
    await make_tables(place)
    if place.kind == "redis":
        async with stores._redis(place) as client:
            pipeline = client.pipeline(transaction=False)
            for one in ids:
                pipeline.rpush(place.redis_key(one), "{}")
            await pipeline.execute()
        return
    sessions = f"INSERT INTO {place.sessions_table} (session_id) VALUES "
    messages = f"INSERT INTO {place.messages_table} (session_id, message_data) VALUES "
    if place.in_sqlite:
        with stores._sqlite(place) as connection:
            connection.executemany(sessions + "(?)", [(one,) for one in ids])
            connection.executemany(messages + "(?, '{}')", [(one,) for one in ids])
    else:
        async with stores._postgres(place) as connection:
            await connection.executemany(sessions + "($1)", [(one,) for one in ids])
            await connection.executemany(messages + "($1, '{}')", [(one,) for one in ids])


@pytest.mark.parametrize("kind", one_cheap_and_soak(MAINTAINED))
def test_after_kills_the_report_and_the_store_agree(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, rounds: Rounds, seed: Seed
):
    place = new_place(kind, request)
    kills = rounds.of(KILLS)
    count = max(60, SESSIONS * kills // KILLS)
    ids = [f"user-{number}" for number in range(count)]
    asyncio.run(fill_many(place, [*ids, "kept"]))
    (tmp_path / "ids").write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
    report = tmp_path / "erased.jsonl"
    more = ("--sessions-from", str(tmp_path / "ids"), "--report", str(report), "--expect", str(count), "--yes")
    chance, hit = random.Random(seed), 0
    for _ in range(kills):
        # As soon as the report has grown by a part, by lot.
        grown = size_of(report) + 2 * chance.random() * BYTES_OF_A_LINE * count / kills
        process = start(place, None, "erase", *more)
        ends = time.monotonic() + 60
        while size_of(report) <= grown and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        hit += process.wait() == -signal.SIGKILL
        process.communicate()
    result = run(place, None, "erase", *more, "--json")
    assert result.exit_code == 0, result.output
    assert sorted(erased_in(report)) == sorted(ids), "each session has one line"
    assert len(asyncio.run(raw_rows(place, "kept"))) == 1
    left = run(place, None, "sessions", "--json").stdout.splitlines()
    assert [json.loads(line)["session_id"] for line in left[:-1]] == ["kept"]
    assert hit, os.fspath(tmp_path)

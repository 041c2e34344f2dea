"""What was taken out goes back to where it was, if it is authentic and nothing else lies there."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.errors import StoreError
from encrypted_sessions.maintenance import PutBackReport, erase, purge, put_back
from encrypted_sessions_tests import put_back_fork_harness, stores
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import all_rows, fill, whole

SQL = ["sqlite", "sqlalchemy-sqlite", "sqlalchemy-postgres"]


@pytest.fixture(params=SQL)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return tmp_path / "gone.jsonl"


def one_line(text: str) -> str:
    return " ".join(text.split())


def text_of(path: Path) -> str:
    return path.read_text("ascii")


def rewrite(path: Path, text: str) -> None:
    path.write_text(text, "ascii")


async def back(place: StoreLocation, sealer: Sealer, export: Path, **options: Any) -> PutBackReport:
    async with whole(place) as store:
        return await put_back(store, sealer.ring, export=export, **options)


async def everything(place: StoreLocation) -> list[Any]:
    async with whole(place) as store:
        return sorted(await all_rows(store))


async def erased(place: StoreLocation, sealer: Sealer, export: Path, count: int = 6) -> list[Any]:
    """All rows of a store out of which a session was erased by mistake."""
    await fill(place, {SESSION: [sealer.ok(str(number)) for number in range(count)], "other": ["{}"]})
    before = await everything(place)
    async with whole(place) as store:
        report = await erase(store, [SESSION], export=export)
    assert (report.ok, report.export) == (True, str(export))
    assert await raw_rows(place, SESSION) == []
    return before


async def test_a_mistaken_id_is_put_back_with_its_keys_times_and_places(
    place: StoreLocation, sealer: Sealer, export: Path
):
    before = await erased(place, sealer, export)
    dry = await back(place, sealer, export, dry_run=True)
    assert (dry.ok, dry.changed, dry.already) == (True, 6, 0)
    assert await raw_rows(place, SESSION) == []
    report = await back(place, sealer, export, batch=4)
    assert (report.ok, report.changed, report.already, report.found) == (True, 6, 0, {"ok": 6})
    assert await everything(place) == before
    again = await back(place, sealer, export)
    assert (again.ok, again.changed, again.already) == (True, 0, 6)
    async with sealer.session(place) as session:
        await session.add_items([message("next")])  # type: ignore[list-item]
        assert [item["content"] for item in await session.get_items()] == [*map(str, range(6)), "next"]  # type: ignore[typeddict-item]


async def test_what_was_purged_is_put_back_among_what_stayed(place: StoreLocation, sealer: Sealer, export: Path):
    rows = [sealer.row(message(str(n)), age=AGE * (n % 2)) for n in range(8)]
    await fill(place, {SESSION: rows})
    before = await everything(place)
    async with whole(place) as store:
        assert (await purge(store, sealer.ring, ttl=TTL, export=export)).changed > 0
    assert (await back(place, sealer, export)).ok
    assert await everything(place) == before


async def test_what_does_not_open_is_put_back_only_when_that_is_said(file: StoreLocation, sealer: Sealer, export: Path):
    await fill(file, {SESSION: [sealer.ok("a"), sealer.of("unauthentic")]})
    await stores.write_raw_row(file, SESSION, b'{"a": "\xff"}')
    rows = await raw_rows(file, SESSION)
    async with whole(file) as store:
        await erase(store, [SESSION], export=export)
    report = await back(file, sealer, export)
    assert (report.ok, report.changed, report.left) == (False, 1, {"unverified": 2})
    assert {finding.outcome for finding in report.findings} == {"unauthentic", "malformed"}
    assert await raw_rows(file, SESSION) == rows[:1]
    report = await back(file, sealer, export, unverified=True)
    assert (report.ok, report.changed, report.already) == (True, 2, 1)
    assert await raw_rows(file, SESSION) == rows


async def test_what_lies_there_by_now_stays(place: StoreLocation, sealer: Sealer, export: Path):
    before = await erased(place, sealer, export)
    taken = next(row for row in before if row.session_id == SESSION)
    lines = text_of(export).splitlines()
    await back(place, sealer, export)
    async with whole(place) as store:
        assert await store.replace([(taken, "{}")]) == [True]
    report = await back(place, sealer, export)
    assert (report.ok, report.changed, report.already, report.left) == (False, 0, 5, {"place_taken": 1})
    assert (await raw_rows(place, SESSION))[0] == "{}"
    assert text_of(export).splitlines() == lines


async def test_a_file_that_was_cut_or_changed_is_refused_whole(file: StoreLocation, sealer: Sealer, export: Path):
    await erased(file, sealer, export)
    whole_text = text_of(export)
    *rows, end = whole_text.splitlines(keepends=True)
    for text, words in (
        ("".join(rows), "lacks the last line"),
        ("", "lacks the last line"),
        ("".join([*rows[:-1], rows[-1][:50]]), "was cut off in its line 6"),
        ("".join([*rows[1:], end]), "another count or another SHA-256"),
        ("".join([*rows[::-1], end]), "another count or another SHA-256"),
        (whole_text + rows[0], "there is more after"),
        ("".join([*rows, "[]\n", end]), "line 7 is not a row"),
        (whole_text.replace('"sqlite"', '"redis"'), r"another kind of store \(redis\)"),
        (
            json.dumps({"session_id": "a", "id": ["key", 1], "created_at": None, "data": "{}"}) + "\n",
            "do not have a number",
        ),
    ):
        rewrite(export, text)
        with pytest.raises(ValueError, match=words):
            await back(file, sealer, export)
        assert await raw_rows(file, SESSION) == []
    rewrite(export, "".join([*rows[:3], rows[3][:-1]]))
    report = await back(file, sealer, export, incomplete=True)
    assert (report.ok, report.changed) == (True, 3)


async def test_of_a_row_that_changed_while_it_was_taken_out_the_last_line_counts(
    file: StoreLocation, sealer: Sealer, export: Path
):
    before = await erased(file, sealer, export, 2)
    first, second, _ = text_of(export).splitlines(keepends=True)
    former = {**json.loads(first), "data": sealer.ok("as it was before")}
    rewrite(export, json.dumps(former) + "\n" + first + second)
    report = await back(file, sealer, export, incomplete=True)
    assert (report.ok, report.changed) == (True, 2)
    assert "1 lines of the file belong to rows that changed" in report.notices[0]
    assert await everything(file) == before


async def test_a_row_that_is_too_large_to_be_copied_is_not_erased(file: StoreLocation, sealer: Sealer, export: Path):
    await fill(file, {SESSION: ["{}", " " * (64 * 2**20 + 1)]})
    async with whole(file) as store:
        with pytest.raises(StoreError, match="cannot be copied: the session stays as it is"):
            await erase(store, [SESSION], export=export)
    assert len(await raw_rows(file, SESSION)) == 2


async def test_a_place_that_the_database_has_not_given_yet_is_left(
    request: pytest.FixtureRequest, sealer: Sealer, export: Path
):
    place = new_place("sqlalchemy-postgres", request)
    await erased(place, sealer, export)
    async with stores._postgres(place) as connection:
        await connection.execute(f"SELECT setval(pg_get_serial_sequence('{place.messages_table}', 'id'), 4)")
        report = await back(place, sealer, export)
        assert (report.ok, report.changed, report.left) == (False, 4, {"place_ahead": 2})
        await connection.execute(f"SELECT setval(pg_get_serial_sequence('{place.messages_table}', 'id'), 7)")
    report = await back(place, sealer, export)
    assert (report.ok, report.changed, report.already) == (True, 2, 4)


@pytest.mark.parametrize("kind", one_cheap_and_soak(["sqlite", "sqlalchemy-postgres"]))
async def test_after_a_kill_at_any_moment_the_next_report_and_the_store_agree(
    request: pytest.FixtureRequest, sealer: Sealer, export: Path, kind: str, rounds: Rounds, seed: Seed
):
    place, kills = new_place(kind, request), rounds.of(100)
    await erased(place, sealer, export, 400)
    hit = put_back_fork_harness.kill(place, sealer.active, SESSION, export, kills=kills, seed=seed)
    assert hit > kills // 3 or not rounds.many, "many were killed in the midst"


@pytest.mark.parametrize("kind", ["redis", "advanced-sqlite"])
def test_stores_without_free_places_refuse_in_words(
    request: pytest.FixtureRequest, sealer: Sealer, export: Path, kind: str
):
    place = new_place(kind, request)
    filled(place, {SESSION: [sealer.of("unauthentic")]})
    assert run(place, sealer, "discard", "--outcome", "unauthentic", "--export", str(export), "--yes").exit_code == 0
    refused = run(place, sealer, "put-back", "--from", str(export), "--unverified", "--yes")
    assert refused.exit_code == 1
    assert ("no free positions" if kind == "redis" else "belongs to AdvancedSQLiteSession") in one_line(refused.stderr)
    assert asyncio.run(raw_rows(place, SESSION)) == []


def test_by_the_command(place: StoreLocation, sealer: Sealer, export: Path):
    rows = [sealer.ok("a"), sealer.ok("b")]
    filled(place, {SESSION: rows})
    assert run(place, sealer, "erase", "--session", SESSION, "--export", str(export)).exit_code == 0
    assert not export.exists()
    gone = run(place, sealer, "erase", "--session", SESSION, "--export", str(export), "--yes")
    assert "A copy remains" in gone.stdout
    assert str(export) in one_line(gone.stdout).replace(" ", "") or str(export) in gone.stdout
    dry = run(place, sealer, "put-back", "--from", str(export))
    assert (dry.exit_code, "With --yes 2 rows would be." in one_line(dry.stdout)) == (0, True)
    assert asyncio.run(raw_rows(place, SESSION)) == []
    done = run(place, sealer, "put-back", "--from", str(export), "--yes", "--json")
    assert (report_of(done)["changed"], done.exit_code) == (2, 0)
    assert asyncio.run(raw_rows(place, SESSION)) == rows
    again = run(place, sealer, "put-back", "--from", str(export), "--yes")
    assert (again.exit_code, "with the same bytes" in one_line(again.stdout)) == (0, True)
    export.write_bytes(export.read_bytes()[:-30])
    cut = run(place, sealer, "put-back", "--from", str(export), "--yes")
    assert (cut.exit_code, "--incomplete" in one_line(cut.stderr)) == (2, True)
    nowhere = run(place, sealer, "put-back", "--from", str(export) + ".no", "--yes")
    assert (nowhere.exit_code, "No such file" in nowhere.stderr) == (1, True)


def test_bytes_that_are_no_base64_are_no_row(file: StoreLocation, sealer: Sealer, export: Path):
    filled(file, {})
    row = {"session_id": "a", "id": 1, "created_at": 1.0, "data_base64": base64.b64encode(b"\xff").decode() + "!"}
    export.write_text(json.dumps(row) + "\n")
    refused = run(file, sealer, "put-back", "--from", str(export), "--incomplete", "--yes")
    assert (refused.exit_code, "line 1 is not a row" in one_line(refused.stderr)) == (2, True)

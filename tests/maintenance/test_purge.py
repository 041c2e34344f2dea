"""Only what is authentic and expired is removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encrypted_sessions.maintenance import purge
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.sealed_rows import AGE, OUTCOMES, SESSION, TTL, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, everything_at_rest, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole


async def test_what_expired_is_removed_wherever_it_stands(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(message(str(n)), (sealer.older, sealer.active)[n % 2], age=AGE * (n % 3)) for n in range(60)]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL, batch=7)
        assert (report.ok, report.changed) == (True, 40)
        assert report.found == {"ok": 20, "expired": 40}
        again = await purge(store, sealer.ring, ttl=TTL)
        assert (again.ok, again.changed) == (True, 0)
    assert await raw_rows(place, SESSION) == rows[::3]
    async with sealer.session(place) as session:
        assert texts(await session.get_items()) == [str(n) for n in range(0, 60, 3)]


async def test_what_is_removed_is_gone_from_the_store(place: StoreLocation, sealer: Sealer):
    rows = [sealer.expired(f"expired {n}") for n in range(50)]
    await fill(place, {SESSION: [*rows, sealer.ok("kept")]})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL)
    assert report.incomplete == ()
    payload = rows[7].split('"payload": "')[1][:60].encode()
    if place.kind != "sqlalchemy-postgres":  # which keeps dead rows in its files until it vacuums
        assert payload not in await everything_at_rest(place)


async def test_a_dry_run_counts_and_removes_nothing(place: StoreLocation, sealer: Sealer):
    rows = [sealer.expired(), sealer.ok("a")]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL, dry_run=True)
    assert (report.ok, report.changed, report.dry_run) == (True, 1, True)
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("kind", [kind for kind in OUTCOMES if outcome_of(kind) != "expired"])
async def test_nothing_else_is_removed_and_what_cannot_be_proven_is_counted(
    file: StoreLocation, sealer: Sealer, kind: str
):
    rows = [sealer.of(kind), sealer.ok("a")]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await purge(store, sealer.ring, ttl=TTL)
    assert report.changed == 0
    outcome = outcome_of(kind)
    assert report.left == ({} if outcome in ("ok", "not_yet_valid", "erased") else {outcome: 1})
    assert await raw_rows(file, SESSION) == rows


async def test_a_limit_ends_the_run(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: [sealer.expired() for _ in range(20)]})
    async with whole(place) as store:
        first = await purge(store, sealer.ring, ttl=TTL, limit=5)
        assert (first.changed, first.stopped, first.ok) == (5, "limit", False)
        assert len(await raw_rows(place, SESSION)) == 15
        rest = await purge(store, sealer.ring, ttl=TTL, limit=15)
        assert (rest.changed, rest.stopped, rest.ok) == (15, None, True)


async def test_the_moment_of_expiry_is_the_readers(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    """A row that a session still returns is not purged."""
    await fill(file, {SESSION: [sealer.row(message("a"), age=0)]})
    async with whole(file) as store:
        monkeypatch.setattr("encrypted_sessions.maintenance.run._now", lambda: sealer.now + TTL + 0.9)
        assert (await purge(store, sealer.ring, ttl=TTL)).changed == 0
        monkeypatch.setattr("encrypted_sessions.maintenance.run._now", lambda: sealer.now + TTL + 1.0)
        assert (await purge(store, sealer.ring, ttl=TTL)).changed == 1


async def test_what_goes_is_in_a_file_first(place: StoreLocation, sealer: Sealer, tmp_path: Path):
    rows = [sealer.expired(), sealer.ok("stays")]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        dry = await purge(store, sealer.ring, ttl=TTL, export=tmp_path / "gone.jsonl", dry_run=True)
        assert (dry.changed, dry.export) == (1, None)
        report = await purge(store, sealer.ring, ttl=TTL, export=tmp_path / "gone.jsonl")
        assert (report.ok, report.changed, report.export) == (True, 1, str(tmp_path / "gone.jsonl"))
        with pytest.raises(FileExistsError):
            await purge(store, sealer.ring, ttl=TTL, export=tmp_path / "gone.jsonl")
    row, end = map(json.loads, (tmp_path / "gone.jsonl").read_text().splitlines())
    assert (row["data"], end["rows"]) == (rows[0], 1)

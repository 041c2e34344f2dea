"""What nobody can read is removed once it is in a file of its owner's."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from encrypted_sessions.maintenance import discard
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.sealed_rows import OUTCOMES, SESSION, TTL, Sealer, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

DISCARDABLE = (
    "erased",
    "expired_unverified",
    "malformed",
    "not_yet_valid",
    "plaintext",
    "unauthentic",
    "unknown_key",
    "unsupported",
)


def lines(path: Path) -> list[dict[str, object]]:
    """The rows in a file, whose last line is true."""
    *rows, end = path.read_bytes().splitlines(keepends=True)
    told = json.loads(end)
    assert (told["rows"], told["sha256"]) == (len(rows), hashlib.sha256(b"".join(rows)).hexdigest())
    return [json.loads(row) for row in rows]


@pytest.mark.parametrize("outcome", DISCARDABLE)
async def test_the_rows_of_one_outcome_go_and_all_others_stay(
    file: StoreLocation, sealer: Sealer, outcome: str, tmp_path: Path
):
    rows = [sealer.of(kind) for kind in OUTCOMES]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        named = [sealer.unknown.kid] if outcome == "unknown_key" else None  # that wants to be told which
        path = tmp_path / "gone.jsonl"
        report = await discard(store, sealer.ring, outcome=outcome, export=path, ttl=TTL, kids=named)
    gone = [row for row, kind in zip(rows, OUTCOMES, strict=True) if outcome_of(kind) == outcome]
    assert (report.ok, report.changed) == (True, len(gone))
    assert report.export == str(tmp_path / "gone.jsonl")
    assert await raw_rows(file, SESSION) == [row for row in rows if row not in gone]
    told = lines(tmp_path / "gone.jsonl")
    assert [line["data"] for line in told] == gone
    assert {line["session_id"] for line in told} == {SESSION}
    assert [line["id"] for line in told] == [rows.index(row) + 1 for row in gone]


async def test_on_every_store(place: StoreLocation, sealer: Sealer, tmp_path: Path):
    rows = [sealer.of("unauthentic") if n % 3 else sealer.ok(str(n)) for n in range(30)]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "gone.jsonl", batch=4)
    assert (report.ok, report.changed) == (True, 20)
    assert await raw_rows(place, SESSION) == rows[::3]
    told = lines(tmp_path / "gone.jsonl")
    assert sorted(str(line["data"]) for line in told) == sorted(row for n, row in enumerate(rows) if n % 3)
    assert all((line["created_at"] is None) == (place.kind == "redis") for line in told)


async def test_the_file_is_its_owners_alone_and_holds_the_exact_bytes(
    file: StoreLocation, sealer: Sealer, tmp_path: Path
):
    await fill(file, {SESSION: [sealer.ok("a")]})
    await stores.write_raw_row(file, SESSION, b'{"a": "\xff"}')
    mask = os.umask(0)
    try:
        async with whole(file) as store:
            await discard(store, sealer.ring, outcome="malformed", export=str(tmp_path / "gone.jsonl"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "gone.jsonl").stat().st_mode) == 0o600
    (line,) = lines(tmp_path / "gone.jsonl")
    assert base64.b64decode(str(line["data_base64"])) == b'{"a": "\xff"}'


async def test_a_file_that_exists_is_never_written_to(file: StoreLocation, sealer: Sealer, tmp_path: Path):
    rows = [sealer.of("unauthentic")]
    await fill(file, {SESSION: rows})
    there = tmp_path / "there"
    there.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    async with whole(file) as store:
        for path in (there, link, pipe, folder):
            with pytest.raises(FileExistsError, match=r"exists already; name a new one\. Nothing was removed"):
                await discard(store, sealer.ring, outcome="unauthentic", export=path)
        with pytest.raises(FileNotFoundError):
            await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "no" / "folder")
    assert there.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert await raw_rows(file, SESSION) == rows


async def test_a_file_that_cannot_be_written_removes_nothing(
    file: StoreLocation, sealer: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [sealer.of("unauthentic")]
    await fill(file, {SESSION: rows})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with whole(file) as store:
        with monkeypatch.context() as patch:
            patch.setattr("encrypted_sessions.maintenance.export.os.fsync", full)
            with pytest.raises(OSError, match="No space left"):
                await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "gone")
    assert await raw_rows(file, SESSION) == rows


async def test_where_nothing_was_removed_no_file_stays(file: StoreLocation, sealer: Sealer, tmp_path: Path):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        report = await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "gone.jsonl")
    assert (report.ok, report.changed, report.export) == (True, 0, None)
    assert not (tmp_path / "gone.jsonl").exists()


async def test_a_dry_run_needs_no_file_and_makes_none(file: StoreLocation, sealer: Sealer, tmp_path: Path):
    rows = [sealer.of("unauthentic")]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        for path in (None, tmp_path / "gone.jsonl"):
            report = await discard(store, sealer.ring, outcome="unauthentic", export=path, dry_run=True)
            assert (report.changed, report.dry_run) == (1, True)
    assert not (tmp_path / "gone.jsonl").exists()
    assert await raw_rows(file, SESSION) == rows


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("ok", "it can be read"),
        ("expired", "purge removes it"),
        ("too_large", "raise max_row_bytes"),
        ("key_disabled", "its key may come back"),
        ("nonsense", "must be one of erased, expired_unverified"),
    ],
)
async def test_what_can_still_be_read_is_not_for_discarding(
    file: StoreLocation, sealer: Sealer, outcome: str, words: str
):
    await fill(file, {SESSION: []})
    async with whole(file) as store:
        with pytest.raises(ValueError, match=words):
            await discard(store, sealer.ring, outcome=outcome, export="x", ttl=TTL)


async def test_what_claims_to_be_expired_needs_a_ttl_to_be_told(file: StoreLocation, sealer: Sealer, tmp_path: Path):
    await fill(file, {SESSION: []})
    async with whole(file) as store:
        with pytest.raises(ValueError, match="needs ttl="):
            await discard(store, sealer.ring, outcome="expired_unverified", export=tmp_path / "x")
        with pytest.raises(TypeError, match="export must be the path of a file"):
            await discard(store, sealer.ring, outcome="erased", export=None)

"""NULL ends no run, and large rows are judged before they are fetched, a page by its bytes."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Finding, StoreError, UnreadableItemsError
from encrypted_sessions.maintenance import discard, encrypt_plaintext, inventory, purge, reencrypt, verify
from encrypted_sessions.maintenance._inspect import inspect_session
from encrypted_sessions.stores.whole import HAS_NULL, PAGE_BYTES, WholeStore
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import all_rows, fill, rows_of, whole

LARGE = 300_000


@pytest.fixture(params=["sqlite", "sqlalchemy-postgres"])
def sql_place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def with_nulls(place: StoreLocation, sealer: Sealer) -> None:
    """Two rows that somebody else wrote: one of no session, one without data."""
    await fill(place, {SESSION: [sealer.row(message("a"), sealer.older)]})
    table, plain = place.messages_table, json.dumps(message("plain"))
    rows = f"INSERT INTO {table} (session_id, message_data) VALUES (NULL, '{plain}'), ('{SESSION}', NULL)"
    if place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection:
            for column in ("session_id", "message_data"):
                await connection.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
            await connection.execute(rows)
    else:
        columns = "id INTEGER PRIMARY KEY, session_id TEXT, message_data TEXT, created_at TIMESTAMP"
        with stores._sqlite(place) as connection:
            connection.execute(f"ALTER TABLE {table} RENAME TO old")
            connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.execute(f"INSERT INTO {table} SELECT id, session_id, message_data, created_at FROM old")
            connection.execute("DROP TABLE old")
            connection.execute(rows)


async def test_null_as_session_id_or_data_is_malformed_and_the_run_goes_on(
    sql_place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    await with_nulls(sql_place, sealer)
    async with whole(sql_place) as store:
        assert [row.unread for row in await all_rows(store)] == [None, HAS_NULL, HAS_NULL]
        assert sorted(row.form for row in await inspect_session(store, SESSION)) == ["malformed", "version 1"]
        assert (await inventory(store, sealer.ring)).found == {"ok": 1, "malformed": 2}
        for report in (
            await verify(store, sealer.ring),
            await purge(store, sealer.ring, ttl=TTL),
            await encrypt_plaintext(store, sealer.ring),
            await reencrypt(store, sealer.ring),
        ):
            assert (report.stopped, report.left) == (None, {"malformed": 2})
        gone = await discard(store, sealer.ring, outcome="malformed", export=tmp_path / "gone")
        assert (gone.ok, gone.changed) == (True, 2)
        assert [row.unread for row in await all_rows(store)] == [None]


async def test_a_row_of_null_is_malformed_for_a_session_and_the_rest_is_read(sql_place: StoreLocation, sealer: Sealer):
    async with sealer.session(sql_place) as session:
        await with_nulls(sql_place, sealer)
        await session.add_items([message("later")])
        found = await session.read()
        assert (found.items, found.outcomes) == ([message("a"), message("later")], {"ok": 2, "malformed": 1})
        assert found.findings == (Finding(1, "malformed", None),)
        with pytest.raises(UnreadableItemsError, match="1 malformed") as raised:
            await session.get_items()
        assert raised.value.findings == found.findings
        assert await session.purge_expired() == 0
        assert await session.pop_item() == message("later")
        with pytest.raises(UnreadableItemsError, match="malformed"):
            await session.pop_item()
        skipping = EncryptedSession.wrap(session.underlying_session, sealer.ring, ttl=TTL, on_unreadable="skip")
        assert await skipping.get_items() == [message("a")]


async def test_a_row_from_the_future_can_be_taken_out_with_a_copy(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [sealer.of("not_yet_valid"), sealer.ok("a")]
    await fill(place, {SESSION: rows})
    options: dict[str, Any] = {"outcome": "not_yet_valid"}
    async with whole(place) as store:
        if place.kind != "sqlite":  # which has no clock of its own
            with monkeypatch.context() as patch:
                patch.setattr("encrypted_sessions.maintenance.run._now", lambda: sealer.now - 5000.0)
                with pytest.raises(StoreError, match=r"s behind that of .* would count as not yet valid"):
                    await discard(store, sealer.ring, export=tmp_path / "none", **options)
        report = await discard(store, sealer.ring, export=tmp_path / "gone", **options)
    assert (report.ok, report.changed) == (True, 1)
    assert json.loads((tmp_path / "gone").read_text().splitlines()[0])["data"] == rows[0]
    assert await raw_rows(place, SESSION) == rows[1:]


async def test_a_row_above_max_row_bytes_is_too_large_named_and_stays(
    place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    large = sealer.row(message("x" * LARGE), sealer.older, age=AGE)
    rows = [sealer.row(message("a"), sealer.older), large, json.dumps(message("plain")), sealer.ok("b")]
    await fill(place, {SESSION: rows})
    options: dict[str, Any] = {"max_row_bytes": LARGE}
    async with whole(place) as store:
        counted = await inventory(store, sealer.ring, ttl=TTL, **options)
        assert (counted.ok, counted.left) == (False, {"too_large": 1})
        assert "1 row is larger than max_row_bytes" in counted.conclusion
        assert [group.size for group in counted.groups if group.outcome == "too_large"] == [len(large)]
        for report in (
            await verify(store, sealer.ring, **options),
            await purge(store, sealer.ring, ttl=TTL, **options),
            await encrypt_plaintext(store, sealer.ring, **options),
            await reencrypt(store, sealer.ring, from_kid=sealer.older.kid, **options),
            await discard(store, sealer.ring, outcome="unauthentic", export=tmp_path / "gone", **options),
        ):
            assert (report.left["too_large"], report.ok) == (1, False)
            assert "too_large" in [finding.outcome for finding in report.findings]
        assert (await raw_rows(place, SESSION))[1] == large
        assert (await purge(store, sealer.ring, ttl=TTL)).changed == 1, "with the default it is read"


async def test_a_row_above_max_row_bytes_is_never_fetched(place: StoreLocation):
    await fill(place, {SESSION: ["small", "x" * LARGE, "small"]})
    expected = [(5, None, 5), (0, LARGE, LARGE), (5, None, 5)]
    async with whole(place) as store:
        store.max_row_bytes = LARGE - 1
        for rows in (await rows_of(store, SESSION), sorted(await all_rows(store), key=lambda row: row.id)):
            assert [(len(row.data), row.unread, row.size) for row in rows] == expected


async def test_a_store_that_cannot_tell_sizes_has_them_judged_when_rows_came(sealer: Sealer):
    store = MemoryStore(SESSION, [sealer.expired(), sealer.row(message("x" * LARGE), age=AGE)])
    report = await purge(store, sealer.ring, ttl=TTL, max_row_bytes=LARGE)
    assert (report.changed, report.left) == (1, {"too_large": 1})


async def pages_of(store: WholeStore) -> list[list[int]]:
    pages = []
    async for block in store.blocks():
        after = None
        while rows := await store.rows(block, after, 500):
            pages.append([len(row.data) for row in rows])
            after = rows[-1]
    return pages


async def test_a_page_ends_with_the_row_that_makes_it_large_whatever_came_before(place: StoreLocation):
    large = PAGE_BYTES // 4
    sizes = [5] * 50 + [large] * 20 + [5] * 50
    await fill(place, {SESSION: ["x" * size for size in sizes], "other": ["y" * large] * 6})
    async with whole(place) as store:
        pages = await pages_of(store)
        assert sum(map(len, pages)) == len(sizes) + 6
        assert max(sum(page[:-1]) for page in pages) < PAGE_BYTES
        assert [len(row.data) for row in await rows_of(store, SESSION)] == sizes


def test_the_command_takes_the_most_bytes_of_a_row(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.row(message("x" * LARGE))]})
    result = run(file, sealer, "verify", "--max-row-bytes", str(LARGE))
    assert result.exit_code == 1
    assert "run it again with a larger --max-row-bytes" in " ".join(result.stdout.split())
    assert report_of(run(file, sealer, "verify", "--json"))["ok"]

"""Times that cannot be trusted: a clock that is ahead, and created times without an end."""
# ruff: noqa: S608  # every name of a table in these statements is made in stores.StoreLocation

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.errors import StoreError
from encrypted_sessions.maintenance import discard, encrypt_plaintext, inventory, purge
from encrypted_sessions.maintenance._inspect import inspect_session
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

_YEAR_S = 365 * 86_400


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.fixture(params=["sqlalchemy-postgres", "redis"])
def server(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("sqlalchemy-postgres", request)


async def test_a_server_has_a_clock_of_its_own(server: StoreLocation):
    await fill(server, {})
    async with whole(server) as store:
        clock = await store.clock()
    assert clock is not None
    assert abs(clock - time.time()) < 5


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_machine_whose_clock_is_ahead_removes_nothing(
    server: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, dry_run: bool
):
    rows = [sealer.ok("in time"), sealer.expired(), sealer.of("unknown_key")]
    await fill(server, {SESSION: rows})
    monkeypatch.setattr("encrypted_sessions.maintenance.run._now", lambda: time.time() + _YEAR_S)
    claimed: dict[str, Any] = {"outcome": "expired_unverified", "export": tmp_path / "export"}
    async with whole(server) as store:
        with pytest.raises(StoreError, match=r"clock is 31,53[56],\d\d\d s ahead of that of .* Nothing was removed"):
            await purge(store, sealer.ring, ttl=TTL, dry_run=dry_run)
        with pytest.raises(StoreError, match="ahead"):
            await discard(store, sealer.ring, ttl=TTL, dry_run=dry_run, **claimed)
    assert await raw_rows(server, SESSION) == rows
    assert is_empty(tmp_path)


async def test_a_clock_that_is_behind_removes_less(
    server: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    await fill(server, {SESSION: [sealer.expired()]})
    monkeypatch.setattr("encrypted_sessions.maintenance.run._now", lambda: time.time() - _YEAR_S)
    async with whole(server) as store:
        assert (await purge(store, sealer.ring, ttl=TTL)).changed == 0


@pytest.mark.parametrize("created", ["infinity", "-infinity"])
async def test_a_created_time_without_an_end_counts_as_none(postgres: StoreLocation, sealer: Sealer, created: str):
    await fill(postgres, {SESSION: [json.dumps(message(text)) for text in "abc"]})
    async with stores._postgres(postgres) as connection:
        await connection.execute(f"UPDATE {postgres.messages_table} SET created_at = '{created}'")
    async with whole(postgres) as store:
        (group,) = (await inventory(store)).groups
        assert (group.items, group.oldest, group.newest) == (3, None, None)
        assert [row.created_at for row in await inspect_session(store, SESSION)] == [None] * 3
        report = await encrypt_plaintext(store, sealer.ring)
    assert (report.ok, report.changed) == (True, 3)

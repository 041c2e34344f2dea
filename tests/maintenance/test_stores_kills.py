"""Processes killed while they change a store: every row is as it was or as it should be, and none is lost."""

from __future__ import annotations

import asyncio

import pytest

from encrypted_sessions_tests import store_fork_harness as harness
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import all_rows, as_text, fill, whole

KILLS = 100
TEXTS = [f"{'gone' if number % 3 else 'kept'} {number}" for number in range(3_000)]


@pytest.fixture(params=one_cheap_and_soak(["sqlite", "advanced-sqlite", "sqlalchemy-postgres", "redis"]))
async def place(request: pytest.FixtureRequest) -> StoreLocation:
    place = new_place(request.param, request)
    await fill(place, {"one": TEXTS[:2_000], "two": TEXTS[2_000:]})
    return place


async def kill(work: str, place: StoreLocation, kills: int, seed: int) -> None:
    """Kill processes at this work, and wait until the server is done with what they have sent."""
    harness.kill(work, place, kills=kills, seed=seed)
    if place.kind != "sqlalchemy-postgres":
        return
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with stores._postgres(place) as connection:
        while await connection.fetchval(busy):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


def without_dots(row: object) -> str:
    return str(row).rstrip(".")


async def test_kills_while_replacing_leave_every_row_once_and_in_order(
    place: StoreLocation, rounds: Rounds, seed: Seed
):
    await kill("replace", place, rounds.of(KILLS), seed)
    rows = [*await raw_rows(place, "one"), *await raw_rows(place, "two")]
    assert [without_dots(row) for row in rows] == TEXTS
    assert any(str(row).endswith(".") for row in rows)
    async with whole(place) as store:
        found = await all_rows(store)
        assert all(await store.replace([(row, "new") for row in found]))


async def test_kills_while_removing_lose_nothing_that_was_to_stay(place: StoreLocation, rounds: Rounds, seed: Seed):
    await kill("remove", place, rounds.of(KILLS), seed)
    rows = [without_dots(row) for session_id in ("one", "two") for row in await raw_rows(place, session_id)]
    assert [row for row in rows if row.startswith("kept")] == [text for text in TEXTS if text.startswith("kept")]
    left = [row for row in rows if row.startswith("gone")]
    assert left == [text for text in TEXTS if text in set(left)]
    assert len(rows) < len(TEXTS)
    async with whole(place) as store:
        gone = [row for row in await all_rows(store) if as_text(row).startswith("gone")]
        assert all(await store.remove(gone))
        assert len(await all_rows(store)) == 1_000

"""Several processes on one store, and processes that are killed: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest

from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.mysql_tables import connected
from encrypted_sessions_tests.sealed_rows import Sealer
from encrypted_sessions_tests.session_fork_harness import SESSION, items_of
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import (
    MARIADB,
    REDIS_WITHOUT_EVAL,
    ROW_ADDRESSABLE,
    StoreLocation,
    database_of,
    new_place,
    open_store,
    raw_rows,
)


@pytest.fixture(params=one_cheap_and_soak([*ROW_ADDRESSABLE, REDIS_WITHOUT_EVAL, *MARIADB]))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


class Rows(NamedTuple):
    """What was written: rows by what they are, and all of them in their order."""

    items: list[str]
    erased: list[str]
    all: list[str]


async def write_history(place: StoreLocation, sealer: Sealer, items: int, *, erased_every: int) -> Rows:
    """Numbered items, with rows whose key was destroyed among them."""
    rows = Rows([], [], [])
    for number in range(items):
        rows.items.append(sealer.ok(str(number)))
        rows.all.append(rows.items[-1])
        if number % erased_every == 0:
            rows.erased.append(sealer.of("erased", f"erased {number}"))
            rows.all.append(rows.erased[-1])
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, rows.all)
    return rows


def work(
    what: str, place: StoreLocation, sealer: Sealer, folder: Path, rounds: int, seed: int = 0
) -> dict[int, list[str]]:
    """What each child logged, by its number."""
    keys = {"active": sealer.active, "destroyed": sealer.destroyed}
    lines = harness.run(what, place, folder / "log", rounds=rounds, seed=seed, **keys)
    logged: dict[int, list[str]] = {}
    for line in lines:
        number, words = line.split(" ", 1)
        logged.setdefault(int(number), []).append(words)
    return logged


async def until_nobody_else_is_connected(place: StoreLocation) -> None:
    """Wait until the server is done with what killed processes have sent to it."""
    deadline = asyncio.get_running_loop().time() + 30
    while await connections(place) > 1:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def connections(place: StoreLocation) -> int:
    """How many there are to the database, ours included; 0 where there is no server."""
    if place.kind == "redis":
        async with stores._redis(place) as client:
            return sum(one["db"] == database_of(place) for one in await client.client_list())
    if place.kind == "sqlalchemy-postgres":
        async with stores._postgres(place) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            return int(await connection.fetchval(query))
    if place.in_mariadb:
        with connected(place.where) as cursor:
            cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()")
            return int(cursor.fetchall()[0][0])
    return 0


async def test_three_processes_that_pop_300_items_get_300_distinct_ones(
    place: StoreLocation, sealer: Sealer, tmp_path: Path
):
    rows = await write_history(place, sealer, 300, erased_every=100)
    logged = work("pop_all", place, sealer, tmp_path, rounds=3)
    popped = [int(text) for texts in logged.values() for text in texts]
    assert sorted(popped) == list(range(300))
    for texts in logged.values():
        assert [int(text) for text in texts] == sorted(map(int, texts), reverse=True)
    assert await raw_rows(place, SESSION) == rows.erased


async def test_kills_while_popping_lose_nothing(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, rounds: Rounds, seed: Seed
):
    """An item is gone from the store only if a child has it.

    A child that was killed can have had one item in its hands that it had not logged yet: the next
    one after those that it logged. So all items that are gone, from the newest on, are those that
    the first child logged, those that the second child logged, at most one more, those that the
    third child logged, at most one more, and so on (the first child was not killed, and has none).
    All others are stored, as they were and in their order, and so are rows without a key.
    """
    kills = rounds.of(100)
    rows = await write_history(place, sealer, 1_500, erased_every=150)
    logged = work("pop_until_killed", place, sealer, tmp_path, rounds=kills, seed=seed)
    await until_nobody_else_is_connected(place)
    newest = len(rows.items) - 1  # of the items that no child has accounted for yet
    in_hand = 0  # what killed children can have had in their hands since the last logged item
    for child in range(kills + 1):
        popped = [int(text) for text in logged.get(child, [])]
        if popped:
            assert 0 <= newest - popped[0] <= in_hand
            assert popped == list(range(popped[0], popped[0] - len(popped), -1))
            newest, in_hand = popped[-1] - 1, 0
        in_hand += child >= 1
    assert len(logged[0]) == harness.MEASURED
    stored = await raw_rows(place, SESSION)
    left = [row for row in stored if row not in rows.erased]
    assert 0 <= newest + 1 - len(left) <= in_hand
    assert stored == [row for row in rows.all if row in rows.erased or rows.items.index(row) < len(left)]


async def test_kills_while_purging_lose_nothing_but_what_expired(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, rounds: Rounds, seed: Seed
):
    """All items that a child knew to be added are there, once and in order, and one more of each at most."""
    kills = rounds.of(100)
    kept = [sealer.of("erased"), sealer.of("unauthentic, and old")]
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, kept)
    logged = work("purge_until_killed", place, sealer, tmp_path, rounds=kills, seed=seed)
    await until_nobody_else_is_connected(place)
    async with sealer.session(place, on_unreadable="skip") as session:
        purged = await session.purge_expired()
        items = [str(item["content"]) for item in await session.get_items()]
    added = [text for child in range(kills + 1) for text in logged.get(child, [])]
    assert [text for text in items if text in set(added)] == added
    unknown = [text.split("/")[0] for text in items if text not in set(added)]
    assert len(unknown) == len(set(unknown))
    assert purged <= 300 * (kills + 1)
    rows = await raw_rows(place, SESSION)
    assert rows[:2] == kept
    assert len(rows) == 2 + len(items)


@pytest.mark.parametrize("what", ["replace_all_until_killed", "replace_suffix_until_killed"])
async def test_kills_while_compacting_leave_the_old_history_or_the_new_one(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, rounds: Rounds, seed: Seed, what: str
):
    """After each kill the next child finds the history that was there, or the one being written."""
    kills = rounds.of(50)
    kept = [] if what == "replace_all_until_killed" else [sealer.of("erased"), sealer.of("unauthentic")]
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, [*kept, *[sealer.row(item) for item in items_of(1)]])
    logged = work(what, place, sealer, tmp_path, rounds=kills, seed=seed)
    stored = {1}
    replaced = 0
    for child in range(kills + 1):
        for words in logged.get(child, []):
            what_happened, generation = words.split(" ")
            if what_happened == "begin":
                stored.add(int(generation))
            else:
                assert int(generation) in stored, (child, words)
                replaced += what_happened == "done"
                stored = {int(generation)}
    assert replaced >= harness.MEASURED
    await until_nobody_else_is_connected(place)
    async with sealer.session(place) as session:
        history = await session.read()
    assert history.items in [items_of(generation) for generation in stored]
    rows = await raw_rows(place, SESSION)
    assert rows[: len(kept)] == kept
    assert len(rows) == len(kept) + len(history.items)

"""Several processes that branch one session, and processes that are killed at it: nothing is left half-done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests.branching import assert_whole, question, texts, turns
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer
from encrypted_sessions_tests.session_fork_harness import BRANCHES_OF_EACH
from encrypted_sessions_tests.soak import Rounds, Seed
from encrypted_sessions_tests.stores import BRANCHING, StoreLocation, new_place, open_store

FEW_AND_MANY = pytest.mark.parametrize("much", ["few rounds", pytest.param("many", marks=pytest.mark.soak)])


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(BRANCHING, request)


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(SESSION)


def work(what: str, place: StoreLocation, sealer: Sealer, folder: Path, rounds: int, seed: int = 0) -> list[str]:
    keys = {"active": sealer.active, "destroyed": sealer.destroyed}
    return harness.run(what, place, folder / "log", rounds=rounds, seed=seed, **keys)


@FEW_AND_MANY
async def test_branches_are_made_filled_and_deleted_by_processes_at_once(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, rounds: Rounds, much: str
):
    processes = 2 if not rounds.many else 6
    async with sealer.session(place, ttl=None) as session:
        await session.add_items([question("first"), question("second")])
    work("work_on_branches", place, sealer, tmp_path, processes)
    assert_whole(place.where)
    async with sealer.session(place, ttl=None) as session:
        assert isinstance(session, EncryptedAdvancedSQLiteSession)
        main = texts(await session.get_items())
        assert main[:2] == ["first", "second"]
        for number in range(processes):
            of_one = [text for text in main[2:] if text.startswith(f"{number}/")]
            assert of_one == [f"{number}/{step}" for step in range(BRANCHES_OF_EACH)]
        assert len(main) == 2 + processes * BRANCHES_OF_EACH
        assert [number for number, _ in await turns(session)] == list(range(1, len(main) + 1))
        kept = {f"{number}/{step}" for number in range(processes) for step in range(0, BRANCHES_OF_EACH, 2)}
        assert {branch["branch_id"] for branch in await session.list_branches()} == {"main", *kept}
        for name in kept:
            assert texts(await session.get_items(branch_id=name)) == ["first", f"{name} one", f"{name} two"]
            assert await turns(session, name) == [(1, "first"), (2, f"{name} one"), (3, f"{name} two")]


@FEW_AND_MANY
async def test_a_kill_at_any_moment_leaves_each_branch_and_each_batch_whole_or_absent(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, rounds: Rounds, seed: Seed, much: str
):
    kills = rounds.of(100)
    said = [line.split() for line in work("branch_until_killed", place, sealer, tmp_path, kills, seed)]
    assert_whole(place.where)
    for child in range(kills + 1):
        done: dict[str, set[int]] = {what: set() for what in ("added", "made", "filled", "deleting", "deleted")}
        for number, what, which in said:
            if int(number) == child:
                done[what].add(int(which))
        async with open_store(place, f"child {child}") as store:
            session = EncryptedAdvancedSQLiteSession.wrap(store, sealer.ring, ttl=None)
            main = texts(await session.get_items())
            pairs = (len(main) - 1) // 2
            assert main == ["first", *(f"{number} {what}" for number in range(pairs) for what in ("one", "two"))]
            assert pairs - len(done["added"]) in (0, 1)
            names: Any = {branch["branch_id"] for branch in await session.list_branches()} - {"main"}
            found = {int(name.removeprefix("branch ")) for name in names}
            assert done["made"] - done["deleting"] <= found
            assert not found & done["deleted"]
            for number in found:
                name = f"branch {number}"
                items = texts(await session.get_items(branch_id=name))
                before = main[: 1 + 2 * number]
                whole = [*before, f"{name} one", f"{name} two"]
                assert items == whole or (items == before and number not in done["filled"])
                assert len(await turns(session, name)) == len(items)
            # And it goes on.
            await session.create_branch_from_turn(1, "after all")
            await session.add_items([question("new")])
            assert await turns(session) == [(1, "new")]

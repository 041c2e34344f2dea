"""A command that is killed at any moment has lost nothing, and the next run makes it whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from encrypted_sessions_tests.history_of_keys import Keys, Past
from encrypted_sessions_tests.maintenance_fork_harness import COMMANDS, run
from encrypted_sessions_tests.soak import FULL, Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.whole_stores import MAINTAINED, make_tables

KILLS = 100
SESSIONS, ITEMS = 12, 10


@pytest.fixture(params=one_cheap_and_soak(MAINTAINED))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


#: Over suite 2, what rewrites rows and what removes them; with ROUNDS=full every command.
OVER_SUITE_2 = {"reencrypt", "purge"}


@pytest.mark.parametrize(
    ("command", "suite"),
    [
        *((command, 1) for command in COMMANDS),
        *(pytest.param(one, 2, marks=pytest.mark.soak) for one in COMMANDS if FULL or one in OVER_SUITE_2),
    ],
)
async def test_the_next_run_after_a_kill_makes_the_store_whole(
    place: StoreLocation, tmp_path: Path, command: str, rounds: Rounds, seed: Seed, suite: int
):
    past = Past(Keys(suite=suite), SESSIONS, ITEMS)
    await make_tables(place)
    folder = tmp_path / "children"
    folder.mkdir()
    kills = rounds.of(KILLS)
    ((hit,),) = run("be_killed", place, past, folder, command=command, rounds=kills, seed=seed)
    assert hit > kills // 3 or not rounds.many, "many were killed in the midst"

"""A fleet moves to suite 2, to a new key and back, killed at random moments: nothing is unreadable at any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from encrypted_sessions_tests.history_of_keys import Keys, Past
from encrypted_sessions_tests.maintenance_fork_harness import run
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.whole_stores import MAINTAINED, make_tables

KILLS = 100


@pytest.fixture(params=one_cheap_and_soak(MAINTAINED))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def test_a_fleet_that_moves_there_and_back_can_read_everything_at_any_moment(
    place: StoreLocation, tmp_path: Path, rounds: Rounds, seed: Seed
):
    await make_tables(place)
    folder = tmp_path / "children"
    folder.mkdir()
    kills = rounds.of(KILLS)
    ((_, done, reads),) = run("fleet", place, Past(Keys(), 0, 0), folder, rounds=kills, seed=seed)
    assert done >= kills
    assert reads > kills, "every process read again and again"

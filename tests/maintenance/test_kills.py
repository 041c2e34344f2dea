"""A command that is killed at any moment has lost nothing, and the next run makes it whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from encrypted_sessions_tests.history_of_keys import Keys, Past
from encrypted_sessions_tests.maintenance_fork_harness import COMMANDS, run
from encrypted_sessions_tests.stores import Place
from encrypted_sessions_tests.whole_stores import make_tables

pytestmark = pytest.mark.soak

FULL = os.environ.get("ENCRYPTED_SESSIONS_FULL_SIZE") == "1"
#: Fewer of those that change nothing.
ROUNDS = {name: 100 if FULL else 8 if name in ("inventory", "verify") else 20 for name in COMMANDS}
SESSIONS, ITEMS = 12, 10


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_next_run_after_a_kill_makes_the_store_whole(place: Place, tmp_path: Path, command: str):
    past = Past(Keys(), SESSIONS, ITEMS)
    await make_tables(place)
    folder = tmp_path / "nursery"
    folder.mkdir()
    rounds = ROUNDS[command]
    ((hit,),) = run("be_killed", place, past, folder, command=command, rounds=rounds, seed=hash(command))
    assert hit > rounds // 3, "many were killed in the midst"

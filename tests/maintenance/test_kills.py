"""A command that is killed at any moment has lost nothing, and the next run makes it whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from history_of_keys import Keys, Past
from maintenance_nursery import COMMANDS, run
from stores import Place
from whole_stores import make_tables

ROUNDS = 100 if os.environ.get("ENCRYPTED_SESSIONS_FULL_SIZE") == "1" else 20
SESSIONS, ITEMS = 12, 10


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_next_run_after_a_kill_makes_the_store_whole(place: Place, tmp_path: Path, command: str):
    past = Past(Keys(), SESSIONS, ITEMS)
    await make_tables(place)
    folder = tmp_path / "nursery"
    folder.mkdir()
    ((hit,),) = run("be_killed", place, past, folder, command=command, rounds=ROUNDS, seed=hash(command))
    assert hit > ROUNDS // 2, "most were killed in the midst"

"""The sum of all that is told is what was done, by kid and outcome, in several processes at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from encrypted_sessions_tests import events_fork_harness as harness
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import new_place

KINDS = ["sqlite", "sqlalchemy-postgres", "redis"]
#: Of all kinds of store together, as everything that is told is of one kind.
OPERATIONS = 100_000
PROCESSES = 4


@pytest.mark.parametrize("kind", one_cheap_and_soak(KINDS))
def test_what_four_processes_were_told_is_what_they_did(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, rounds: Rounds, seed: Seed
):
    place = new_place(kind, request)
    operations = -(-rounds.of(OPERATIONS) // len(KINDS) // PROCESSES) if rounds.many else 60
    found = harness.work(place, tmp_path, processes=PROCESSES, operations=operations, seed=seed)
    told, done = Counter[str](), Counter[str]()
    for one in found:
        told.update(one["told"])
        done.update(one["done"])
        assert one["sequences"] == list(range(1, len(one["sequences"]) + 1))
    assert told == done, seed.how_to_replay(request.node.nodeid)
    assert sum(done.values()) > operations

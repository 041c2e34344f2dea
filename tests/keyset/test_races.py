"""Twenty processes that create and rotate one keyset at the same time: one wins, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from encrypted_sessions_tests.keyset_fork_harness import KINDS, MAIN, Keysets, make_main, new_place, opened, run
from encrypted_sessions_tests.soak import Rounds, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation

ROUNDS = 50
PROCESSES = 20


@pytest.fixture(params=one_cheap_and_soak(KINDS))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


def open_every_item(place: StoreLocation, lines: list[list[str]]) -> int:
    """Open what was sealed by the processes; how many items these are."""
    keysets = Keysets(place)
    providers = {}
    items = [words[2:] for words in lines if words[1] == "item"]
    for keyset, kid, token in items:
        provider = providers.setdefault(keyset, keysets.provider(keyset))
        key = provider.get(kid.partition("~")[0])
        assert key.kid == kid
        assert opened(key, token) == f"{keyset}/{kid}"
    return len(items)


def test_of_twenty_that_create_and_rotate_at_once_one_wins_each_time(
    place: StoreLocation, tmp_path: Path, rounds: Rounds
) -> None:
    count = rounds.of(ROUNDS)
    lines = run("race", place, tmp_path / "log", rounds=count, processes=PROCESSES)
    won = [words[2:] for words in lines if words[1] == "won"]
    keysets = Keysets(place)
    for at in range(count):
        created = [name for what, keyset, name in won if (what, keyset) == ("create", f"k{at}")]
        rotated = [name for what, keyset, name in won if (what, keyset) == ("rotate", f"k{at}")]
        assert (len(created), len(rotated)) == (1, 1)
        assert [key.name for key in keysets.manager(f"k{at}").list().keys] == created + rotated
    assert open_every_item(place, lines) == 2 * count


def test_of_twenty_that_rotate_at_once_in_an_emergency_none_is_lost(place: StoreLocation, tmp_path: Path) -> None:
    make_main(place)
    lines = run("rotate_now", place, tmp_path / "log", rounds=2, processes=PROCESSES)
    won = sorted(words[4] for words in lines if words[1] == "won")
    names = [key.name for key in Keysets(place).manager(MAIN).list().keys]
    assert len(names) == 1 + 2 * PROCESSES
    assert sorted(names[1:]) == won
    assert open_every_item(place, lines) == 2 * PROCESSES

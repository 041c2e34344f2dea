"""Processes killed at random moments of every change: the keyset opens, and so does every item ever written."""

from __future__ import annotations

from pathlib import Path

import pytest

from encrypted_sessions_tests.keyset_fork_harness import KINDS, MAIN, Keysets, make_main, new_place, opened, run
from encrypted_sessions_tests.soak import Rounds, Seed, one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation
from keyproviders import KeyDestroyedError

KILLS = 100


@pytest.fixture(params=one_cheap_and_soak(KINDS))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


def said(lines: list[list[str]], word: str, turn: str) -> list[list[str]]:
    """The keysets and names of keys that the log has for this."""
    return [words[3:] for words in lines if words[1:3] == [word, turn]]


def test_kills_lose_no_key_and_no_item(place: StoreLocation, tmp_path: Path, rounds: Rounds, seed: Seed) -> None:
    make_main(place)
    lines = run("change_until_killed", place, tmp_path / "log", rounds=rounds.of(KILLS), seed=seed)
    keysets = Keysets(place)
    main = keysets.manager(MAIN)
    states = {key.name: key.state for key in main.list().keys}

    turns = ("create", "rotate", "rewrap", "retire", "destroy")
    counts = {word: [len(said(lines, word, turn)) for turn in turns] for word in ("begin", "done")}
    assert all(counts["done"])
    assert sum(counts["begin"]) > sum(counts["done"]) or not rounds.many, "nothing was cut short"

    # What was said to be done is done, and nothing is that nobody began.
    made = [name for _, name in said(lines, "done", "rotate")]
    begun = [name for _, name in said(lines, "begin", "rotate")]
    assert {"first", *made} <= set(states) <= {"first", *begun}
    destroyed = {name for name, state in states.items() if state == "destroyed"}
    gone, going = ({name for _, name in said(lines, word, "destroy")} for word in ("done", "begin"))
    assert gone <= destroyed <= going
    retired = {name for _, name in said(lines, "done", "retire")}
    assert {states[name] for name in retired} <= {"retired", "destroyed"}

    # Every keyset that was made is whole; one that was cut short is there or is not.
    made_keysets = {keyset for keyset, _ in said(lines, "done", "create")}
    for keyset, name in said(lines, "begin", "create"):
        if keyset in made_keysets or keysets.store(keyset).read(keyset) is not None:
            assert [key.name for key in keysets.manager(keyset).list().keys] == [name]
            assert keysets.provider(keyset).active().name == name

    # Every item opens, unless its key was destroyed. A retired key comes back.
    for name, state in states.items():
        if state == "retired":
            main.restore(name)
    providers = {}
    items = {tuple(words[2:]) for words in lines if words[1] == "item"}
    assert items
    for keyset, kid, token in items:
        provider = providers.setdefault(keyset, keysets.provider(keyset))
        name = kid.partition("~")[0]
        if keyset == MAIN and name in destroyed:
            with pytest.raises(KeyDestroyedError):
                provider.get(name)
            continue
        key = provider.get(name)
        assert key.kid == kid
        assert opened(key, token) == f"{keyset}/{kid}"

"""Agents write and pop throughout, two runs at once: in the end every item is there once, in order, in its old age."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.maintenance import inventory, reencrypt, verify
from encrypted_sessions_tests.envelopes import kid_of, timestamp_of
from encrypted_sessions_tests.history_of_keys import TTL, Keys, Past, compare, kind_of
from encrypted_sessions_tests.maintenance_fork_harness import run
from encrypted_sessions_tests.soak import FULL, Rounds
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.suite_2_rows import told_by
from encrypted_sessions_tests.whole_rows import Found, read_all, write_all
from encrypted_sessions_tests.whole_stores import MAINTAINED, make_tables, whole

SESSIONS, ITEMS = 2_000, 100

#: Two runs at once, each through all commands.
RUNS = [["reencrypt", "purge", "encrypt", "verify"], ["purge", "reencrypt", "verify", "encrypt"]]


class Told:
    """What agents and runs have to tell."""

    def __init__(self, lines: list[Any]) -> None:
        agents = [line[1:] for line in lines if line[0] == "agent"]
        self.reports = [line[1:] for line in lines if line[0] == "report"]
        self.added = {
            text: (session_id, began, ended)
            for agent in agents
            for session_id, texts, began, ended in agent[1]
            for text in texts
        }
        self.popped = Counter(text for agent in agents for text in agent[2])
        self.unavailable = sum(agent[4] for agent in agents)
        self.agents = len(agents)


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.parametrize(
    ("place", "suite"),
    [*((kind, 1) for kind in MAINTAINED), *((kind, 2) for kind in MAINTAINED if FULL or kind == MAINTAINED[0])],
    indirect=["place"],
)
async def test_nothing_is_lost_doubled_or_younger_and_what_expired_is_gone(
    place: StoreLocation, tmp_path: Path, rounds: Rounds, suite: int
):
    sessions = rounds.of(SESSIONS)
    past = Past(Keys(suite=suite), sessions, ITEMS)
    before = past.rows()
    await make_tables(place)
    await write_all(place, before)
    folder = tmp_path / "children"
    folder.mkdir()
    told = Told(run("under_load", place, past, folder, runs=RUNS))

    assert told.agents == 4
    assert len(told.added) > 50
    assert len(told.popped) > 50
    assert set(told.popped.values()) == {1}, "no item came out twice"
    assert told.unavailable == 0, "nobody waited in vain for the store"
    for name, _, _, left, stopped, _ in told.reports:
        assert stopped is None, name
        assert set(left) <= {"unauthentic", "plaintext"}, name
    assert sum(changed for name, _, changed, *_ in told.reports if name == "purge") <= sum(
        kind_of(session, number) == "expired" for session in range(sessions) for number in range(ITEMS)
    )

    found = await read_all(place)
    wrong, rest = compare(past, before, found, "all at once", popped=frozenset(told.popped))
    assert wrong == []
    check_added(past, told, rest)

    # What an agent still wrote under an older key meanwhile, one more run moves.
    async with whole(place) as store:
        keys = past.keys.ring()
        to: dict[str, Any] = {"suite": 2, "ttl": TTL} if suite == 2 else {}
        last = await reencrypt(store, keys, upstream_key=past.keys.upstream_key, **to)
        assert set(last.left) <= {"unauthentic"}
        proof = await verify(store, keys, ttl=TTL)
        told_by_all = await inventory(store, keys, ttl=TTL)
        keys.close()
    altered = sum(
        kind_of(session, number) == "altered" and past.text(session, number) not in told.popped
        for session in range(sessions)
        for number in range(ITEMS)
    )
    assert proof.left == {"unauthentic": altered}
    assert set(proof.found) == {"ok", "unauthentic"}
    # What was altered is a doubt, and all else is sure.
    assert told_by_all.conclusion.startswith(f"{altered:,} rows open under no key that this process holds")
    assert f"does not depend on any key but {past.keys.active.kid}" in told_by_all.conclusion
    after = await read_all(place)
    wrong, rest = compare(past, before, after, "all at once", popped=frozenset(told.popped))
    assert wrong == []
    check_added(past, told, rest)
    suites = Counter(told_by(row.data).suite for rows in after.values() for row in rows)
    assert set(suites) == {suite}
    kids = Counter(kid_of(row.data) for rows in after.values() for row in rows)
    assert kids == {past.keys.active.kid: proof.found["ok"], past.keys.oldest.kid: altered}


def check_added(past: Past, told: Told, rest: dict[str, list[Found]]) -> None:
    """What agents added and nobody popped is there, in the order in which it was added, at its own time."""
    expected: dict[str, list[str]] = {session_id: [] for session_id in rest}
    for text, (session_id, _, _) in told.added.items():
        if text not in told.popped:
            expected.setdefault(session_id, []).append(text)
    texts = {session_id: [past.keys.text_of(session_id, row.data) for row in rows] for session_id, rows in rest.items()}
    assert {name: rows for name, rows in texts.items() if rows} == {
        name: rows for name, rows in expected.items() if rows
    }
    for session_id, rows in rest.items():
        for row in rows:
            _, began, ended = told.added[str(past.keys.text_of(session_id, row.data))]
            assert began <= timestamp_of(row.data) <= ended

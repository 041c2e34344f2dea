"""A walk through a history: against a model that looks at one row after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from agents import SQLiteSession
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encrypted_sessions import EncryptedSession, History, Key, KeyRing
from encrypted_sessions.core.envelope import pack
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions_tests.soak import examples
from encrypted_sessions_tests.stores import PlainSession
from keyproviders.local import StaticKeyProvider

KEY = Key("test", bytes(n * n % 251 for n in range(32)))
NOW = 1_800_000_000
TTL = 600

#: Seconds since each kind of row was sealed; what is not here is sealed now.
AGES = {"expired lately": TTL + 120, "expired": TTL + 121, "expired_unverified": TTL + 500, "not_yet_valid": -61}
OTHERS = ("not_yet_valid", "unauthentic", "unknown_key", "expired_unverified", "plaintext", "malformed", "unsupported")
KINDS = ("ok", "expired", "expired lately", *OTHERS)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(NOW))


class Stored(NamedTuple):
    """One row: what becomes of it, and what it says."""

    kind: str
    said: str

    @property
    def outcome(self) -> str:
        return "expired" if self.kind.startswith("expired l") else self.kind

    @property
    def item(self) -> dict[str, Any]:
        """A message, or one half of a tool call."""
        if self.said.startswith(("function_call ", "function_call_output ")):
            kind, call_id = self.said.split(" ")
            return {"type": kind, "call_id": call_id}
        return {"role": "user", "content": self.said}


@cache
def row(stored: Stored) -> str:
    """The row as it lies in the store."""
    cipher = FernetCipher.derive(KEY.secret, "another" if stored.kind == "unauthentic" else "session")
    kid = "gone~01234567" if stored.kind in ("unknown_key", "expired_unverified") else KEY.kid
    sealed = pack(kid, cipher.seal(stored.item, NOW - AGES.get(stored.kind, 0)))
    odd: dict[str, object] = {"plaintext": stored.item, "malformed": [stored.item], "unsupported": {**sealed, "v": 3}}
    return json.dumps(odd.get(stored.kind, sealed))


class Expected(NamedTuple):
    items: list[dict[str, Any]]
    outcomes: dict[str, int]
    findings: list[tuple[int, str]]


def walked(history: Sequence[Stored], limit: int | None, *, read_plaintext: bool) -> Expected:
    """The blueprint's rules, row by row from the newest."""
    kept: list[Stored] = []  # newest first
    counts: Counter[str] = Counter(ok=0)
    findings: list[tuple[int, str]] = []
    since_gap = 0  # how many of `kept` are newer than the oldest row that was left out
    in_a_row = 0
    for position, stored in enumerate(reversed(history)):
        counts[stored.outcome] += 1
        if stored.kind == "ok" or (stored.kind == "plaintext" and read_plaintext):
            kept.append(stored)
            in_a_row = 0
            if len(kept) == limit:
                break
            continue
        since_gap = len(kept)
        if stored.outcome != "expired":
            findings.append((position, stored.outcome))
        in_a_row = in_a_row + 1 if stored.kind == "expired" else 0
        if limit is not None and in_a_row == 64:
            since_gap = len(kept)
            break
    ended_early = limit is not None and in_a_row == 64
    items: list[dict[str, Any]] = []
    calls: set[str] = set()
    for index, stored in enumerate(reversed(kept)):
        kind, _, call_id = stored.said.partition(" ")
        newer_than_a_gap = len(kept) - index <= since_gap
        if kind == "function_call_output" and call_id not in calls and (newer_than_a_gap or ended_early):
            counts[stored.outcome] -= 1
            counts["unpaired"] += 1
            continue
        if kind == "function_call":
            calls.add(call_id)
        items.append(stored.item)
    return Expected(items, {name: count for name, count in counts.items() if count or name == "ok"}, findings[:20])


def histories() -> st.SearchStrategy[list[Stored]]:
    """Runs of rows of one kind, some of them as long as the rule that ends a search."""
    lengths = st.integers(1, 5) | st.sampled_from([1, 1, 1, 63, 64, 65, 130])
    runs = st.tuples(st.sampled_from([*KINDS, "ok", "ok", "expired", "expired"]), lengths)
    said = st.sampled_from(
        ["message", "message", *(f"{kind} {i}" for kind in ("function_call", "function_call_output") for i in "abc")]
    )
    return st.lists(st.tuples(runs, said), max_size=9).map(
        lambda found: [
            Stored(kind, f"{what} {place}" if what == "message" else what)
            for place, ((kind, length), what) in enumerate(found)
            for _ in range(length if what == "message" else 1)
        ]
    )


@contextlib.contextmanager
def plain_store() -> Iterator[Any]:
    rows: list[Any] = []
    store = PlainSession("session", rows)

    def put(history: Sequence[Stored]) -> None:
        rows[:] = [row(stored) for stored in history]

    yield store, put


@contextlib.contextmanager
def file_store() -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sessions.db")
        store = SQLiteSession("session", path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO agent_sessions (session_id) VALUES ('session')")

            def put(history: Sequence[Stored]) -> None:
                connection.execute("BEGIN")
                connection.execute("DELETE FROM agent_messages")
                connection.executemany(
                    "INSERT INTO agent_messages (session_id, message_data) VALUES ('session', ?)",
                    [(row(stored),) for stored in history],
                )
                connection.execute("COMMIT")

            try:
                yield store, put
            finally:
                store.close()


@pytest.mark.parametrize("read_plaintext", [False, True], ids=["plaintext refused", "plaintext read"])
@pytest.mark.parametrize("kind_of_store", [plain_store, file_store])
def test_a_walk_finds_what_the_rules_say(kind_of_store: Any, read_plaintext: bool) -> None:
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop), kind_of_store() as (store, put):
        ring = KeyRing(StaticKeyProvider(KEY))
        session = EncryptedSession.wrap(store, ring, ttl=TTL, plaintext="read" if read_plaintext else "raise")
        expired = [Stored("expired", "old")]
        call, output = Stored("ok", "function_call a"), Stored("ok", "function_call_output a")

        @settings(max_examples=examples(80))
        @given(histories(), st.none() | st.integers(1, 12) | st.sampled_from([64, 65, 300]))
        @example([call, *expired * 64, output], 5)
        @example([call, *expired * 63, output], 5)
        @example([call, *expired * 64, output], None)
        @example([call, Stored("ok", "x"), output], 2)
        @example([call, Stored("malformed", "x"), output], 1)
        @example([call, Stored("malformed", "x"), output], 2)
        @example([call, Stored("ok", "y"), Stored("malformed", "x"), output], 2)
        @example([Stored("expired", "function_call a"), output, Stored("ok", "x")], None)
        @example([Stored("ok", "x"), *expired * 70, *[Stored("expired lately", "x")] * 70], 3)
        def finds(history: list[Stored], limit: int | None) -> None:
            put(history)
            found: History = loop.run_until_complete(session.read(limit))
            expected = walked(history, limit, read_plaintext=read_plaintext)
            assert found.items == expected.items
            assert found.outcomes == expected.outcomes
            assert [(finding.position, finding.outcome) for finding in found.findings] == expected.findings

        finds()
        loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.parametrize("kind_of_store", [plain_store, file_store])
@pytest.mark.parametrize("rows", [1, 300, 10_000])
def test_a_walk_through_rows_that_cannot_be_read_stays_linear(kind_of_store: Any, rows: int) -> None:
    """Who can write the store can make a walk long, but not longer than a few times the history."""
    with kind_of_store() as (store, put):
        put([Stored("ok", "the oldest"), *[Stored("malformed", "x")] * rows])
        session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(KEY)), ttl=TTL)

        cursors = []
        new_cursor = session._sealed.cursor

        def kept(keywords: dict[str, Any]) -> Any:
            cursors.append(new_cursor(keywords))
            return cursors[-1]

        session._sealed.cursor = kept  # type: ignore[method-assign]  # to count what it fetches
        found = asyncio.run(session.read(1))
        assert found.items == [{"role": "user", "content": "the oldest"}]
        assert sum(cursor.fetched for cursor in cursors) <= 4 * (rows + 1) + 256

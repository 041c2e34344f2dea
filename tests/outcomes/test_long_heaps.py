"""A heap of expired rows at the tail takes a pop several steps, and each of them is progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import SQLiteSession

from encrypted_sessions import EncryptedSession, KeyRing


async def test_a_heap_that_takes_many_steps_is_no_change_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encrypted_sessions.history.popping._REMOVED_AT_ONCE", 1)
    monkeypatch.setattr("encrypted_sessions.history.sealed_history._ATTEMPTS", 3)
    now = 1_800_000_000
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: now)
    store = SQLiteSession("user-1", tmp_path / "agents.db")
    session = EncryptedSession.wrap(store, KeyRing.ephemeral(), ttl=600)
    await session.add_items([{"role": "user", "content": "late"}])
    now -= 10_000
    await session.add_items([{"role": "user", "content": "early"}] * 8)
    now += 10_000
    assert await session.pop_item() == {"role": "user", "content": "late"}
    assert await store.get_items() == []
    store.close()

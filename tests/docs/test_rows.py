"""The rows that the README shows, in each language, are rows as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, SQLiteSession
from agents.testing import ScriptedModel, assistant_message

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests.documents import ROOT, blocks


async def first_row(store: SQLiteSession, session: Any) -> dict[str, Any]:
    agent = Agent(name="helper", model=ScriptedModel([[assistant_message("It is on its way.")]]))
    await Runner.run(agent, "Where is my order?", session=session)
    row: Any = (await store.get_items())[0]
    store.close()
    return dict(row)


@pytest.mark.parametrize("readme", ["README.md", "docs/zh/README.md"])
async def test_the_rows_of_the_readme_are_what_lies_in_the_store(tmp_path: Path, monkeypatch: Any, readme: str) -> None:
    monkeypatch.setenv("SESSION_KEYS", "3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=")
    before, now = (json.loads(block.text) for block in blocks(ROOT / readme, "json"))

    bare = SQLiteSession("user-123", tmp_path / "bare.db")
    assert await first_row(bare, bare) == before

    store = SQLiteSession("user-123", tmp_path / "agents.db")
    row = await first_row(store, EncryptedSession.wrap(store, KeyRing.from_url("env:SESSION_KEYS"), ttl=86_400))
    assert list(row) == list(now)
    assert (row["__enc__"], row["v"]) == (now["__enc__"], now["v"])
    for envelope in (row, now):
        assert re.fullmatch("~[0-9a-f]{8}", envelope["kid"])
        assert envelope["payload"].startswith("gAAAAAB")

"""A file for sessions with branches, and keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

from encrypted_sessions import KeyRing, session
from encrypted_sessions.history import session_log
from encrypted_sessions_tests.fake_clock import FakeClock


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told once a minute has not been told by another test."""
    monkeypatch.setattr(session_log, "_told_at", OrderedDict())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    ring = KeyRing.ephemeral()
    yield ring
    ring.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(session, "_now", clock)
    return clock

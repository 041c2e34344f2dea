"""What the tests with agents share."""

from __future__ import annotations

import pytest

from encrypted_sessions_tests.fake_clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("encrypted_sessions.session._now", clock)
    return clock

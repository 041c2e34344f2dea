"""What the tests with agents share."""

from __future__ import annotations

import pytest

from encrypted_sessions_tests.fake_clock import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr("encrypted_sessions.session._now", clock)
    return clock

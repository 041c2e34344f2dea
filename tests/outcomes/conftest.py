"""A place of each kind, and keys of every fate."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from encrypted_sessions.history import session_log
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import KINDS, StoreLocation, new_place


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told once a minute has not been told by another test."""
    monkeypatch.setattr(session_log, "_told_at", OrderedDict())


@pytest.fixture(params=distinct(KINDS))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)

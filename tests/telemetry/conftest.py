"""Gauges tell of every ring of a process; a test tells of its own."""

from __future__ import annotations

import pytest

from keyproviders.ring import snapshots


@pytest.fixture(autouse=True)
def _no_rings_of_tests_before(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = snapshots.survivors
    before = list(all_of_them())
    monkeypatch.setattr(
        snapshots, "survivors", lambda: [one for one in all_of_them() if not any(one is other for other in before)]
    )

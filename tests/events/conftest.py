"""Places, keys of every fate, and what was told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from encrypted_sessions import observe
from encrypted_sessions_tests.stores import StoreLocation, new_place

FOUR = ["sqlite", "sqlalchemy-postgres", "redis", "plain"]


@pytest.fixture(params=FOUR)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def observed() -> Iterator[list[Any]]:
    """What the process tells, but for the events of keys."""
    told: list[Any] = []

    def hook(event: Any) -> None:
        if hasattr(event, "sequence"):
            told.append(event)

    stop = observe(hook)
    yield told
    stop()

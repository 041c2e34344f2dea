"""A whole store of each kind, and keys of every fate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from encrypted_sessions_tests.sealed_rows import Sealer
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.whole_stores import MAINTAINED


@pytest.fixture(params=MAINTAINED)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def file(request: pytest.FixtureRequest) -> StoreLocation:
    """One that is quick, where the kind of store makes no difference."""
    return new_place("sqlite", request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    yield sealer
    sealer.ring.close()

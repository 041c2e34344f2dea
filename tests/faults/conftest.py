"""What every test of faults has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from encrypted_sessions_tests.sealed_rows import Sealer


@pytest.fixture
def sealer(request: pytest.FixtureRequest) -> Iterator[Sealer]:
    """Seals rows for the session that the test's module works with, its SESSION."""
    sealer = Sealer(request.module.SESSION)
    yield sealer
    sealer.ring.close()

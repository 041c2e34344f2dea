"""The helpers of this folder are programs as well; tests get them as fixtures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from encrypted_sessions_tests.scripts import load_script

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def decoys() -> ModuleType:
    return load_script(_HERE / "decoys.py")


@pytest.fixture(scope="session")
def locks() -> ModuleType:
    return load_script(_HERE / "locks.py")

"""The scripts of this folder; tests get them as fixtures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from encrypted_sessions_tests.scripts import load_script

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def components() -> ModuleType:
    return load_script(_HERE / "components.py")


@pytest.fixture(scope="session")
def release_check() -> ModuleType:
    return load_script(_HERE / "release_check.py")


@pytest.fixture(scope="session")
def audit() -> ModuleType:
    return load_script(_HERE / "audit.py")


@pytest.fixture(scope="session")
def api() -> ModuleType:
    return load_script(_HERE / "api.py")

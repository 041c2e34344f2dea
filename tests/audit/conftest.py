"""A folder for audit logs, and a log in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.audit import AuditLog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "audit"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def new_log(folder: Path) -> Iterator[Callable[..., AuditLog]]:
    logs: list[AuditLog] = []

    def make(**options: Any) -> AuditLog:
        logs.append(AuditLog(folder, **options))
        return logs[-1]

    yield make
    for log in logs:
        log.close()

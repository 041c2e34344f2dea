"""A server on loopback that answers as it is told, over real HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from encrypted_sessions_tests.scripted_vault import Reply, ScriptedVault


@pytest.fixture(autouse=True)
def _files_are_for_their_owner() -> Iterator[None]:
    """As a service that keeps keys or credentials in files has it; others are warned of."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings, the token or the proxies of whoever runs it."""
    for name in os.environ:
        if name.startswith(("BAO_", "VAULT_", "AWS_")) or name.upper() in {
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def vault() -> Iterator[ScriptedVault]:
    script = ScriptedVault()
    try:
        yield script
    finally:
        script.close()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file as an agent keeps it: the login without a request of its own."""
    path = tmp_path / "token"
    path.write_text("TOKEN\n")
    return path

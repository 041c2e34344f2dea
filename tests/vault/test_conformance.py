"""The suite that every provider passes, over real HTTP."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from keyproviders import Key, KeyProvider
from keyproviders.testing import KeyProviderConformance
from keyproviders.vault import VaultKvKeyProvider


class TestVaultKv(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _a_server_with_two_versions(self, vault, reply, token_file: Path):
        path = "/v1/secret/data/agents/session-key"
        newest = reply(200, vault.secret(Key.generate(), 2))
        vault.on("GET", path, newest)
        vault.on("GET", f"{path}?version=2", newest)
        vault.on("GET", f"{path}?version=1", reply(200, vault.secret(Key.generate(), 1)))
        self.given = {"address": vault.url, "auth": "token-file", "token_file": token_file}
        self.made: list[VaultKvKeyProvider] = []
        yield
        for provider in self.made:
            provider.close()

    def make_provider(self) -> KeyProvider:
        self.made.append(VaultKvKeyProvider("agents/session-key", **self.given))
        return self.made[-1]

    def older_name(self) -> str | None:
        return "1"

    def test_it_starts_no_threads(self) -> None:
        """But for those of this test's own server, which has one for each connection."""
        before = set(threading.enumerate())
        self.make_provider().active()
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        assert [name for name in new if "process_request_thread" not in name] == []

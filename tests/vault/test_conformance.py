"""The suites that every provider and every wrapper passes, over real HTTP."""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyproviders import Key, KeyProvider
from keyproviders.keyset import KeyWrapper
from keyproviders.testing import KeyProviderConformance, KeyWrapperConformance
from keyproviders.vault import VaultKvKeyProvider, VaultTransitKeyWrapper


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


class Transit:
    """Derived keys of a Transit mount in a few lines: AES-GCM, with the context as associated data."""

    def __init__(self, vault, reply, *names: str) -> None:
        self._reply = reply
        self._keys = {name: os.urandom(32) for name in names}
        for name in names:
            for operation in ("datakey/plaintext", "encrypt", "decrypt", "rewrap"):
                vault.on("POST", f"/v1/transit/{operation}/{name}", self._answer)

    def _answer(self, asked: Any) -> Any:
        operation, _, name = asked.path.removeprefix("/v1/transit/").rpartition("/")
        context = base64.b64decode(asked.body["context"])
        if not context:
            return self._reply(400, {"errors": ["missing 'context' for key derivation; the key was created using"]})
        try:
            return self._reply(200, {"data": self._done(operation, AESGCM(self._keys[name]), asked.body, context)})
        except InvalidTag:
            return self._reply(400, {"errors": ["cipher: message authentication failed"]})

    def _done(self, operation: str, key: AESGCM, body: dict[str, Any], context: bytes) -> dict[str, str]:
        if operation in {"decrypt", "rewrap"}:
            raw = base64.b64decode(body["ciphertext"].removeprefix("vault:v1:"))
            secret = key.decrypt(raw[:12], raw[12:], context)
        else:
            secret = base64.b64decode(body["plaintext"]) if operation == "encrypt" else os.urandom(32)
        nonce = os.urandom(12)
        ciphertext = base64.b64encode(nonce + key.encrypt(nonce, secret, context)).decode()
        return {"plaintext": base64.b64encode(secret).decode(), "ciphertext": f"vault:v1:{ciphertext}"}


class TestTransit(KeyWrapperConformance):
    @pytest.fixture(autouse=True)
    def _a_mount_with_two_keys(self, vault, reply, token_file: Path):
        Transit(vault, reply, "first", "second")
        self.given = {"address": vault.url, "auth": "token-file", "token_file": token_file}
        self.made: list[VaultTransitKeyWrapper] = []
        yield
        for wrapper in self.made:
            wrapper.close()

    def make_wrapper(self) -> KeyWrapper:
        self.made.append(VaultTransitKeyWrapper("first", **self.given))
        return self.made[-1]

    def make_successor(self) -> KeyWrapper:
        self.made.append(VaultTransitKeyWrapper("second", also_kek="transit/first", **self.given))
        return self.made[-1]

    def test_it_starts_no_threads(self) -> None:
        """But for those of this test's own server, which has one for each connection."""
        before = set(threading.enumerate())
        self.make_wrapper().generate({"keyset": "k", "key": "first"})
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        assert [name for name in new if "process_request_thread" not in name] == []

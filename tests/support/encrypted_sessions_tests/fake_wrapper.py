"""A KeyWrapper in memory: AES-GCM under keys that follow from their names, so that processes share them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyproviders import InvalidKeyError, ProviderConfigError
from keyproviders.keyset import WrappedKey

_NONCE_BYTES = 12


class FakeKeyWrapper:
    """Wraps under the key-encryption key of this name.

    ``calls`` counts what it was asked. ``failure``, while it is set, is raised instead of an answer.
    """

    URL_OPTIONS: ClassVar[frozenset[str]] = frozenset({"also_kek", "region"})
    URL_REFUSED: ClassVar[Mapping[str, str]] = {"token": "URLs are logged and shown"}
    URL_EXAMPLE: ClassVar[str] = "aws-kms:alias/agents"

    #: What every wrapper made by ``from_options`` counts and fails with: a test cannot reach into these.
    shared_calls: ClassVar[Counter[str]] = Counter()

    def __init__(self, kek: str = "fake/agents", *, also_kek: str | tuple[str, ...] = ()) -> None:
        self.kek = kek
        self._known = {kek, *((also_kek,) if isinstance(also_kek, str) else also_kek)}
        self.place = f"fake:{kek}"
        self.calls: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.closed = 0
        self.forked = 0

    @classmethod
    def from_options(cls, path: str, options: Mapping[str, str], *, allow_insecure: bool) -> FakeKeyWrapper:
        wrapper = cls(path, also_kek=tuple(filter(None, options.get("also_kek", "").split(","))))
        wrapper.calls = cls.shared_calls
        return wrapper

    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        self._called("generate")
        secret = os.urandom(32)
        return secret, self._sealed(secret, context)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        self._called("unwrap")
        self._check_known(wrapped, context)
        return self._opened(wrapped, context)

    def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
        self._called("rewrap")
        return self._sealed(self._opened(wrapped, context), context)

    def rebind(self, wrapped: WrappedKey, old_context: Mapping[str, str], new_context: Mapping[str, str]) -> WrappedKey:
        self._called("rebind")
        self._check_known(wrapped, old_context)
        return self._sealed(self._opened(wrapped, old_context), new_context)

    def close(self) -> None:
        self.closed += 1

    def after_fork(self) -> None:
        self.forked += 1

    def __repr__(self) -> str:
        return f"<FakeKeyWrapper {self.place}>"

    def _called(self, what: str) -> None:
        self.calls[what] += 1
        if self.failure is not None:
            raise self.failure

    def _check_known(self, wrapped: WrappedKey, context: Mapping[str, str]) -> None:
        if wrapped.kek not in self._known:
            raise ProviderConfigError(
                f"the key {context['key']!r} is wrapped under {wrapped.kek}, and {self.place} is {self.kek}; add"
                f" also_kek={wrapped.kek}"
            )

    def _sealed(self, secret: bytes, context: Mapping[str, str]) -> WrappedKey:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + _cipher(self.kek).encrypt(nonce, secret, _bound(context))
        return WrappedKey(self.kek, base64.b64encode(sealed).decode("ascii"))

    def _opened(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        try:
            sealed = base64.b64decode(wrapped.ciphertext, validate=True)
            return _cipher(wrapped.kek).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(context))
        except (ValueError, InvalidTag):
            problem = f"{self.place} cannot open the key {context['key']!r}: damaged, or of another keyset or name"
        raise InvalidKeyError(problem)


def _cipher(kek: str) -> Any:
    return AESGCM(hashlib.sha256(f"fake key-encryption key {kek}".encode()).digest())


def _bound(context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(context), sort_keys=True).encode()

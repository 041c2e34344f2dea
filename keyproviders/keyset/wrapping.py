"""What a place that wraps keys must be able to do: AWS KMS, Vault Transit, or one of your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["BOUND_NAMES", "KeyWrapper", "WrappedKey"]

#: What the keyset itself binds to each wrapped key. A context of the user's own has none of these names.
BOUND_NAMES = frozenset({"keyset", "key", "created_at"})


class WrappedKey(NamedTuple):
    """A key that only its key-encryption key opens.

    ``kek`` is the key-encryption key as its place names it for good, such as the ARN of a KMS key.
    ``ciphertext`` is printable ASCII text, such as base64. Neither is secret.
    """

    kek: str
    ciphertext: str


@runtime_checkable
class KeyWrapper(Protocol):
    """A place that wraps keys. Small and synchronous, as a provider is.

    It asks its place once and answers, or raises from the tree in ``keyproviders.errors``. It does
    not cache, retry, sleep or start threads, and may be called from several threads, at most 4 at
    once. ``place`` names it in messages, without secrets.

    ``context`` is what the keyset binds to a key: ``keyset`` (its name), ``key`` (the key's name) and
    ``created_at``, such as ``2026-11-23T07:00:00Z``. A wrapped key must open under exactly the context
    that it was made with, so that none opens in another keyset or under another name.

    It may also have ``close()``, and ``after_fork()``, called in a forked child before its first call
    there.
    """

    place: str

    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        """32 new random bytes, and the same wrapped under the wrapper's own key-encryption key."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """The 32 bytes. A key-encryption key that the wrapper was not told of is ProviderConfigError."""
        ...

    def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
        """The same key under the newest version of the wrapper's own key-encryption key.

        It may come from another one. The plain key stays within the place where that is possible.
        """
        ...

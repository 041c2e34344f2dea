"""What a place that wraps keys must be able to do, what it binds to a key, and the checks that every one makes.

Such a place is AWS KMS, Vault Transit, or one of your own. Its own key, which never leaves it, is the
key-encryption key (KEK).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .errors import ProviderConfigError

__all__ = [
    "BOUND_NAMES",
    "KeyWrapper",
    "KeyWrapperType",
    "WrappedKey",
    "arguments_from_options",
    "bound_context",
    "check_context",
    "check_wrapped",
    "checked_keks",
    "describe_key",
    "own_context",
]

#: What every keyset itself binds to each wrapped key. A context of the user's own has none of these names.
BOUND_NAMES = frozenset({"keyset", "key", "created_at"})


class WrappedKey(NamedTuple):
    """A key that only its key-encryption key opens. Nothing in it is secret.

    Args:
        kek: The permanent name of the key-encryption key, such as the ARN of a KMS key.
        ciphertext: The wrapped key, as printable ASCII text such as base64.
    """

    kek: str
    ciphertext: str


@runtime_checkable
class KeyWrapper(Protocol):
    """Wraps keys, in a KMS for example. Small and synchronous, as a provider is.

    It makes one request and answers, or raises an error of the tree in `keyproviders.errors`. It does not cache,
    retry, sleep or start threads, and may be called from several threads, at most 4 at once. `place` describes it in
    messages, without secrets.

    `context` is what the keyset binds to a key: `keyset` (its name), `key` (the key's name), `created_at`, such as
    `2026-11-23T07:00:00Z`, and `keyset_id`, which is missing only for keysets of format 1. A wrapped key must open
    only under exactly the context with which it was made, so that it opens neither in another keyset nor under
    another name.

    It may also have `rebind(wrapped, old_context, new_context)`, which is needed to upgrade a keyset of format 1: it
    returns the same key under the wrapper's own key-encryption key and the new context, and refuses what
    `unwrap(wrapped, old_context)` would refuse.

    It may also have `close()`, and `after_fork()`, called in a forked child before its first call
    there.
    """

    place: str

    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        """Make a key.

        Args:
            context: What is bound to it.

        Returns:
            32 new random bytes, plain and wrapped under the wrapper's own key-encryption key.

        Raises:
            KeyProviderError: Any error of this tree.
        """
        ...

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Open a key.

        Args:
            wrapped: The key as it was wrapped.
            context: What was bound to it then.

        Returns:
            The 32 bytes.

        Raises:
            InvalidKeyError: It was altered, or wrapped under another context.
            ProviderConfigError: The wrapper was not configured with its key-encryption key.
            KeyProviderError: Any other error of this tree.
        """
        ...

    def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
        """Wrap a key under the newest version of the wrapper's own key-encryption key.

        It may be wrapped by another one. If possible, the plain key stays within the KMS.

        Args:
            wrapped: The key as it was wrapped.
            context: What was bound to it then, and is again.

        Returns:
            The same key, wrapped again.

        Raises:
            InvalidKeyError: It was altered, or wrapped under another context.
            KeyProviderError: Any other error of this tree.
        """
        ...


class KeyWrapperType(Protocol):
    """What a URL scheme of a wrapper leads to: mostly the wrapper's own class.

    `URL_OPTIONS` are the names of its options in a URL, `URL_REFUSED` has further names, each with what
    to do instead, and `URL_EXAMPLE` is the beginning of a URL, for messages.
    """

    URL_OPTIONS: Collection[str]
    URL_REFUSED: Mapping[str, str]
    URL_EXAMPLE: str

    def from_options(self, path: str, options: Mapping[str, str], *, allow_insecure: bool = False) -> KeyWrapper:
        """The wrapper for the parts of a URL: its path and its options, without the options of the keyset."""
        ...


def arguments_from_options(options: Mapping[str, str]) -> dict[str, Any]:
    """A wrapper's arguments in the options of its URL, where `also_kek` has commas between several."""
    given: dict[str, Any] = dict(options)
    if "also_kek" in given:
        given["also_kek"] = tuple(given["also_kek"].split(","))
    return given


def own_context(context: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of a wrapper's own context. Raises TypeError and ProviderConfigError."""
    if context is None:
        return {}
    check_context(context)
    taken = sorted(BOUND_NAMES & context.keys())
    if taken:
        raise ProviderConfigError(f"context contains {taken[0]!r}, which the keyset binds itself; choose another name")
    return dict(context)


def bound_context(own: Mapping[str, str], context: Mapping[str, str]) -> dict[str, str]:
    """All that is bound to a key: a wrapper's own context, and the keyset's. Raises TypeError, ProviderConfigError."""
    check_context(context)
    # A keyset of format 1 leaves the name keyset_id to its user.
    taken = sorted(own.keys() & context.keys())
    if taken:
        raise ProviderConfigError(f"context contains {taken[0]!r}, which the keyset binds itself; choose another name")
    return {**own, **context}


def check_context(context: object) -> None:
    """Raise TypeError for anything but a mapping of str to str."""
    if not isinstance(context, Mapping):
        raise TypeError(f"context must be a mapping of str to str, not {type(context).__name__}")
    for pair in context.items():
        if not all(isinstance(one, str) for one in pair):
            kinds = " to ".join(type(one).__name__ for one in pair)
            raise TypeError(f"context must be a mapping of str to str; it has {kinds}")


def checked_keks(also_kek: str | tuple[str, ...]) -> tuple[str, ...]:
    """The key-encryption keys of `also_kek`, which may be one of them. Raises TypeError."""
    texts: object = (also_kek,) if isinstance(also_kek, str) else also_kek
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"also_kek must be a str or a tuple of str, not {type(also_kek).__name__}")
    return texts


def check_wrapped(wrapped: object) -> None:
    """Raise TypeError for anything but a WrappedKey with two texts."""
    if not isinstance(wrapped, WrappedKey):
        raise TypeError(f"wrapped must be a WrappedKey, not {type(wrapped).__name__}")
    if not all(isinstance(part, str) for part in wrapped):
        raise TypeError("wrapped must have a kek and a ciphertext, both a str")


def describe_key(context: Mapping[str, str]) -> str:
    """The key of a context, for messages."""
    keyset, key = context.get("keyset"), context.get("key")
    return f"the key {key!r} of the keyset {keyset!r}" if keyset and key else "a key"

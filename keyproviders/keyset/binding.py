"""What the wrappers here have in common: their arguments checked, and a key named in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ProviderConfigError
from .wrapping import BOUND_NAMES, WrappedKey

__all__ = ["arguments_of", "check_texts", "check_wrapped", "checked_context", "checked_keks", "whose"]


def arguments_of(options: Mapping[str, str]) -> dict[str, Any]:
    """A wrapper's arguments in the options of its URL, where ``also_kek`` has commas between several."""
    given: dict[str, Any] = dict(options)
    if "also_kek" in given:
        given["also_kek"] = tuple(given["also_kek"].split(","))
    return given


def checked_context(context: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of a wrapper's own context. Raises TypeError and ProviderConfigError."""
    if context is None:
        return {}
    check_texts(context)
    taken = sorted(BOUND_NAMES & context.keys())
    if taken:
        raise ProviderConfigError(f"context has {taken[0]!r}, which the keyset binds itself; choose another name")
    return dict(context)


def check_texts(context: object) -> None:
    """Raise TypeError for anything but a mapping of str to str."""
    if not isinstance(context, Mapping):
        raise TypeError(f"context must be a mapping of str to str, not {type(context).__name__}")
    for pair in context.items():
        if not all(isinstance(one, str) for one in pair):
            kinds = " to ".join(type(one).__name__ for one in pair)
            raise TypeError(f"context must be a mapping of str to str; it has {kinds}")


def checked_keks(also_kek: str | tuple[str, ...]) -> tuple[str, ...]:
    """The key-encryption keys of ``also_kek``, which may be one of them. Raises TypeError."""
    texts: object = (also_kek,) if isinstance(also_kek, str) else also_kek
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"also_kek must be a str or a tuple of str, not {type(also_kek).__name__}")
    return texts


def check_wrapped(wrapped: object) -> None:
    """Raise TypeError for anything but a WrappedKey with two texts."""
    if not isinstance(wrapped, WrappedKey):
        raise TypeError(f"wrapped must be a WrappedKey, not {type(wrapped).__name__}")
    if not all(isinstance(part, str) for part in wrapped):
        raise TypeError("wrapped must have a kek and a ciphertext that are both a str")


def whose(context: Mapping[str, str]) -> str:
    """The key of a context, for messages."""
    keyset, key = context.get("keyset"), context.get("key")
    return f"the key {key!r} of the keyset {keyset!r}" if keyset and key else "a key"

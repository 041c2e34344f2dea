"""What those who use a keyset and those who change it have in common: its wrapper, its store, its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, ProviderConfigError
from ..key import is_key_name, try_key_text
from .document import Keyset, parse
from .stores.base import KeysetStore, StoredKeyset
from .wrapping import KeyWrapper

__all__ = [
    "Revision",
    "check_clock",
    "check_parts",
    "close_parts",
    "existing_keyset",
    "read_keyset",
    "renew_parts",
    "words_for",
]


class Revision(NamedTuple):
    """A keyset as it was read, and the revision that a change of it has to name."""

    revision: str
    keyset: Keyset


@redact_frames
def check_parts(wrapper: object, store: object, name: object) -> None:
    """Raise TypeError or ProviderConfigError for what cannot make a keyset."""
    if isinstance(wrapper, type) or not isinstance(wrapper, KeyWrapper):
        raise TypeError(f"wrapper must have generate(), unwrap(), rewrap() and place, which {_kind(wrapper)} lacks")
    if isinstance(store, type) or not isinstance(store, KeysetStore):
        raise TypeError(f"store must have read(), write() and place, which {_kind(store)} lacks")
    check_name(name, "name")


@redact_frames
def check_name(given: object, argument: str) -> None:
    """Raise TypeError or ProviderConfigError for what is no name of a keyset or a key."""
    if not isinstance(given, str):
        raise TypeError(f"{argument} must be a str, not {type(given).__name__}")
    # Not shown: who mixes up the arguments passes anything here. Names are public, in every stored row.
    if not is_key_name(given):
        raise ProviderConfigError(
            f"{argument} must be 1 to 119 characters of A-Z a-z 0-9 . _ -; {len(given)} characters were given, or"
            " others than these"
        )
    if try_key_text(given)[0] is not None:
        raise ProviderConfigError(f"{argument} is no name but a key; names are public")


def check_clock(clock: object) -> None:
    """Raise TypeError for what gives no time."""
    if not callable(clock):
        raise TypeError(f"clock must be callable, not {type(clock).__name__}")


def words_for(name: str, store: KeysetStore) -> str:
    """A keyset, for messages."""
    return f"the keyset {name!r} in {store.place}"


def read_keyset(store: KeysetStore, name: str, known: Revision | None = None) -> Revision | None:
    """The keyset of that name as it is now; None when there is none. ``known`` is not parsed again.

    Raises what the store raises, InvalidKeyError and ProviderConfigError.
    """
    stored = store.read(name)
    if stored is None:
        return None
    if not isinstance(stored, StoredKeyset):
        raise InvalidKeyError(
            f"{store.place} gave a {type(stored).__name__}, not a StoredKeyset; this is a mistake in the store"
        )
    if known is not None and known.revision == stored.revision:
        return known
    return Revision(stored.revision, parse(stored.text, name, words_for(name, store)))


def existing_keyset(store: KeysetStore, name: str, known: Revision | None = None) -> Revision:
    """The same; ProviderConfigError when there is none."""
    read = read_keyset(store, name, known)
    if read is None:
        raise ProviderConfigError(
            f"there is no keyset {name!r} in {store.place}; see to its place and its name, or make it with"
            " `encrypted-sessions keys create`"
        )
    return read


def close_parts(*parts: object) -> None:
    """Close those that have anything to close: all of them, also when one fails."""
    if not parts:
        return
    try:
        _call(parts[0], "close")
    finally:
        close_parts(*parts[1:])


def renew_parts(*parts: object) -> None:
    """Tell each part that this process was forked."""
    for part in parts:
        _call(part, "after_fork")


def _call(part: object, method: str) -> None:
    found: Callable[[], object] | None = getattr(part, method, None)
    if callable(found):
        found()


def _kind(given: object) -> str:
    return f"the class {given.__name__} itself" if isinstance(given, type) else f"a {type(given).__name__}"

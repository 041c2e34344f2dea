"""Where a keyset is, for those who use it and those who change it: its wrapper, its store and its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, ProviderConfigError
from ..key import is_key_name, try_key_text
from ..wrapping import KeyWrapper
from .document import parse
from .model import Keyset
from .stores.base import KeysetStore, StoredKeyset

__all__ = ["KeysetAccess", "Revision", "check_clock", "check_name"]


class Revision(NamedTuple):
    """A keyset as it was read, and the revision that a change of it has to name."""

    revision: str
    keyset: Keyset


class KeysetAccess:
    """The keyset of that name in a store, and the wrapper of its keys.

    `label` is the keyset in its store, and `place` all of it, for messages. Raises TypeError or
    ProviderConfigError for what cannot make a keyset.
    """

    @redact_frames
    def __init__(self, wrapper: KeyWrapper, store: KeysetStore, name: str) -> None:
        if isinstance(wrapper, type) or not isinstance(wrapper, KeyWrapper):
            raise TypeError(f"wrapper must have generate(), unwrap(), rewrap() and place, which {_kind(wrapper)} lacks")
        if isinstance(store, type) or not isinstance(store, KeysetStore):
            raise TypeError(f"store must have read(), write() and place, which {_kind(store)} lacks")
        check_name(name, "name")
        self.wrapper = wrapper
        self.store = store
        self.name = name
        self.label = f"the keyset {name!r} in {store.place}"
        self.place = f"{wrapper.place} with {self.label}"

    def read(self, known: Revision | None = None) -> Revision | None:
        """The keyset as it is now; None when there is none. `known` is not parsed again.

        Raises what the store raises, InvalidKeyError and ProviderConfigError.
        """
        stored = self.store.read(self.name)
        if stored is None:
            return None
        if not isinstance(stored, StoredKeyset):
            raise InvalidKeyError(
                f"{self.store.place} gave a {type(stored).__name__}, not a StoredKeyset; this is a mistake in the store"
            )
        if known is not None and known.revision == stored.revision:
            return known
        return Revision(stored.revision, parse(stored.text, self.name, self.label))

    def existing(self, known: Revision | None = None) -> Revision:
        """The same; ProviderConfigError when there is none."""
        read = self.read(known)
        if read is None:
            raise ProviderConfigError(
                f"there is no keyset {self.name!r} in {self.store.place}; see to its place and its name, or make it"
                " with `encrypted-sessions keys create`"
            )
        return read

    def close(self) -> None:
        """Close the wrapper and the store, if they have anything to close; also the second when the first fails."""
        try:
            _call(self.wrapper, "close")
        finally:
            _call(self.store, "close")

    def after_fork(self) -> None:
        """Tell both that this process was forked."""
        _call(self.wrapper, "after_fork")
        _call(self.store, "after_fork")


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


def _call(part: object, method: str) -> None:
    found: Callable[[], object] | None = getattr(part, method, None)
    if callable(found):
        found()


def _kind(given: object) -> str:
    return f"the class {given.__name__} itself" if isinstance(given, type) else f"a {type(given).__name__}"

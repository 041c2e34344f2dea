"""Where a keyset is, for those who use it and those who change it: its wrapper, its store and its name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, ProviderConfigError
from ..key import is_key_name, try_key_text
from ..wrapping import KeyWrapper
from .document import dump, is_keyset_id, parse
from .model import Keyset
from .stores.base import KeysetStore, StoredKeyset

__all__ = ["KeysetAccess", "Revision", "check_clock", "check_keyset_id", "check_name"]


class Revision(NamedTuple):
    """A keyset as it was read, and the revision that a change of it has to name."""

    revision: str
    keyset: Keyset


class _Seen(NamedTuple):
    """The id of the keyset of format 2 that was read or written, and its highest revision."""

    id: str
    revision: int


class KeysetAccess:
    """The keyset of that name in a store, and the wrapper of its keys.

    With a `keyset_id` only the keyset of that id is read. Without one the first id that is seen is
    the only one from then on, and a keyset of format 1 is read until then. Either way no revision is
    read that is lower than one seen before.

    `label` is the keyset in its store, and `place` all of it, for messages. Raises TypeError or
    ProviderConfigError for what cannot make a keyset.
    """

    @redact_frames
    def __init__(self, wrapper: KeyWrapper, store: KeysetStore, name: str, keyset_id: str | None = None) -> None:
        if isinstance(wrapper, type) or not isinstance(wrapper, KeyWrapper):
            raise TypeError(f"wrapper must have generate(), unwrap(), rewrap() and place, which {_kind(wrapper)} lacks")
        if isinstance(store, type) or not isinstance(store, KeysetStore):
            raise TypeError(f"store must have read(), write() and place, which {_kind(store)} lacks")
        check_name(name, "name")
        check_keyset_id(keyset_id)
        self.wrapper = wrapper
        self.store = store
        self.name = name
        self.label = f"the keyset {name!r} in {store.place}"
        self.place = f"{wrapper.place} with {self.label}"
        self.given_id = keyset_id
        self._seen: _Seen | None = None
        self._noting = threading.Lock()

    @property
    def keyset_id(self) -> str | None:
        """The id that it has to have: the one that was given, or the first that was seen."""
        return self.given_id if self._seen is None else self._seen.id

    def read(self, known: Revision | None = None) -> Revision | None:
        """The keyset as it is now; None when there is none. `known` is not parsed again.

        Raises what the store raises, InvalidKeyError and ProviderConfigError.
        """
        # What another thread sees while the store is asked is no measure for this answer.
        seen = self._seen
        stored = self.store.read(self.name)
        if stored is None:
            return None
        if not isinstance(stored, StoredKeyset):
            raise InvalidKeyError(
                f"{self.store.place} returned a {type(stored).__name__} instead of a StoredKeyset; this is a bug"
                " in the store"
            )
        if known is None or known.revision != stored.revision:
            known = Revision(stored.revision, parse(stored.text, self.name, self.label))
        self._check_history(known.keyset, seen)
        self._note(known.keyset)
        return known

    def existing(self, known: Revision | None = None) -> Revision:
        """The same; ProviderConfigError when there is none."""
        read = self.read(known)
        if read is None:
            raise ProviderConfigError(
                f"there is no keyset {self.name!r} in {self.store.place}; check its location and name,"
                " or make it with `encrypted-sessions keys create`"
            )
        return read

    def write(self, keyset: Keyset, *, expected: str | None) -> bool:
        """Put a keyset in the place of the revision that was read; False when somebody else was first.

        Raises what the store raises, InvalidKeyError and KeysetRefusedError.
        """
        text = dump(keyset)
        # What could not be read again is not written: a wrapper may have answered anything.
        parse(text, keyset.name, f"the next revision of {self.label}")
        written = self.store.write(keyset.name, text, expected=expected)
        if written and keyset.id is not None:
            with self._noting:
                self._seen = _Seen(keyset.id, keyset.revision)
        return written

    def close(self) -> None:
        """Close the wrapper and the store, if they have anything to close; also the second when the first fails."""
        try:
            _call(self.wrapper, "close")
        finally:
            _call(self.store, "close")

    def after_fork(self) -> None:
        """Tell both that this process was forked."""
        self._noting = threading.Lock()
        _call(self.wrapper, "after_fork")
        _call(self.store, "after_fork")

    def _check_history(self, keyset: Keyset, seen: _Seen | None) -> None:
        """Refuse what is not the keyset that was meant, or lies before what was seen of it."""
        is_what = "is of format 1, which has no id" if keyset.id is None else f"has the id {keyset.id}"
        if self.given_id is not None and keyset.id != self.given_id:
            cure = (
                "; restore its last good copy, or, if it was never upgraded, run `encrypted-sessions keys upgrade`"
                " with a URL without keyset_id"
                if keyset.id is None
                else "; check the location of the keyset, or restore its last good copy"
            )
            raise ProviderConfigError(f"{self.label} {is_what}, but keyset_id is {self.given_id}{cure}")
        if seen is None:
            return
        if keyset.id != seen.id:
            raise InvalidKeyError(
                f"{self.label} {is_what}, but this process saw it with the id {seen.id}; restore its last good"
                " copy, or, if the change is intended, restart the process"
            )
        if keyset.revision < seen.revision:
            raise InvalidKeyError(
                f"{self.label} is at revision {keyset.revision}, but this process saw revision {seen.revision}:"
                " an older copy was restored; restore the newest one, or, if this is intended, restart every"
                " process that uses it"
            )

    def _note(self, keyset: Keyset) -> None:
        if keyset.id is not None:
            with self._noting:
                seen = self._seen
                if seen is None or (seen.id == keyset.id and seen.revision < keyset.revision):
                    self._seen = _Seen(keyset.id, keyset.revision)


@redact_frames
def check_name(given: object, argument: str) -> None:
    """Raise TypeError or ProviderConfigError for what is no name of a keyset or a key."""
    if not isinstance(given, str):
        raise TypeError(f"{argument} must be a str, not {type(given).__name__}")
    # Not shown: who mixes up the arguments passes anything here. Names are public, in every stored row.
    if not is_key_name(given):
        raise ProviderConfigError(
            f"{argument} must be 1 to 119 characters of A-Z a-z 0-9 . _ -; {len(given)} characters were given, or"
            " characters that are not allowed"
        )
    if try_key_text(given)[0] is not None:
        raise ProviderConfigError(f"{argument} is a key, not a name; names are public")


@redact_frames
def check_keyset_id(given: object) -> None:
    """Raise TypeError or ProviderConfigError for anything but the id of a keyset, or None."""
    if given is None:
        return
    if not isinstance(given, str):
        raise TypeError(f"keyset_id must be a str or None, not {type(given).__name__}")
    if not is_keyset_id(given):
        # Not shown: it may be a key.
        raise ProviderConfigError(
            f"keyset_id ({len(given)} characters) is not the id of a keyset, which has 32 hex digits in lower"
            " case; copy it from `encrypted-sessions keys list`"
        )


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

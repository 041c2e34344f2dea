"""What an operator does with a keyset. Each change reads it, changes it, and puts it back if nobody was first."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from math import ceil
from typing import NamedTuple

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, KeyUnavailableError, ProviderConfigError
from ..wrapping import KeyWrapper, WrappedKey
from .access import KeysetAccess, check_clock, check_name
from .document import dump, parse
from .model import (
    DEFAULT_DELAY_S,
    MOST_DELAY_S,
    KeyEntry,
    Keyset,
    KeysetRefusedError,
    State,
    context_of,
)
from .stores.base import KeysetStore
from .urls import open_keyset_url

__all__ = ["KeyInfo", "KeysetInfo", "KeysetManager", "open_keyset"]

# Each loss means that another process has made its change, so this many have to come first.
_MOST_TRIES = 100
_LONGEST_PAUSE_S = 0.05


class KeyInfo(NamedTuple):
    """One key of a keyset as it is now. Times are aware and in UTC; nothing here is secret.

    ``written_until`` says until when some process may still write with it, None for a key that is
    active or pending.
    """

    name: str
    state: State
    created_at: datetime
    activate_at: datetime
    kek: str
    written_until: datetime | None
    retired_at: datetime | None
    destroyed_at: datetime | None


class KeysetInfo(NamedTuple):
    """A keyset as it is now: its name, its activation delay in seconds, and its keys, the oldest first."""

    name: str
    activation_delay_s: int
    keys: tuple[KeyInfo, ...]


@redact_frames
def open_keyset(url: str, *, allow_insecure: bool = False) -> KeysetManager:
    """The manager of the keyset of an ``aws-kms:`` or ``vault-transit:`` URL. Nothing is asked yet.

    Raises ProviderConfigError.
    """
    wrapper, store, name = open_keyset_url(url, allow_insecure=allow_insecure)
    return KeysetManager(wrapper, store, name=name)


class KeysetManager:
    """Changes one keyset: ``KeysetManager(wrapper, store)``, or ``open_keyset(url)``.

    Every change is one compare-and-swap in the store, begun again when somebody else was first. One
    that is killed at any moment leaves the old keyset or the new one, and can be repeated: what is
    done already is left as it is. What was read as damaged is never written over.

    ``name`` is the keyset's; ``clock`` gives Unix seconds. The methods raise KeysetRefusedError for
    what the keyset's state does not allow, and what the wrapper and the store raise; with
    KeyUnavailableError a change may have been made, as ``list()`` shows.

    Raises TypeError for a wrong type and ProviderConfigError for what cannot be meant.
    """

    @redact_frames
    def __init__(
        self,
        wrapper: KeyWrapper,
        store: KeysetStore,
        *,
        name: str = "default",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = KeysetAccess(wrapper, store, name)
        check_clock(clock)
        self._wrapper = wrapper
        self._clock = clock
        self.place = self._access.place

    @redact_frames
    def create(self, *, key_name: str | None = None, activation_delay_s: int = DEFAULT_DELAY_S) -> KeyInfo:
        """Make the keyset, with one key that is active at once. Refused where there is one already.

        ``activation_delay_s`` is how long a new key waits until it becomes active, at least 1; a ring
        needs its ``fresh_s + stale_write_s + 60``.
        """
        if isinstance(activation_delay_s, bool) or not isinstance(activation_delay_s, int):
            raise TypeError(f"activation_delay_s must be an int, not {type(activation_delay_s).__name__}")
        if not 1 <= activation_delay_s <= MOST_DELAY_S:
            raise ProviderConfigError(
                f"activation_delay_s must be 1 to {MOST_DELAY_S} seconds; {activation_delay_s} was given"
            )
        key_name = self._new_name(key_name)
        if self._access.read() is None:
            entry = self._generated(key_name)
            keyset = Keyset(self._access.name, activation_delay_s, (entry,))
            if self._write(keyset, expected=None):
                return self._info(keyset, entry.name)
        raise KeysetRefusedError(
            f"there is {self._access.label} already, and nothing was changed; rotate adds a key to it"
        )

    @redact_frames
    def list(self) -> KeysetInfo:
        """The keyset as it is now. It unwraps nothing."""
        keyset = self._access.existing().keyset
        now = self._clock()
        return KeysetInfo(
            keyset.name, keyset.activation_delay_s, tuple(_info(keyset, entry, now) for entry in keyset.entries)
        )

    @redact_frames
    def rotate(self, *, key_name: str | None = None, now: bool = False) -> KeyInfo:
        """Add a key, which becomes active after the keyset's activation delay. Refused while one is pending.

        With ``now`` it is active at once, for an emergency: a process that has not read the keyset
        since looks it up when it meets an item that was sealed with it. A key that is pending then is
        overtaken, and never becomes active.
        """
        if not isinstance(now, bool):
            raise TypeError(f"now must be a bool, not {type(now).__name__}")
        key_name = self._new_name(key_name)
        made: list[KeyEntry] = []

        def change(keyset: Keyset) -> Keyset:
            keyset.check_name(key_name)
            if not now:
                keyset.check_rotation(self._clock())
            if not made:
                made.append(self._generated(key_name))
            at_s = self._clock() if now else ceil(self._clock()) + keyset.activation_delay_s
            return keyset.added(made[0]._replace(activate_at=max(int(at_s), made[0].created_at)))

        return self._info(self._changed(change), key_name)

    @redact_frames
    def rewrap(self) -> tuple[KeyInfo, ...]:
        """Wrap every key that is not destroyed under the wrapper's own key-encryption key, as it is now.

        All at once: the keyset is changed when each of them is wrapped anew. Gives those keys.
        """
        done: dict[tuple[str, WrappedKey], WrappedKey] = {}

        def change(keyset: Keyset) -> Keyset:
            anew: dict[str, WrappedKey] = {}
            for entry in keyset.entries:
                if entry.wrapped is not None:
                    known = (entry.name, entry.wrapped)
                    if known not in done:
                        done[known] = self._answer(self._wrapper.rewrap(entry.wrapped, keyset.context(entry)))
                    anew[entry.name] = done[known]
            return keyset.rewrapped(anew)

        keyset = self._changed(change)
        now = self._clock()
        return tuple(_info(keyset, entry, now) for entry in keyset.entries if entry.ciphertext is not None)

    @redact_frames
    def retire(self, key_name: str) -> KeyInfo:
        """Hand out that key no longer: reading with it is KeyDisabledError, until it is restored.

        Refused for the active and a pending key, and for one that a process might still write with:
        until the activation delay after the next key became active. There is no way around that, since
        what such a process writes could not be read.
        """
        check_name(key_name, "key_name")
        return self._info(self._changed(lambda keyset: keyset.retired(key_name, self._clock())), key_name)

    @redact_frames
    def restore(self, key_name: str) -> KeyInfo:
        """Hand out a retired key again."""
        check_name(key_name, "key_name")
        return self._info(self._changed(lambda keyset: keyset.restored(key_name)), key_name)

    @redact_frames
    def destroy(self, key_name: str) -> KeyInfo:
        """Remove the bytes of a retired key for good; its record stays. Refused for any other key.

        Copies of the keyset in backups still have them, until these expire or the version of the
        key-encryption key is destroyed.
        """
        check_name(key_name, "key_name")
        return self._info(self._changed(lambda keyset: keyset.destroyed(key_name, self._clock())), key_name)

    def close(self) -> None:
        """Close the wrapper and the store, if they have anything to close."""
        self._access.close()

    def __repr__(self) -> str:
        return f"<KeysetManager {self.place}>"

    def _changed(self, change: Callable[[Keyset], Keyset]) -> Keyset:
        for _ in range(_MOST_TRIES):
            read = self._access.existing()
            changed = change(read.keyset)
            if changed == read.keyset:
                return changed
            if self._write(changed, expected=read.revision):
                return changed
            time.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311 - keeps those apart who try at once
        raise KeyUnavailableError(
            f"{self._access.label} was changed by others {_MOST_TRIES} times before this change came"
            " through; nothing was changed by it; try again"
        )

    def _write(self, keyset: Keyset, *, expected: str | None) -> bool:
        text = dump(keyset)
        # What could not be read again is not written: a wrapper may have answered anything.
        parse(text, keyset.name, f"the next revision of {self._access.label}")
        return self._access.store.write(keyset.name, text, expected=expected)

    def _generated(self, key_name: str) -> KeyEntry:
        created_at = int(self._clock())
        # The plain key is of no use here.
        wrapped = self._answer(self._wrapper.generate(context_of(self._access.name, key_name, created_at))[1])
        return KeyEntry(key_name, created_at, created_at, wrapped.kek, wrapped.ciphertext)

    def _answer(self, wrapped: WrappedKey) -> WrappedKey:
        if not isinstance(wrapped, WrappedKey):
            raise InvalidKeyError(
                f"{self._wrapper.place} gave a {type(wrapped).__name__}, not a WrappedKey; this is a mistake in the"
                " wrapper"
            )
        return wrapped

    def _info(self, keyset: Keyset, key_name: str) -> KeyInfo:
        entry = keyset.find(key_name)
        assert entry is not None  # noqa: S101 - it was just added or changed
        return _info(keyset, entry, self._clock())

    def _new_name(self, given: str | None) -> str:
        if given is not None:
            check_name(given, "key_name")
            return given
        return f"{datetime.fromtimestamp(self._clock(), timezone.utc):%Y%m%d}-{os.urandom(3).hex()}"


def _info(keyset: Keyset, entry: KeyEntry, now: float) -> KeyInfo:
    state = keyset.state(entry, now)
    until = None if state in {"active", "pending"} else keyset.written_until(entry)
    return KeyInfo(
        entry.name,
        state,
        _time(entry.created_at),
        _time(entry.activate_at),
        entry.kek,
        None if until is None else _time(until),
        None if entry.retired_at is None else _time(entry.retired_at),
        None if entry.destroyed_at is None else _time(entry.destroyed_at),
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)

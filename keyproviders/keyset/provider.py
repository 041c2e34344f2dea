"""Keys from a keyset: read at every call, unwrapped once in a while."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timezone
from math import isfinite
from typing import NamedTuple, NoReturn

from .._support.clock import AgeClock
from .._support.redaction import redact_frames
from ..errors import (
    InvalidKeyError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    ProviderConfigError,
)
from ..key import SECRET_BYTES, Key, is_key_name
from ..wrapping import KeyWrapper, WrappedKey
from .access import KeysetAccess, Revision, check_clock
from .model import KeyEntry, Keyset, time_text
from .stores.base import KeysetStore
from .urls import open_keyset_url

__all__ = ["KeysetKeyProvider"]

_NEW_S = 60.0  # a copy of this age is as good as new, whoever asks
# So much later than revalidate_s it may be noticed that a key-encryption key was disabled: two minutes, less the
# time that the question takes.
_LATE_S = 110.0


class _Copy(NamedTuple):
    """An unwrapped key, what it was unwrapped from, and when."""

    key: Key
    wrapped: WrappedKey
    created_at: int
    unwrapped_at: float


class KeysetKeyProvider:
    """The keys of one keyset: `KeysetKeyProvider(AwsKmsKeyWrapper("alias/agents"), FileKeysetStore(path))`.

    As a URL: `aws-kms:alias/agents?keyset=file:/etc/agents/keyset.json`, or with
    `keyset=sql&dsn_env=DATABASE_URL&keyset_name=tenant-7`, or `vault-transit:agents?keyset=...`.

    Each call reads the keyset, so changes are seen at the next call. A key is unwrapped when it is first requested,
    and again when its copy is older than `revalidate_s` (seconds), or when its stored wrapping has changed. A copy of
    a key that the keyset no longer hands out is dropped.

    With a `keyset_id`, any other keyset is refused, and so is a keyset of format 1, which has no id. Without it, only
    the first id that was seen is accepted from then on. In both cases, a revision older than one that was seen is
    refused (InvalidKeyError) until the process is restarted.

    A retired key raises KeyDisabledError, a destroyed key KeyDestroyedError, a missing keyset ProviderConfigError,
    and a damaged keyset InvalidKeyError. `activation_delay_s` is that of the keyset, None before the first call. A
    ring whose writers would not see a new key in that time refuses the keyset.

    Args:
        wrapper: What wraps its keys.
        store: Where it is kept.
        name: Its name in the store.
        keyset_id: The id that the keyset must have; None for the first id that is seen.
        revalidate_s: The age, in seconds, at which a key is unwrapped again.
        clock: Gives the time in Unix seconds.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: No keyset can have that name or id, or `revalidate_s` is not finite and above 0.
    """

    @redact_frames
    def __init__(
        self,
        wrapper: KeyWrapper,
        store: KeysetStore,
        *,
        name: str = "default",
        keyset_id: str | None = None,
        revalidate_s: float = 3_600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = KeysetAccess(wrapper, store, name, keyset_id)
        check_clock(clock)
        if isinstance(revalidate_s, bool) or not isinstance(revalidate_s, (int, float)):
            raise TypeError(f"revalidate_s must be a number of seconds, not {type(revalidate_s).__name__}")
        if not isfinite(revalidate_s) or revalidate_s <= 0:
            raise ProviderConfigError(f"revalidate_s must be finite and more than 0; {revalidate_s} was given")
        self._wrapper = wrapper
        self._revalidate_s = revalidate_s
        self._clock = clock
        self._age_clock = AgeClock(wall=clock)
        self.place = self._access.place
        self.activation_delay_s: int | None = None
        self._copies: dict[str, _Copy] = {}
        self._read: Revision | None = None
        self._closed = False
        self._asked_every_s = (0.0, 0.0)
        self._new_locks()

    def expect(self, active_s: float, other_s: float) -> None:
        """Called by a ring: how long it uses an answer about the active key, and about another key.

        Copies are renewed early enough that changes of the key-encryption key are noticed at most two minutes after
        `revalidate_s`. With several rings, the slowest one counts.
        """
        before = self._asked_every_s
        self._asked_every_s = max(before[0], active_s), max(before[1], other_s)

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> KeysetKeyProvider:
        """The provider of an `aws-kms:` or `vault-transit:` URL. Raises ProviderConfigError."""
        opened = open_keyset_url(url, allow_insecure=allow_insecure)
        return cls(opened.wrapper, opened.store, name=opened.name, keyset_id=opened.keyset_id)

    @redact_frames
    def active(self) -> Key:
        """The key to encrypt with now, as the keyset says."""
        keyset = self._keyset()
        return self._key(keyset, keyset.active(self._clock()), self._asked_every_s[0])

    @redact_frames
    def get(self, name: str) -> Key:
        """The key of that name, unless it is retired or destroyed."""
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if not is_key_name(name):
            raise KeyNotFoundError(
                f"{self.place} has no key of that name: a key cannot have such a name, so it was not asked"
            )
        keyset = self._keyset()
        entry = keyset.find(name)
        if entry is None:
            raise KeyNotFoundError(f"{self.place} has no key {name!r}, and never had one; it has {keyset.names}")
        if entry.destroyed_at is not None:
            raise KeyDestroyedError(
                f"the key {name!r} of {self.place} was destroyed at {time_text(entry.destroyed_at)}"
            )
        if entry.retired_at is not None:
            raise KeyDisabledError(
                f"the key {name!r} of {self.place} was retired at {time_text(entry.retired_at)};"
                " `encrypted-sessions keys restore` brings it back"
            )
        return self._key(keyset, entry, self._asked_every_s[1])

    @redact_frames
    def names(self) -> dict[str, str | None]:
        """Every name of the keyset, as it is now, with the fingerprint of each key that is unwrapped."""
        keyset = self._keyset()
        with self._lock:
            copies = dict(self._copies)
        return {
            entry.name: copies[entry.name].key.fingerprint if entry.name in copies else None for entry in keyset.entries
        }

    @redact_frames
    def examine(self) -> list[str]:
        """What is known about the keyset beyond its keys, in sentences for `encrypted-sessions doctor`.

        Returns:
            The sentences.

        Raises:
            KeyProviderError: What the store raises.
        """
        keyset = self._keyset()
        if keyset.id is None:
            without_id = (
                f"the keyset {keyset.name!r} is of format 1: it has no id, so another keyset with the same name is"
                " accepted in its place; when every process has a release that reads format 2 (0.2.0 or later), run"
                " `encrypted-sessions keys upgrade`"
            )
            return [without_id]
        named = "" if self._access.given_id is not None else f"; add keyset_id={keyset.id} to the URL"
        return [
            f"the keyset {keyset.name!r} has the id {keyset.id}{named}",
            f"it is at revision {keyset.revision}: a process that saw a later revision refuses it until restarted",
        ]

    def close(self) -> None:
        """Forget the keys, and close the wrapper and the store if they have anything to close."""
        with self._lock:
            self._closed = True
            self._copies = {}
        self._access.close()

    def after_fork(self) -> None:
        """In a forked child: make new locks, and prepare the wrapper and the store."""
        self._new_locks()
        self._access.after_fork()

    def __repr__(self) -> str:
        return f"<KeysetKeyProvider {self.place}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a KeysetKeyProvider cannot be copied or pickled: it holds keys; make one in the other process"
            " from the same URL"
        )

    def _new_locks(self) -> None:
        self._lock = threading.Lock()
        self._unwrapping: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def _keyset(self) -> Keyset:
        if self._closed:
            raise KeyProviderError(f"the provider of {self.place} is closed")
        read = self._access.existing(self._read)
        self._read = read
        keyset = read.keyset
        self.activation_delay_s = keyset.activation_delay_s
        self._drop(keyset)
        return keyset

    def _drop(self, keyset: Keyset) -> None:
        """Let go of copies that the keyset no longer hands out like this, or that are too old to be used."""
        now = self._age_clock()
        with self._lock:
            kept = {
                entry.name: copy
                for entry in keyset.entries
                if entry.is_usable and (copy := self._copies.get(entry.name)) is not None
                if self._is_good(copy, entry, now, 0.0)
            }
            self._copies = {} if self._closed else kept

    def _is_good(self, copy: _Copy, entry: KeyEntry, now: float, lasts_s: float) -> bool:
        same = copy.wrapped == entry.wrapped and copy.created_at == entry.created_at
        early_s = max(lasts_s - _LATE_S, 0.0)
        longest_s = max(self._revalidate_s - early_s, min(_NEW_S, self._revalidate_s))
        return same and now - copy.unwrapped_at < longest_s

    def _key(self, keyset: Keyset, entry: KeyEntry, lasts_s: float) -> Key:
        with self._lock:
            copy = self._copies.get(entry.name)
            one_at_a_time = self._unwrapping[entry.name]
        if copy is not None and self._is_good(copy, entry, self._age_clock(), lasts_s):
            return self._dated(copy, keyset, entry)
        with one_at_a_time:
            # Another thread may have done it meanwhile.
            with self._lock:
                copy = self._copies.get(entry.name)
            if copy is not None and self._is_good(copy, entry, self._age_clock(), lasts_s):
                return self._dated(copy, keyset, entry)
            asked_at = self._age_clock()
            key = self._unwrapped(keyset, entry)
            with self._lock:
                if not self._closed:
                    self._copies[entry.name] = _Copy(key, _wrapped(entry), entry.created_at, asked_at)
            return key

    def _unwrapped(self, keyset: Keyset, entry: KeyEntry) -> Key:
        secret: object = self._wrapper.unwrap(_wrapped(entry), keyset.context(entry))
        if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
            found = f"{len(secret)} bytes" if isinstance(secret, bytes) else f"a {type(secret).__name__}"
            raise InvalidKeyError(
                f"unwrapping the key {entry.name!r} of {self.place} gave {found}, but a key has {SECRET_BYTES} bytes"
            )
        return _key_of(keyset, entry, secret)

    def _dated(self, copy: _Copy, keyset: Keyset, entry: KeyEntry) -> Key:
        """The key of a copy, which another key may follow since the copy was made."""
        until = keyset.written_until(entry)
        if copy.key.written_until == (None if until is None else _time(until)):
            return copy.key
        key = _key_of(keyset, entry, copy.key.secret)
        with self._lock:
            if self._copies.get(entry.name) is copy:
                self._copies[entry.name] = copy._replace(key=key)
        return key


def _key_of(keyset: Keyset, entry: KeyEntry, secret: bytes) -> Key:
    until = keyset.written_until(entry)
    return Key(entry.name, secret, _time(entry.created_at), written_until=None if until is None else _time(until))


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _wrapped(entry: KeyEntry) -> WrappedKey:
    wrapped = entry.wrapped
    assert wrapped is not None  # noqa: S101 - a usable key is not destroyed
    return wrapped

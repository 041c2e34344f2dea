"""A provider of keys that does as it is told."""

from __future__ import annotations

import threading

from ..errors import (
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
)
from ..key import Key

__all__ = ["FakeKeyProvider"]


class FakeKeyProvider:
    """A place of keys in memory that can be rotated, and can fail in every way that a real one can.

    It begins with one key, named `1`. `asked` lists what it was asked: `active`, or the name
    of a key. It may be used from several threads. Give it to a ring: `KeyRing(FakeKeyProvider())`.
    """

    place = "the fake place of keys"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._ends: dict[str, type[KeyNotFoundError]] = {}
        self._failure: type[KeyProviderError] | None = None
        self._denied: set[str] = set()
        self._slow_s = 0.0
        self._hurry = threading.Event()
        self.rotate()

    # What a ring calls.

    def active(self) -> Key:
        """The newest key."""
        return self._answer("active", self._active)

    def get(self, name: str) -> Key:
        """The key of that name or fingerprint."""
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        by_fingerprint = {key.fingerprint: key.name or "" for key in self._keys.values()}
        return self._answer(name, by_fingerprint.get(name, name))

    def names(self) -> dict[str, str | None]:
        """Every name and fingerprint that it would answer for, whatever the answer is. Not listed in `asked`."""
        self._be_in_the_mood()
        keys = dict(self._keys)
        by_fingerprint = {key.fingerprint: key.fingerprint for key in keys.values()}
        return {**by_fingerprint, **{name: key.fingerprint for name, key in keys.items()}}

    def after_fork(self) -> None:
        """In a forked child: make new locks, since nothing there would release a held one."""
        self._lock = threading.Lock()
        self._hurry = threading.Event()

    # What a test calls.

    def rotate(self) -> Key:
        """Make a new key, which is active from now on; older keys are still found by name."""
        with self._lock:
            key = Key.generate(str(len(self._keys) + 1))
            self._keys[key.name or ""] = key
            self._active = key.name or ""
        return key

    def key(self, name: str | None = None) -> Key:
        """The key of that name, or the active one, whatever state it is in. This does not count as a request."""
        return self._keys[self._active if name is None else name]

    def go_down(self) -> None:
        """From now on every call raises KeyUnavailableError."""
        self._failure = KeyUnavailableError

    def deny(self, name: str | None = None) -> None:
        """From now on that key, or every call, raises KeyAccessDeniedError."""
        if name is None:
            self._failure = KeyAccessDeniedError
        else:
            self._denied.add(name)

    def come_back(self) -> None:
        """Answer again at once, and allow everything. Disabled and destroyed keys stay so."""
        self._failure = None
        self._denied.clear()
        self.slow_down(0)

    def disable(self, name: str) -> None:
        """From now on that key raises KeyDisabledError."""
        self._ends[self.key(name).name or ""] = KeyDisabledError

    def enable(self, name: str) -> None:
        """Hand out a disabled key again."""
        if self._ends.get(name) is KeyDisabledError:
            del self._ends[name]

    def destroy(self, name: str) -> None:
        """From now on that key raises KeyDestroyedError."""
        self._ends[self.key(name).name or ""] = KeyDestroyedError

    def slow_down(self, seconds: float) -> None:
        """Make each call take this long; 0 also ends the waits of running calls."""
        hurry, self._hurry = self._hurry, threading.Event()
        self._slow_s = seconds
        hurry.set()

    def _answer(self, question: str, name: str) -> Key:
        with self._lock:
            self.asked.append(question)
        self._be_in_the_mood()
        if name in self._denied:
            raise KeyAccessDeniedError(f"{self.place} was told to deny {name!r}")
        if name in self._ends:
            raise self._ends[name](f"{self.place} was told that the key {name!r} is no more")
        if name not in self._keys:
            raise KeyNotFoundError(f"{self.place} has no key {name!r}; it has {', '.join(self._keys)}")
        return self._keys[name]

    def _be_in_the_mood(self) -> None:
        with self._lock:
            hurry, slow_s = self._hurry, self._slow_s
        if slow_s:
            hurry.wait(min(slow_s, threading.TIMEOUT_MAX))
        if self._failure is not None:
            raise self._failure(f"{self.place} was told to fail")

    def __repr__(self) -> str:
        return f"<FakeKeyProvider with {', '.join(key.kid for key in self._keys.values())}>"

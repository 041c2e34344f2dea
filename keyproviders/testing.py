"""For tests: a provider that does as it is told, and a suite that every provider should pass.

``FakeKeyProvider`` stands in for a place of keys in the tests of an application.
``KeyProviderConformance`` is a class of tests that the author of a provider inherits.
"""

from __future__ import annotations

import copy
import pickle
import threading

from .errors import (
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
)
from .key import Key, parse_kid
from .provider import KeyProvider

__all__ = ["FakeKeyProvider", "KeyProviderConformance"]


class FakeKeyProvider:
    """A place of keys in memory that can be rotated, and can fail in every way that a real one can.

    It begins with one key, named ``1``. ``asked`` lists what it was asked: ``active``, or the name
    of a key. It may be used from several threads. Give it to a ring: ``KeyRing(FakeKeyProvider())``.
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

    def after_fork(self) -> None:
        """In a forked child: nobody there will ever release a lock that was held, or end a wait."""
        self._lock = threading.Lock()
        self._hurry = threading.Event()

    # What a test calls.

    def rotate(self) -> Key:
        """Make a new key, which is active from now on; the older ones can still be had by name."""
        with self._lock:
            key = Key.generate(str(len(self._keys) + 1))
            self._keys[key.name or ""] = key
            self._active = key.name or ""
        return key

    def key(self, name: str | None = None) -> Key:
        """The key of that name, or the active one, whatever state the place is in. Not a call to it."""
        return self._keys[self._active if name is None else name]

    def go_down(self) -> None:
        """From now on nothing is answered: KeyUnavailableError."""
        self._failure = KeyUnavailableError

    def deny(self, name: str | None = None) -> None:
        """From now on that key is refused, or everything: KeyAccessDeniedError."""
        if name is None:
            self._failure = KeyAccessDeniedError
        else:
            self._denied.add(name)

    def come_back(self) -> None:
        """Answer again, at once, and allow everything. What is disabled or destroyed stays so."""
        self._failure = None
        self._denied.clear()
        self.slow_down(0)

    def disable(self, name: str) -> None:
        """From now on that key is KeyDisabledError."""
        self._ends[self.key(name).name or ""] = KeyDisabledError

    def enable(self, name: str) -> None:
        """Let a disabled key be had again."""
        if self._ends.get(name) is KeyDisabledError:
            del self._ends[name]

    def destroy(self, name: str) -> None:
        """From now on that key is KeyDestroyedError."""
        self._ends[self.key(name).name or ""] = KeyDestroyedError

    def slow_down(self, seconds: float) -> None:
        """Let each call take so long; 0 lets those that wait go on at once."""
        hurry, self._hurry = self._hurry, threading.Event()
        self._slow_s = seconds
        hurry.set()

    def _answer(self, question: str, name: str) -> Key:
        with self._lock:
            self.asked.append(question)
            hurry, slow_s = self._hurry, self._slow_s
        if slow_s:
            hurry.wait(min(slow_s, threading.TIMEOUT_MAX))
        if self._failure is not None:
            raise self._failure(f"{self.place} was told to fail")
        if name in self._denied:
            raise KeyAccessDeniedError(f"{self.place} was told to deny {name!r}")
        if name in self._ends:
            raise self._ends[name](f"{self.place} was told that the key {name!r} is no more")
        if name not in self._keys:
            raise KeyNotFoundError(f"{self.place} has no key {name!r}; it has {', '.join(self._keys)}")
        return self._keys[name]

    def __repr__(self) -> str:
        return f"<FakeKeyProvider with {', '.join(key.kid for key in self._keys.values())}>"


class KeyProviderConformance:
    """Tests that every provider of keys should pass. For pytest: inherit it, and say how to make one.

        class TestMyProvider(KeyProviderConformance):
            def make_provider(self):
                return MyProvider(...)

            def older_name(self):
                return "1"   # of a key that is not active any more; None if there is none

    Each test makes a provider of its own.
    """

    def make_provider(self) -> KeyProvider:
        """A provider whose place holds at least an active key."""
        raise NotImplementedError("inherit KeyProviderConformance and say how a provider is made")

    def older_name(self) -> str | None:
        """The name of a key that the place has and that is not active; None if it has none."""
        return None

    def test_it_has_what_a_provider_must_have(self) -> None:
        """It can be given to a KeyRing."""
        _expect(isinstance(self.make_provider(), KeyProvider), "it lacks active() or get(name)")

    def test_the_active_key_is_a_key(self) -> None:
        """And a well-formed one, since its kid goes into every row."""
        key = self.make_provider().active()
        _expect(isinstance(key, Key), f"active() gave a {type(key).__name__}")
        _expect(parse_kid(key.kid) == (key.name, key.fingerprint), f"its kid {key.kid!r} is malformed")

    def test_the_active_key_stays_the_same(self) -> None:
        """Two calls, and another provider of the same place, give one key."""
        provider = self.make_provider()
        _expect(provider.active() == provider.active(), "two calls gave two keys")

    def test_the_active_key_is_found_by_what_a_ring_asks_for(self) -> None:
        """By its name, or by its fingerprint when it has none: as a reader in another process asks."""
        provider = self.make_provider()
        key = provider.active()
        _expect(provider.get(key.name or key.fingerprint) == key, "get() gave another key than active()")

    def test_an_older_key_is_found_by_its_name(self) -> None:
        """Rows that it sealed are still there."""
        name = self.older_name()
        if name is not None:
            provider = self.make_provider()
            key = provider.get(name)
            _expect(name in {key.name, key.fingerprint}, f"get({name!r}) gave the key {key.kid}")
            _expect(key != provider.active(), "the older key is the active one")

    def test_a_missing_key_is_not_found(self) -> None:
        """A name that a place could have, but has not."""
        _expect_not_found(self.make_provider(), "0" * 8)

    def test_a_name_that_no_key_can_have_is_not_found(self) -> None:
        """Names come from stored rows, so they may be anything."""
        for name in ("", "no such name", "../up", "a~b", "é", "x" * 120, "a\n", "a?b=c", "%2e%2e"):
            _expect_not_found(self.make_provider(), name)

    def test_several_threads_may_call_at_once(self) -> None:
        """At most 4, as a ring does."""
        provider = self.make_provider()
        found: list[object] = []

        def call() -> None:
            try:
                found.append(provider.active())
            except Exception as error:  # noqa: BLE001 - told below
                found.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _expect(found == [provider.active()] * 4, f"four threads got {found!r}")

    def test_it_starts_no_threads(self) -> None:
        """Waiting, repeating and refreshing are the ring's part."""
        before = threading.active_count()
        self.make_provider().active()
        _expect(threading.active_count() <= before, "a call left a thread behind")

    def test_it_goes_on_after_a_fork(self) -> None:
        """``after_fork()``, if it has one, leaves it able to answer."""
        provider = self.make_provider()
        key = provider.active()
        renew = getattr(provider, "after_fork", None)
        if renew is not None:
            renew()
        _expect(provider.active() == key, "after_fork() changed its answer")

    def test_it_can_be_closed_twice(self) -> None:
        """``close()``, if it has one."""
        provider = self.make_provider()
        provider.active()
        closing = getattr(provider, "close", None)
        if closing is not None:
            closing()
            closing()

    def test_no_secret_is_shown(self) -> None:
        """Not by its repr, its words for the place, or the error for a missing key."""
        provider = self.make_provider()
        key = provider.active()
        shown = [repr(provider), str(provider), str(getattr(provider, "place", ""))]
        try:
            provider.get("0" * 8)
        except KeyNotFoundError as error:
            shown.append(str(error))
        for text in shown:
            for form in (key.reveal_base64().rstrip("="), key.secret.hex(), repr(key.secret)[2:-1]):
                _expect(form not in text, "its repr, place or error shows the secret")

    def test_its_keys_cannot_be_written_down_by_accident(self) -> None:
        """They are keys of this library, which cannot be pickled."""
        key = self.make_provider().active()
        _expect(copy.copy(key) is key, "a copy is another object")
        try:
            pickle.dumps(key)
        except TypeError:
            return
        raise AssertionError("a key could be pickled")


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    # Spelled out, for the authors of providers may run their tests without assertions rewritten.
    if not holds:
        raise AssertionError(otherwise)


def _expect_not_found(provider: KeyProvider, name: str) -> None:
    try:
        key = provider.get(name)
    except KeyNotFoundError:
        return
    raise AssertionError(f"get({name!r}) gave the key {key.kid} instead of KeyNotFoundError")

"""What every provider of keys should pass."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping

from ..errors import KeyDestroyedError, KeyDisabledError, KeyNotFoundError
from ..key import Key, parse_kid
from ..provider import KeyProvider
from .checks import at_once, expect, expect_closes_twice, expect_no_new_threads, renew, shows

__all__ = ["KeyProviderConformance"]


class KeyProviderConformance:
    """Tests that every provider of keys should pass. For pytest: inherit from it, and say how to make one.

        class TestMyProvider(KeyProviderConformance):
            def make_provider(self):
                return MyProvider(...)

            def older_name(self):
                return "1"   # of a key that is not active any more; None if there is none

    Each test makes a provider of its own.
    """

    def make_provider(self) -> KeyProvider:
        """A provider whose place of keys has at least an active key."""
        raise NotImplementedError("inherit KeyProviderConformance and say how a provider is made")

    def older_name(self) -> str | None:
        """The name of a key that is there and not active; None if there is none."""
        return None

    def test_it_has_what_a_provider_must_have(self) -> None:
        """It can be given to a KeyRing."""
        expect(isinstance(self.make_provider(), KeyProvider), "it lacks active() or get(name)")

    def test_the_active_key_is_a_key(self) -> None:
        """And a well-formed one, since its kid goes into every row."""
        key = self.make_provider().active()
        expect(isinstance(key, Key), f"active() gave a {type(key).__name__}")
        expect(parse_kid(key.kid) == (key.name, key.fingerprint), f"its kid {key.kid!r} is malformed")

    def test_the_active_key_stays_the_same(self) -> None:
        """Two calls, and another provider of the same place, give one key."""
        provider = self.make_provider()
        expect(provider.active() == provider.active(), "two calls gave two keys")

    def test_the_active_key_is_found_by_what_a_ring_asks_for(self) -> None:
        """By its name, or by its fingerprint when it has none: as a reader in another process asks."""
        provider = self.make_provider()
        key = provider.active()
        expect(provider.get(key.name or key.fingerprint) == key, "get() gave another key than active()")

    def test_an_older_key_is_found_by_its_name(self) -> None:
        """Rows that it sealed are still there."""
        name = self.older_name()
        if name is not None:
            provider = self.make_provider()
            key = provider.get(name)
            expect(name in {key.name, key.fingerprint}, f"get({name!r}) gave the key {key.kid}")
            expect(key != provider.active(), "the older key is the active one")

    def test_a_missing_key_is_not_found(self) -> None:
        """A name that could exist, but does not."""
        _expect_not_found(self.make_provider(), "0" * 8)

    def test_a_name_that_no_key_can_have_is_not_found(self) -> None:
        """Names come from stored rows, so they may be anything."""
        for name in ("", "no such name", "../up", "a~b", "é", "x" * 120, "a\n", "a?b=c", "%2e%2e"):
            _expect_not_found(self.make_provider(), name)

    def test_it_lists_what_it_has(self) -> None:
        """`names()`, if it has one: what is not in it is missing, and a fingerprint in it is the key's."""
        provider = self.make_provider()
        listing = getattr(provider, "names", None)
        if listing is None:
            return
        key = provider.active()
        listed = listing()
        expect(isinstance(listed, Mapping), f"names() gave a {type(listed).__name__} instead of a mapping")
        expect((key.name or key.fingerprint) in listed, "names() does not list the active key")
        older = self.older_name()
        expect(older is None or older in listed, f"names() does not list the older key {older!r}")
        expect("0" * 8 not in listed, "names() lists a name that is missing")
        for name, fingerprint in listed.items():
            expect(isinstance(name, str), f"names() lists a {type(name).__name__}")
            try:
                found = provider.get(name)
            except (KeyDisabledError, KeyDestroyedError):
                continue
            except KeyNotFoundError:
                raise AssertionError(f"names() lists {name!r}, and get() has no such key") from None
            expect(fingerprint in {None, found.fingerprint}, f"names() lists another fingerprint for {name!r}")

    def test_several_threads_may_call_at_once(self) -> None:
        """At most 4, as a ring does."""
        provider = self.make_provider()
        found = at_once(provider.active)
        expect(found == [provider.active()] * 4, f"four threads got {found!r}")

    def test_it_starts_no_threads(self) -> None:
        """Waiting, repeating and refreshing are the ring's part."""
        expect_no_new_threads(lambda: self.make_provider().active())

    def test_it_goes_on_after_a_fork(self) -> None:
        """`after_fork()`, if it has one, leaves it able to answer."""
        provider = self.make_provider()
        key = provider.active()
        renew(provider)
        expect(provider.active() == key, "after_fork() changed its answer")

    def test_it_can_be_closed_twice(self) -> None:
        """`close()`, if it has one."""
        provider = self.make_provider()
        provider.active()
        expect_closes_twice(provider)

    def test_no_secret_is_shown(self) -> None:
        """Not by its repr, its words for the place, or the error for a missing key."""
        provider = self.make_provider()
        key = provider.active()
        shown = [repr(provider), str(provider), str(getattr(provider, "place", ""))]
        try:
            provider.get("0" * 8)
        except KeyNotFoundError as error:
            shown.append(str(error))
        expect(not shows(shown, key.secret, key.reveal_base64()), "its repr, place or error shows the secret")

    def test_its_keys_cannot_be_written_down_by_accident(self) -> None:
        """They are keys of this library, which cannot be pickled."""
        key = self.make_provider().active()
        expect(copy.copy(key) is key, "a copy is another object")
        try:
            pickle.dumps(key)
        except TypeError:
            return
        raise AssertionError("a key could be pickled")


def _expect_not_found(provider: KeyProvider, name: str) -> None:
    try:
        key = provider.get(name)
    except KeyNotFoundError:
        return
    raise AssertionError(f"get({name!r}) gave the key {key.kid} instead of KeyNotFoundError")

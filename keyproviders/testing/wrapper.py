"""What every wrapper of the keys of a keyset should pass."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from ..errors import InvalidKeyError, KeyProviderError, ProviderConfigError
from ..key import SECRET_BYTES
from ..wrapping import KeyWrapper, WrappedKey
from .checks import at_once, expect, expect_closes_twice, expect_no_new_threads, expect_refused, is_text, renew, shows

__all__ = ["KeyWrapperConformance"]

_CONTEXT: Mapping[str, str] = {
    "keyset": "conformance",
    "key": "first",
    "created_at": "2026-11-23T07:00:00Z",
    "keyset_id": "0123456789abcdef0123456789abcdef",
}
# Of a keyset of format 1.
_OLD_CONTEXT = {name: text for name, text in _CONTEXT.items() if name != "keyset_id"}
# What a keyset takes: see the format of its document.
_LONGEST_KEK = 2_048
_LONGEST_CIPHERTEXT = 16_384


class KeyWrapperConformance:
    """Tests that every wrapper should pass. For pytest: inherit from it, and say how to make one.

        class TestMyWrapper(KeyWrapperConformance):
            def make_wrapper(self):
                return MyWrapper("agents", ...)

            def make_successor(self):
                return MyWrapper("agents-2", also_kek="agents", ...)   # None if it has no such thing

    Each test makes wrappers of its own.
    """

    def make_wrapper(self) -> KeyWrapper:
        """A wrapper whose key-encryption key is there."""
        raise NotImplementedError("inherit KeyWrapperConformance and say how a wrapper is made")

    def make_successor(self) -> KeyWrapper | None:
        """A wrapper with another key-encryption key that can open what `make_wrapper()` wrapped, or None."""
        return None

    def test_it_has_what_a_wrapper_must_have(self) -> None:
        """It can be given to a keyset."""
        wrapper = self.make_wrapper()
        expect(isinstance(wrapper, KeyWrapper), "it lacks generate(), unwrap(), rewrap() or place")
        expect(is_text(wrapper.place), "its place is not a str")

    def test_it_makes_a_key_and_wraps_it(self) -> None:
        """32 bytes, and two texts that a keyset can hold."""
        secret, wrapped = self.make_wrapper().generate(_CONTEXT)
        expect(isinstance(secret, bytes), f"generate() made a {type(secret).__name__}, not bytes")
        expect(len(secret) == SECRET_BYTES, f"generate() made a key of {len(secret)} bytes")
        _expect_storable(wrapped)

    def test_each_key_is_another_one(self) -> None:
        """They are random."""
        wrapper = self.make_wrapper()
        made = {wrapper.generate(_CONTEXT)[0] for _ in range(3)}
        expect(len(made) == 3, "generate() made the same key twice")

    def test_what_it_wrapped_opens(self) -> None:
        """Also in another process."""
        secret, wrapped = self.make_wrapper().generate(_CONTEXT)
        expect(self.make_wrapper().unwrap(wrapped, dict(_CONTEXT)) == secret, "unwrap() gave another key")

    def test_it_opens_under_no_other_context(self) -> None:
        """So that no key opens in another keyset, under another name, or with another time."""
        wrapper = self.make_wrapper()
        _, wrapped = wrapper.generate(_CONTEXT)
        others = [{**_CONTEXT, name: "2026-11-23T07:00:01Z"} for name in _CONTEXT]
        for other in (*others, {**_CONTEXT, "more": "x"}, _OLD_CONTEXT):
            expect_refused(
                lambda other=other: wrapper.unwrap(wrapped, other),  # type: ignore[misc] # binds this turn's context
                InvalidKeyError,
                f"a key opened under another context than it was wrapped in: {other}",
            )

    def test_what_was_altered_does_not_open(self) -> None:
        """Nor is it wrapped again."""
        wrapper = self.make_wrapper()
        _, wrapped = wrapper.generate(_CONTEXT)
        middle = len(wrapped.ciphertext) // 2
        other = "A" if wrapped.ciphertext[middle] != "A" else "B"
        altered = f"{wrapped.ciphertext[:middle]}{other}{wrapped.ciphertext[middle + 1 :]}"
        for text in (altered, "", "nonsense"):
            damaged = WrappedKey(wrapped.kek, text)
            for what in (wrapper.unwrap, wrapper.rewrap):
                expect_refused(
                    lambda what=what, damaged=damaged: what(damaged, _CONTEXT),  # type: ignore[misc] # likewise
                    InvalidKeyError,
                    f"a damaged key passed {what.__name__}()",
                )

    def test_a_key_encryption_key_that_it_was_not_told_of_is_refused(self) -> None:
        """The stored name is data: it does not choose the key that opens."""
        wrapper = self.make_wrapper()
        _, wrapped = wrapper.generate(_CONTEXT)
        expect_refused(
            lambda: wrapper.unwrap(WrappedKey("of another kind", wrapped.ciphertext), _CONTEXT),
            ProviderConfigError,
            "a key opened under a key-encryption key that the wrapper was not configured with",
        )

    def test_what_it_wraps_anew_is_the_same_key(self) -> None:
        """Under the same context, and no other."""
        wrapper = self.make_wrapper()
        secret, wrapped = wrapper.generate(_CONTEXT)
        anew = wrapper.rewrap(wrapped, _CONTEXT)
        _expect_storable(anew)
        expect(wrapper.unwrap(anew, _CONTEXT) == secret, "rewrap() changed the key")
        expect(wrapper.unwrap(wrapped, _CONTEXT) == secret, "rewrap() made the key that it was given unusable")
        other = {**_CONTEXT, "key": "second"}
        expect_refused(lambda: wrapper.unwrap(anew, other), InvalidKeyError, "rewrap() lost the context")
        expect_refused(lambda: wrapper.rewrap(wrapped, other), InvalidKeyError, "rewrap() changed the context")

    def test_a_key_moves_to_another_key_encryption_key(self) -> None:
        """Whose wrapper opens it before and after; the former one opens it no more."""
        successor = self.make_successor()
        if successor is None:
            return
        wrapper = self.make_wrapper()
        secret, wrapped = wrapper.generate(_CONTEXT)
        expect(successor.unwrap(wrapped, _CONTEXT) == secret, "the successor does not open what is still to be moved")
        moved = successor.rewrap(wrapped, _CONTEXT)
        expect(moved.kek != wrapped.kek, "rewrap() left the key under the former key-encryption key")
        expect(successor.unwrap(moved, _CONTEXT) == secret, "moving changed the key")
        expect_refused(
            lambda: wrapper.unwrap(moved, _CONTEXT),
            ProviderConfigError,
            "the former wrapper still opens what was moved",
        )

    def test_a_key_is_bound_to_another_context_alone(self) -> None:
        """`rebind()`, if it has one: the same key, which the former context opens no more."""
        wrapper = self.make_wrapper()
        rebind = getattr(wrapper, "rebind", None)
        if rebind is None:
            return
        secret, wrapped = wrapper.generate(_OLD_CONTEXT)
        anew = rebind(wrapped, _OLD_CONTEXT, _CONTEXT)
        _expect_storable(anew)
        expect(wrapper.unwrap(anew, _CONTEXT) == secret, "rebind() changed the key")
        expect(wrapper.unwrap(wrapped, _OLD_CONTEXT) == secret, "rebind() made the key that it was given unusable")
        expect_refused(
            lambda: wrapper.unwrap(anew, _OLD_CONTEXT), InvalidKeyError, "rebind() left the key under its old context"
        )
        other = {**_OLD_CONTEXT, "key": "second"}
        expect_refused(
            lambda: rebind(wrapped, other, _CONTEXT), InvalidKeyError, "rebind() accepted a key of another context"
        )
        expect_refused(
            lambda: rebind(WrappedKey("of another kind", wrapped.ciphertext), _OLD_CONTEXT, _CONTEXT),
            ProviderConfigError,
            "rebind() accepted a key of a key-encryption key that the wrapper was not configured with",
        )

    def test_several_threads_may_call_at_once(self) -> None:
        """At most 4, as a ring does."""
        wrapper = self.make_wrapper()
        secret, wrapped = wrapper.generate(_CONTEXT)
        found = at_once(lambda: wrapper.unwrap(wrapped, _CONTEXT))
        expect(found == [secret] * 4, "four threads did not get the same key")

    def test_it_starts_no_threads(self) -> None:
        """Waiting, repeating and caching are not its task."""
        expect_no_new_threads(lambda: self.make_wrapper().generate(_CONTEXT))

    def test_it_goes_on_after_a_fork(self) -> None:
        """`after_fork()`, if it has one, leaves it able to answer."""
        wrapper = self.make_wrapper()
        secret, wrapped = wrapper.generate(_CONTEXT)
        renew(wrapper)
        expect(wrapper.unwrap(wrapped, _CONTEXT) == secret, "after_fork() changed its answer")

    def test_it_can_be_closed_twice(self) -> None:
        """`close()`, if it has one."""
        wrapper = self.make_wrapper()
        wrapper.generate(_CONTEXT)
        expect_closes_twice(wrapper)

    def test_no_secret_is_shown(self) -> None:
        """Not by its repr, its place, what it wraps, or the error for what does not open."""
        wrapper = self.make_wrapper()
        secret, wrapped = wrapper.generate(_CONTEXT)
        refused = expect_refused(
            lambda: wrapper.unwrap(wrapped, {**_CONTEXT, "key": "second"}),
            KeyProviderError,
            "another context opened it",
        )
        shown = [repr(wrapper), str(wrapper), wrapper.place, *wrapped, str(refused)]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            expect(
                not shows(shown, secret, encode(secret).decode("ascii")), "its repr, place or error shows the secret"
            )


def _expect_storable(wrapped: WrappedKey) -> None:
    expect(isinstance(wrapped, WrappedKey), f"it gave a {type(wrapped).__name__}, not a WrappedKey")
    for text, longest in ((wrapped.kek, _LONGEST_KEK), (wrapped.ciphertext, _LONGEST_CIPHERTEXT)):
        expect(
            is_text(text) and len(text) <= longest and text.isascii() and text.isprintable() and " " not in text,
            f"a keyset cannot hold it: it takes 1 to {longest} printable ASCII characters without spaces",
        )

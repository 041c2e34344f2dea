"""What a provider of keys must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .key import Key

__all__ = ["KeyProvider"]


@runtime_checkable
class KeyProvider(Protocol):
    """What a place of keys must be able to do. Small and synchronous, as the SDKs are.

    A provider asks its place once and answers, or raises from the tree in `keyproviders.errors`.
    It does not cache, retry, sleep or start threads: `KeyRing` does that for every provider
    alike. It may be called from several threads, at most 4 at once.

    It may also have `close()`, called once when its ring closes, `after_fork()`, called in a
    forked child before its first call there, and `place`, a str without secrets that names the
    place in the ring's messages. One that keeps copies of what it fetched has `expect(active_s,
    other_s)`, called when a ring is made: the seconds that the ring goes on with an answer before it
    asks again, about the active key and about another one. One whose new keys wait before they are
    active says how long in `activation_delay_s`, an int of seconds.

    One that knows all it has may say so by `names()`: a mapping of every name that it would answer for
    (of a key without a name its fingerprint), those of retired and destroyed keys too, to the key's
    fingerprint, or to None where it does not have that at hand. It reads its place anew, as `get` does.
    What is not in it counts as missing, without a call of `get`.

    Disabled or destroyed is the last word on a name, and no other place of the ring is asked. Where
    names are not unique, since other places count the same way (version numbers), a class says
    `names_are_unique = False`; then a later place may have the key.

    For `encrypted-sessions doctor` it may have `examine()`, which gives a list of str: sentences
    without secrets about what is worth knowing of the place and is not needed to fetch a key, such
    as how many versions it keeps. What somebody should see to it warns of with `warnings.warn`. It
    may ask its place; what it is not allowed to ask is a sentence too, and no error.
    """

    def active(self) -> Key:
        """The key to encrypt with now.

        Returns:
            The key.

        Raises:
            KeyProviderError: One of the errors under it.
        """
        ...

    def get(self, name: str) -> Key:
        """The key of that name, also an older one.

        Args:
            name: Its name; the fingerprint of a key without one.

        Returns:
            The key.

        Raises:
            KeyNotFoundError: There is none; without asking for a name that the place could never have.
            KeyProviderError: Another of the errors under it.
        """
        ...

"""What a provider of keys must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .key import Key

__all__ = ["KeyProvider"]


@runtime_checkable
class KeyProvider(Protocol):
    """What a place of keys must be able to do. Small and synchronous, as the SDKs are.

    A provider asks its place once and answers, or raises from the tree in ``keyproviders.errors``.
    It does not cache, retry, sleep or start threads: ``KeyRing`` does that for every provider
    alike. It may be called from several threads, at most 4 at once.

    It may also have ``close()``, called once when its ring closes, ``after_fork()``, called in a
    forked child before its first call there, and ``place``, a str without secrets that names the
    place in the ring's messages. One that keeps copies of what it fetched has ``expect(active_s,
    other_s)``, called when a ring is made: the seconds that the ring goes on with an answer before it
    asks again, about the active key and about another one. One whose new keys wait before they are
    active says how long in ``activation_delay_s``, an int of seconds.

    For `encrypted-sessions doctor` it may have ``examine()``, which gives a list of str: sentences
    without secrets about what is worth knowing of the place and is not needed to fetch a key, such
    as how many versions it keeps. What somebody should see to it warns of with ``warnings.warn``. It
    may ask its place; what it is not allowed to ask is a sentence too, and no error.
    """

    def active(self) -> Key:
        """The key to encrypt with now."""
        ...

    def get(self, name: str) -> Key:
        """The key of that name, also an older one.

        A key without a name is asked for by its fingerprint. A name that the place could never have
        is KeyNotFoundError without asking.
        """
        ...

"""What a provider of keys must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .key import Key

__all__ = ["KeyProvider"]


@runtime_checkable
class KeyProvider(Protocol):
    """The interface to a place of keys. Small and synchronous, as the SDKs are.

    A provider asks its place of keys once and answers, or raises an error of the tree in `keyproviders.errors`. It
    does not cache, retry, sleep or start threads: `KeyRing` does that for all providers. It may be called from
    several threads, at most 4 at once.

    It may also have `close()`, called once when its ring closes; `after_fork()`, called in a forked child before its
    first call there; and `place`, a str without secrets that names the place of keys in the ring's messages. A
    provider that keeps copies of what it fetched has `expect(active_s, other_s)`, called when a ring is made: how
    many seconds the ring uses an answer before it asks again, for the active key and for another key. If new keys
    wait before they become active, `activation_delay_s` says how many seconds, as an int.

    A provider that can list all its keys may have `names()`: a mapping of every name that it would answer for (for a
    key without a name, its fingerprint), including retired and destroyed keys, to the key's fingerprint, or to None
    if it does not know that. It reads its place of keys each time, as `get` does. A name that is not in the mapping
    counts as missing, without a call of `get`.

    If a name is disabled or destroyed, that answer is final, and no other place of the ring is asked. If names are
    not unique, because other places use the same ones (version numbers), the class sets `names_are_unique = False`;
    then a later place may have the key.

    For `encrypted-sessions doctor` it may have `examine()`, which returns a list of str: sentences without secrets
    about the place of keys that are useful but not needed to fetch a key, such as how many versions it keeps. If
    somebody should act, it warns with `warnings.warn`. It may ask its place of keys; if it is not allowed to, it says
    so in a sentence instead of raising an error.
    """

    def active(self) -> Key:
        """The key to encrypt with now.

        Returns:
            The key.

        Raises:
            KeyProviderError: Any error of this tree.
        """
        ...

    def get(self, name: str) -> Key:
        """The key of that name, including older keys.

        Args:
            name: Its name; the fingerprint of a key without one.

        Returns:
            The key.

        Raises:
            KeyNotFoundError: There is none. It is raised without a request if the place could never have that name.
            KeyProviderError: Any other error of this tree.
        """
        ...

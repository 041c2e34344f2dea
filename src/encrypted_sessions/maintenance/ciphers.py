"""Ciphers of many sessions: those that were used last are kept, and the active key's."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NoReturn, TypeVar

from keyproviders import Key

from ..core.cipher import SessionCipher

__all__ = ["KEPT", "ActiveKey", "RecentlyUsed"]

#: Derived ciphers kept, some 2 KiB each. Another derivation costs some microseconds.
KEPT = 1_024

_T = TypeVar("_T")


class RecentlyUsed(Generic[_T]):
    """What was used last, so much of it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], _T] = OrderedDict()

    def get(self, name: tuple[object, ...]) -> _T | None:
        """What was put under that name, if it is still kept."""
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    def put(self, name: tuple[object, ...], one: _T) -> None:
        """Keep one more, and let go of what was not used for longest."""
        self._kept[name] = one
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)


class ActiveKey:
    """The key to seal with now, for any session."""

    __slots__ = ("_ciphers", "_key", "kid")

    def __init__(self, key: Key) -> None:
        self.kid = key.kid
        self._key = key
        self._ciphers: RecentlyUsed[SessionCipher] = RecentlyUsed()

    def __repr__(self) -> str:
        return f"ActiveKey({self.kid})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an ActiveKey cannot be pickled or copied: it holds keys")

    def is_of(self, key: Key) -> bool:
        """Whether it is this key's."""
        return self._key == key

    def cipher(self, session_id: str, suite: int, realm: str = "") -> SessionCipher:
        """What seals items of a session in a suite and a realm.

        Raises UnicodeEncodeError for an id that no session can have.
        """
        name = (session_id, suite, realm)
        cipher = self._ciphers.get(name)
        if cipher is None:
            cipher = SessionCipher(self._key.secret, session_id, self.kid, realm, suite)
            self._ciphers.put(name, cipher)
        return cipher

"""The keys of one session: from a kid to the cipher that opens what it sealed.

A `Keychain` has the answer of the place for each kid: a cipher, or the outcome that stands for why
there is none. A provider that cannot answer is no outcome: its error passes through.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar

from keyproviders import Key, KeyDestroyedError, KeyDisabledError, KeyNotFoundError

from ..core.cipher import SessionCipher
from ..core.derivation import upstream_secret
from ..core.envelope import UPSTREAM_KID
from ..core.outcomes import Outcome

if TYPE_CHECKING:
    from keyproviders import KeyRing

__all__ = ["Keychain", "RingKeychain", "StringKeychain", "answer_for"]

#: Derived ciphers kept per session. More keys than this in one history is rare, and costs a
#: derivation (some 20 microseconds) per key and read.
_KEPT_CIPHERS = 32

_T = TypeVar("_T")


async def answer_for(kid: str, upstream: _T | None, ask: Callable[[str], Awaitable[_T]]) -> _T | Outcome:
    """What the place says of a kid: the key, or the outcome that stands for why there is none.

    `upstream` is the key for rows of the Agents SDK's class, if there is one; `ask` asks for any other.
    """
    if kid == UPSTREAM_KID:
        return "unknown_key" if upstream is None else upstream
    try:
        return await ask(kid)
    except KeyDestroyedError:
        return "erased"
    except KeyDisabledError:
        return "key_disabled"
    except KeyNotFoundError:
        return "unknown_key"


class StringKeychain:
    """One string for everything, whatever the kid: the Agents SDK's rule."""

    def __init__(self, secret: bytes, session_id: str) -> None:
        self._cipher = SessionCipher(secret, session_id, UPSTREAM_KID)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a session's keys cannot be pickled or copied")

    async def active(self) -> SessionCipher:
        """The string's cipher, with the SDK's fixed kid."""
        return self._cipher

    async def find(self, kids: Iterable[str]) -> Mapping[str, SessionCipher | Outcome]:
        """The string's cipher for each."""
        return dict.fromkeys(kids, self._cipher)


class RingKeychain:
    """A key ring's keys, and the string of the Agents SDK's class for the rows that it wrote."""

    def __init__(self, ring: KeyRing, session_id: str, upstream_key: str | None) -> None:
        self._ring = ring
        self._session_id = session_id
        self._upstream = (
            None if upstream_key is None else SessionCipher(upstream_secret(upstream_key)[0], session_id, UPSTREAM_KID)
        )
        self._ciphers: OrderedDict[Key, SessionCipher] = OrderedDict()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a session's keys cannot be pickled or copied")

    async def active(self) -> SessionCipher:
        """The ring's active key."""
        return self._cipher(await self._ring.active())

    async def find(self, kids: Iterable[str]) -> Mapping[str, SessionCipher | Outcome]:
        """Each kid looked up in the ring, all at once."""
        wanted = list(kids)
        if len(wanted) == 1:  # nearly always: no task for it
            return {wanted[0]: await self._look_up(wanted[0])}
        answers = await asyncio.gather(*(self._look_up(kid) for kid in wanted))
        return dict(zip(wanted, answers, strict=True))

    async def _look_up(self, kid: str) -> SessionCipher | Outcome:
        return await answer_for(kid, self._upstream, self._ask)

    async def _ask(self, kid: str) -> SessionCipher:
        return self._cipher(await self._ring.get(kid))

    def _cipher(self, key: Key) -> SessionCipher:
        cipher = self._ciphers.get(key)
        if cipher is None:
            cipher = self._ciphers[key] = SessionCipher(key.secret, self._session_id, key.kid)
            while len(self._ciphers) > _KEPT_CIPHERS:
                self._ciphers.popitem(last=False)
        return cipher


#: What a session needs of its keys: `active`, the cipher to seal with now, and `find`.
Keychain = StringKeychain | RingKeychain

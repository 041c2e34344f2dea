"""The keys of one session: from a kid to the cipher that opens what it sealed.

A `Keychain` has the answer of the place for each kid: a cipher, or the outcome that stands for why
there is none. A provider that cannot answer is no outcome: its error passes through.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import ref

from keyproviders import (
    Key,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotAskedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    parse_kid,
)

from ..core.cipher import SessionCipher
from ..core.derivation import upstream_secret
from ..core.envelope import UPSTREAM_KID
from ..core.outcomes import Outcome
from .sealing import FIRST_SUITE

if TYPE_CHECKING:
    from keyproviders import KeyRing

__all__ = ["Keychain", "RingKeychain", "StringKeychain", "answer_for"]

#: Derived ciphers kept per session. More keys than this in one history is rare, and costs a
#: derivation (some 20 microseconds) per key and read.
_KEPT_CIPHERS = 32

#: A class comes before those that it is made from.
_OUTCOMES: Mapping[type[KeyProviderError], Outcome] = {
    KeyDestroyedError: "erased",
    KeyDisabledError: "key_disabled",
    KeyNotFoundError: "unknown_key",
    KeyNotAskedError: "key_not_asked",
}

_T = TypeVar("_T")


def outcome_for(error: KeyProviderError) -> Outcome | None:
    """The outcome that stands for what a place answered; None where it gave no answer."""
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind)), None)


async def answer_for(kid: str, upstream: _T | None, ask: Callable[[str], Awaitable[_T]]) -> _T | Outcome:
    """What the place says of a kid: the key, or the outcome that stands for why there is none.

    `upstream` is the key for rows of the Agents SDK's class, if there is one; `ask` asks for any other.
    """
    if kid == UPSTREAM_KID:
        return "unknown_key" if upstream is None else upstream
    try:
        return await ask(kid)
    except KeyProviderError as error:
        outcome = outcome_for(error)
        if outcome is None:
            raise
        return outcome


class StringKeychain:
    """One string for everything, whatever the kid: the Agents SDK's rule."""

    def __init__(self, secret: bytes, session_id: str, *, strict: bool, realm: str = "") -> None:
        self._cipher = SessionCipher(secret, session_id, UPSTREAM_KID, realm)
        #: Whether what is merely warned of elsewhere is refused.
        self.strict = strict

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a session's keys cannot be pickled or copied")

    async def active(self) -> SessionCipher:
        """The string's cipher, with the SDK's fixed kid."""
        return self._cipher

    #: Nothing is asked for.
    wait_s = 0.0

    def advice(self, kid: str) -> str | None:  # noqa: ARG002 - as a ring's
        """Nothing: the string opens whatever it can."""
        return None

    async def find(self, kids: Iterable[str], wait_s: float) -> Mapping[str, SessionCipher | Outcome]:  # noqa: ARG002 - as a ring's
        """The string's cipher for each."""
        return dict.fromkeys(kids, self._cipher)


class RingKeychain:
    """A key ring's keys, and the string of the Agents SDK's class for the rows that it wrote."""

    def __init__(
        self, ring: KeyRing, session_id: str, upstream_key: str | None, realm: str = "", suite: int = FIRST_SUITE
    ) -> None:
        self._ring = ring
        self._session_id = session_id
        self._realm = realm
        self._suite = suite
        #: How long one read waits for keys in all.
        self.wait_s = ring.deadline_s
        self.strict = bool(getattr(ring, "strict", False))
        self._upstream = (
            None if upstream_key is None else SessionCipher(upstream_secret(upstream_key)[0], session_id, UPSTREAM_KID)
        )
        # By kids; a key of the same kid takes the place of another one.
        self._ciphers: dict[str, SessionCipher] = {}
        self._keys: dict[str, Key] = {}
        self._leases: dict[str, ref[object]] = {}

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a session's keys cannot be pickled or copied")

    async def active(self) -> SessionCipher:
        """The ring's active key."""
        return self._cipher(await self._ring.active())

    def advice(self, kid: str) -> str | None:
        """What to do about a kid that is not known, where the ring holds its very key under another name."""
        name, fingerprint = parse_kid(kid) or (None, None)
        if name is None:
            return None
        held = next((one for one in self._ring.health().held if one.endswith(f"~{fingerprint}")), None)
        if held is None:
            return None
        return f"the key of {kid} is held as {held}: if its rows are yours, list it under the name {name!r} too"

    async def find(self, kids: Iterable[str], wait_s: float) -> Mapping[str, SessionCipher | Outcome]:
        """Each kid looked up in the ring, all at once, for the session as the asker."""
        wanted = list(kids)
        if len(wanted) == 1:  # nearly always: no task for it
            return {wanted[0]: await self._look_up(wanted[0], wait_s)}
        # What the ring knows comes at once, and for the rest it asks the place.
        found = {kid: await self._look_up(kid, 0) for kid in wanted}
        unknown = [kid for kid in wanted if found[kid] == "key_not_asked"]
        if unknown and wait_s > 0:
            found.update(await self._ask_place(unknown, wait_s))
        return found

    async def _ask_place(self, kids: Sequence[str], wait_s: float) -> Mapping[str, SessionCipher | Outcome]:
        began = time.monotonic()

        async def in_time(kid: str) -> SessionCipher | Outcome | KeyUnavailableError:
            try:
                return await self._look_up(kid, wait_s)
            except KeyUnavailableError as error:
                if time.monotonic() - began < wait_s:
                    raise
                return error

        answers = dict(zip(kids, await asyncio.gather(*map(in_time, kids)), strict=True))
        silent = next((answer for answer in answers.values() if isinstance(answer, KeyUnavailableError)), None)
        if silent is not None and all(
            answer == "key_not_asked" or isinstance(answer, KeyUnavailableError) for answer in answers.values()
        ):
            raise silent
        # Where the place answers, one that it still owes had its turn so late that the time of all was over.
        return {
            kid: "key_not_asked" if isinstance(answer, KeyUnavailableError) else answer
            for kid, answer in answers.items()
        }

    async def _look_up(self, kid: str, wait_s: float) -> SessionCipher | Outcome:
        """One kid looked up in the ring."""
        if kid == UPSTREAM_KID:
            return "unknown_key" if self._upstream is None else self._upstream
        try:
            key = await self._ring.get(kid, asker=self._session_id, wait_s=wait_s)
        except KeyProviderError as error:
            outcome = outcome_for(error)
            if outcome is None:
                raise
            return outcome
        return self._cipher(key)

    def _cipher(self, key: Key) -> SessionCipher:
        kid = key.kid
        cipher, kept = self._ciphers.get(kid), self._keys.get(kid)
        if cipher is None or not (kept is key or kept == key):
            cipher = SessionCipher(key.secret, self._session_id, kid, self._realm, self._suite)
            self._keep(key, cipher)
        # No part of the key's equality: it is known only when another key follows.
        until = key.written_until
        cipher.written_until = None if until is None else until.timestamp()
        return cipher

    def _keep(self, key: Key, cipher: SessionCipher) -> None:
        """Keep a cipher for as long as the ring holds its key."""
        lease = self._ring.lease(key)
        if lease is None:
            return
        kept, leases, kid = (self._ciphers, self._keys), self._leases, key.kid

        def let_go(ended: object) -> None:  # in any thread, and knows nothing of this object
            if leases.get(kid) is ended:
                _forget(kid, leases, *kept)

        leases[kid], self._keys[kid], self._ciphers[kid] = ref(lease, let_go), key, cipher
        while len(leases) > _KEPT_CIPHERS:
            oldest = next(iter(leases), None)
            if oldest is not None:
                _forget(oldest, leases, *kept)


def _forget(kid: str, *places: dict[str, Any]) -> None:
    for place in places:
        place.pop(kid, None)


#: What a session needs of its keys: `active`, the cipher to seal with now, and `find`.
Keychain = StringKeychain | RingKeychain

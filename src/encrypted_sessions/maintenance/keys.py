"""The keys of many sessions: from a kid and a session id to what opens, or why nothing does.

Each kid that its place does not have is asked for once in a run, and a run waits for the ring's
permits. Whoever writes to the store chooses which kids stand there, so what is asked for and what is
remembered is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, TypeVar

from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyUnavailableError,
    parse_kid,
)

from ..core.cipher import Opener, SessionCipher
from ..core.derivation import upstream_secret
from ..core.envelope import UPSTREAM_KID, Envelope
from ..core.outcomes import Outcome
from ..history.keychain import answer_for
from .interruption import wait

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..stores.whole import StoredRow

__all__ = ["NOT_OPENED", "ActiveKey", "NoKeys", "NotOpened", "StoreKeys"]

#: Why nobody knows whether a row opens. No outcome: the next run may know.
NotOpened = Literal["key_not_answered", "key_not_asked"]

#: The same, with the word for a run without keys.
NOT_OPENED = frozenset({"key_not_answered", "key_not_asked", "not_opened"})

#: Kids without a key that one run asks for. Beyond the ring's permits each costs it 10 s.
_MOST_MISSES = 100

#: A provider that does not answer is asked so often. Each time the ring waits up to its own deadline.
_TRIES = 3
#: Seconds between two tries where the ring does not say how long, and at most.
_WAIT_S = 1.0
_LONGEST_WAIT_S = 10.0

#: Derived ciphers kept, some 2 KiB each. Another derivation costs some microseconds.
_KEPT = 1_024

_T = TypeVar("_T")


class NoKeys:
    """Opens nothing: for a run that looks at labels alone."""

    async def prepare(self, envelopes: Iterable[Envelope]) -> None:
        """Nothing is asked for."""

    def opener(self, envelope: Envelope, row: StoredRow) -> str:  # noqa: ARG002 - the same for all
        """That it was not opened."""
        return "not_opened"


class _Recent(Generic[_T]):
    """What was used last, so much of it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], _T] = OrderedDict()

    def get(self, name: tuple[object, ...]) -> _T | None:
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    def put(self, name: tuple[object, ...], one: _T) -> None:
        self._kept[name] = one
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)


class ActiveKey:
    """The key to seal with now, for any session."""

    __slots__ = ("_ciphers", "_key", "kid")

    def __init__(self, key: Key) -> None:
        self.kid = key.kid
        self._key = key
        self._ciphers: _Recent[SessionCipher] = _Recent()

    def __repr__(self) -> str:
        return f"ActiveKey({self.kid})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an ActiveKey cannot be pickled or copied: it holds keys")

    def is_of(self, key: Key) -> bool:
        """Whether it is this key's."""
        return self._key == key

    def cipher(self, session_id: str) -> SessionCipher:
        """What seals items of a session. Raises UnicodeEncodeError for an id that no session can have."""
        cipher = self._ciphers.get((session_id,))
        if cipher is None:
            cipher = SessionCipher(self._key.secret, session_id, self.kid)
            self._ciphers.put((session_id,), cipher)
        return cipher


class StoreKeys:
    """A key ring's keys, and the string of the SDK's class, for all sessions of a store."""

    def __init__(self, ring: KeyRing, upstream_key: str | None, stop: Callable[[], bool]) -> None:
        self._ring = ring
        self._upstream = None if upstream_key is None else upstream_secret(upstream_key)[0]
        self._stop = stop
        self._without: dict[str, Outcome | NotOpened] = {}
        self._now: dict[str, bytes | Outcome | NotOpened] = {}
        self._openers: _Recent[Opener] = _Recent()
        self._active: ActiveKey | None = None
        self.refusals: dict[str, str] = {}
        """What places said that refused to answer for a kid."""

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a run's keys cannot be pickled or copied")

    async def active(self) -> ActiveKey:
        """The ring's active key. Raises what the ring raises, once waiting has not helped."""
        key = await self._patiently(self._ring.active)
        if self._active is None or not self._active.is_of(key):
            self._active = ActiveKey(key)
        return self._active

    async def prepare(self, envelopes: Iterable[Envelope]) -> None:
        """Have an answer for the kids of these, and for no others: `opener` gives it then, without waiting.

        Raises what the ring raises, once waiting has not helped.
        """
        self._now = {kid: await self.answer(kid) for kid in {found.kid for found in envelopes}}

    def opener(self, envelope: Envelope, row: StoredRow) -> Opener | Outcome | NotOpened:
        """What opens the envelope of a row, or why nothing does."""
        kid, session_id = envelope.kid, row.session_id
        secret = self._now[kid]
        if isinstance(secret, str):
            return secret
        name = (kid, session_id, envelope.version)
        opener = self._openers.get(name)
        if opener is None:
            try:
                opener = SessionCipher(secret, session_id, kid).opener(envelope.version)
            except UnicodeEncodeError:  # no session can have such an id, so no key has sealed for it
                return "unauthentic"
            self._openers.put(name, opener)
        return opener

    async def held(self) -> dict[str, bytes]:
        """The master keys that are at hand by their kids, the SDK's among them: what may open a row that names another.

        Raises what the ring raises, once waiting has not helped.
        """
        kids = [UPSTREAM_KID, *self._ring.health().held]
        answers = {kid: await self.answer(kid) for kid in kids}
        return {kid: answer for kid, answer in answers.items() if isinstance(answer, bytes)}

    async def answer(self, kid: str) -> bytes | Outcome | NotOpened:
        """What the ring says of a kid: the master key's bytes, or why there are none.

        Raises what the ring raises, once waiting has not helped.
        """
        known = self._without.get(kid)
        if known is not None:
            return known
        could_be_asked = parse_kid(kid) is not None
        if not could_be_asked and kid != UPSTREAM_KID:
            return "unknown_key"
        if could_be_asked and len(self._without) >= _MOST_MISSES and kid not in self._ring.health().held:
            return "key_not_asked"
        try:
            answer: bytes | Outcome | NotOpened = await answer_for(kid, self._upstream, self._ask)
        except (KeyAccessDeniedError, InvalidKeyError) as error:
            answer = "key_not_answered"
            self.refusals[kid] = str(error)
        if could_be_asked and isinstance(answer, str):
            self._without[kid] = answer
        return answer

    async def _ask(self, kid: str) -> bytes:
        return (await self._patiently(lambda: self._ring.get(kid))).secret

    async def _patiently(self, ask: Callable[[], Awaitable[Key]]) -> Key:
        tries = 1
        while True:
            try:
                return await ask()
            except KeyUnavailableError as error:
                if tries == _TRIES:
                    raise
                wait_s = _WAIT_S if error.retry_after_s is None else error.retry_after_s
            tries += 1
            await wait(min(wait_s, _LONGEST_WAIT_S), self._stop)

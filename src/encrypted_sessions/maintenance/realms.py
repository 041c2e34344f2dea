"""The realms of a run: environments or tenants, one of which each row of suite 2 is bound to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from .._support.session_names import logged_session
from ..arguments import kind_of
from ..core.cipher import Opener, SessionCipher, Unauthentic
from ..core.envelope import Envelope
from ..history.sealing import FIRST_SUITE
from ..sealing_arguments import realm as checked_realm
from .ciphers import RecentlyUsed

__all__ = ["BINDS_NO_REALM", "GivenRealms", "RealmError", "RealmOpener", "Realms", "session_opener"]

#: One realm, several, or what gives those of a session.
GivenRealms = str | Sequence[str] | Callable[[str], str | Sequence[str]]

#: The suite whose keys have no realm in them.
BINDS_NO_REALM = FIRST_SUITE

_T = TypeVar("_T")

_WANTED = "a str, a list of them, or a function that gives either for a session id"


class RealmError(Exception):
    """What was given as `realm` raised for a session, or gave no realms: that is the `cause`.

    Its words are not shown: a program's own error may name the session, or hold what it looked the realm up with.
    """

    def __init__(self, session_id: str, cause: Exception, *, is_wrong_answer: bool) -> None:
        super().__init__(f"what realm gives for the session {logged_session(session_id)}: {type(cause).__name__}")
        self.cause = cause
        self.is_wrong_answer = is_wrong_answer


class Realms:
    """Which realms the rows of a session may be of."""

    def __init__(self, given: object = "") -> None:
        self._ask = given if callable(given) else None
        self._always = () if self._ask is not None else _several(given, "realm")
        self._answers: RecentlyUsed[tuple[str, ...]] = RecentlyUsed()

    @property
    def always(self) -> tuple[str, ...] | None:
        """Them, where they are the same for all sessions."""
        return None if self._ask is not None else self._always

    def of(self, session_id: str) -> tuple[str, ...]:
        """Those of a session. Raises RealmError where there is no answer, or none that can be."""
        if self._ask is None:
            return self._always
        answer = self._answers.get((session_id,))
        if answer is None:
            try:
                given = self._ask(session_id)
            except Exception as error:
                raise RealmError(session_id, error, is_wrong_answer=False) from error
            try:
                answer = _several(given, "what realm gives for a session")
            except (TypeError, ValueError) as error:
                raise RealmError(session_id, error, is_wrong_answer=True) from error
            self._answers.put((session_id,), answer)
        return answer

    def only_of(self, session_id: str) -> str:
        """The one realm of a session, which its rows of suite 1 come into. Raises RealmError where it has several."""
        realms = self.of(session_id)
        if len(realms) > 1:
            several = ValueError(
                f"realm gives {len(realms)} realms for a session, but to move rows of suite 1 to suite"
                " 2 it must give one"
            )
            raise RealmError(session_id, several, is_wrong_answer=True)
        return realms[0]


class RealmOpener(Opener):
    """Opens the envelopes of one session, whichever of some realms they are of.

    The commitment tells a realm that does not fit before anything is decrypted; the one that fitted last comes first.
    """

    __slots__ = ("_openers",)

    def __init__(self, openers: Iterable[tuple[str, Opener]]) -> None:
        self._openers = list(openers)

    def verify(self, envelope: Envelope) -> None:
        """Raise Unauthentic unless it is of one of the realms."""
        self._first_that_fits(envelope, lambda opener: opener.verify(envelope))

    def decrypt(self, envelope: Envelope) -> bytes:
        """The bytes, by the opener of its realm."""
        return self._first_that_fits(envelope, lambda opener: opener.decrypt(envelope))

    def realm_of(self, envelope: Envelope) -> str:
        """The realm of an envelope that one of them opens. Raises Unauthentic where none does."""
        if len(self._openers) > 1:
            self.verify(envelope)
        return self._openers[0][0]

    def _first_that_fits(self, envelope: Envelope, call: Callable[[Opener], _T]) -> _T:
        for index, (_, opener) in enumerate(self._openers):
            try:
                answer = call(opener)
            except Unauthentic:
                continue
            if index:
                self._openers.insert(0, self._openers.pop(index))
            envelope.verified_by = self
            return answer
        raise Unauthentic


def session_opener(secret: bytes, session_id: str, kid: str, version: int, realms: Realms) -> Opener:
    """What opens envelopes of a version that a master key sealed in a session.

    Raises UnicodeEncodeError for an id that no session can have.
    """
    if version == BINDS_NO_REALM:
        return SessionCipher(secret, session_id, kid).opener(version)
    return RealmOpener(
        (realm, SessionCipher(secret, session_id, kid, realm, version).opener(version))
        for realm in realms.of(session_id)
    )


def _several(value: object, argument: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (checked_realm(value),)
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"{argument} must be {_WANTED}, not {kind_of(value)}")
    realms = tuple(dict.fromkeys(checked_realm(one) for one in value))
    if not realms:
        raise ValueError(f"{argument} is empty; give '' for the empty realm")
    return realms

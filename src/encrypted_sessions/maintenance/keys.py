"""The keys of many sessions: from a kid and a session id to what opens, or why nothing does.

There may be several places of keys, each behind a ring of its own. They are asked in order up to the
one that has the key, and what one says of a key's end is believed only once no other has that key:
tenants with places of their own may use the same names.

Each kid that no place has is asked for once in a run, and a run waits for these no longer than some
seconds in all. Whoever writes to the store chooses which kids stand there, so what is asked
for and what is remembered is bounded.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyProviderError,
    KeyUnavailableError,
    parse_kid,
)

from ..core.cipher import Opener
from ..core.derivation import upstream_secret
from ..core.envelope import UPSTREAM_KID, Envelope, parse_row
from ..core.outcomes import Outcome
from ..history.keychain import answer_for
from .ciphers import ActiveKey, RecentlyUsed
from .interruption import wait
from .realms import Realms, session_opener

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..stores.whole import StoredRow

__all__ = ["NOT_OPENED", "NotOpened", "StoreKeys"]

#: Why nobody knows whether a row opens. No outcome: the next run may know.
NotOpened = Literal["key_not_answered", "key_not_asked"]

#: The same, with the word for a run without keys.
NOT_OPENED = frozenset({"key_not_answered", "key_not_asked", "not_opened"})

#: Of what several places say that have no key, the first of these counts. As long as one has not answered nothing is
#: known, and what may come back is not given up.
_ORDER: tuple[Outcome | NotOpened, ...] = (
    "key_not_asked",
    "key_not_answered",
    "key_disabled",
    "erased",
    "unknown_key",
)

#: So many seconds a run waits in all for kids that no key comes for. Whoever writes to the store can invent kids;
#: what was not asked for in that time is "key_not_asked".
_WAITS_S = 10.0

#: What places said of kids is remembered for so many.
_MOST_KIDS = 10_000

#: A provider that does not answer is asked so often. Each time the ring waits up to its own deadline.
_TRIES = 3
#: Seconds between two tries where the ring does not say how long, and at most.
_WAIT_S = 1.0
_LONGEST_WAIT_S = 10.0


class _Secret(NamedTuple):
    """A master key's bytes, and until when it may have written, in seconds since 1970."""

    secret: bytes
    written_until: float | None

    def __repr__(self) -> str:
        return "_Secret()"


class StoreKeys:
    """The keys of one ring or several, and the string of the SDK's class, for all sessions of a store.

    The first ring has the key to seal with.
    """

    def __init__(
        self, rings: Sequence[KeyRing], upstream_key: str | None, stop: Callable[[], bool], realms: Realms | None = None
    ) -> None:
        self._rings = rings
        self.realms = realms or Realms()
        self._upstream = None if upstream_key is None else _Secret(upstream_secret(upstream_key)[0], None)
        self._stop = stop
        self._asker = f"maintenance {secrets.token_hex(8)}"  # in the ring it takes turns with sessions
        self._left_s = _WAITS_S
        self._said: dict[str, Outcome | NotOpened] = {}
        self._found: set[str] = set()
        self._has_asked = False
        self._page: Sequence[StoredRow] = ()
        self._now: dict[str, _Secret | Outcome | NotOpened] = {}
        self._openers: RecentlyUsed[Opener] = RecentlyUsed()
        self._active: ActiveKey | None = None
        self.refusals: dict[str, str] = {}
        """What places said that refused to answer for a kid."""

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a run's keys cannot be pickled or copied")

    async def active(self) -> ActiveKey:
        """The first ring's active key. Raises what the ring raises, once waiting has not helped."""
        key = await self._patiently(self._rings[0].active)
        if self._active is None or not self._active.is_of(key):
            self._active = ActiveKey(key)
        return self._active

    def begin_page(self, rows: Sequence[StoredRow]) -> None:
        """Of which rows those are a part whose keys are asked for next."""
        self._page = rows

    async def prepare(self, envelopes: Iterable[Envelope]) -> None:
        """Have an answer for the kids of these, and for no others: `opener` gives it then, without waiting.

        Raises what the ring raises, once waiting has not helped.
        """
        kids = {found.kid for found in envelopes}
        self._now = {kid: await self._at_hand(kid) for kid in kids}
        unknown = {kid for kid, answer in self._now.items() if answer == "key_not_asked"}
        if self._may_ask(unknown):
            answers = await self._ask_for_page(unknown)
            for kid in unknown:
                self._now[kid] = answers[kid] if kid in answers else await self._at_hand(kid)

    def opener(self, envelope: Envelope, row: StoredRow) -> Opener | Outcome | NotOpened:
        """What opens the envelope of a row, or why nothing does."""
        kid, session_id = envelope.kid, row.session_id
        answer = self._now[kid]
        if isinstance(answer, str):
            return answer
        # An opener of suite 2 keeps a key for each 65,536 s: so each of those kept has sixteen of them at most.
        span = envelope.timestamp >> 20 if envelope.says_expires else 0
        name = (kid, session_id, envelope.version, span)
        opener = self._openers.get(name)
        if opener is None:
            try:
                opener = session_opener(answer.secret, session_id, kid, envelope.version, self.realms)
            except UnicodeEncodeError:  # no session can have such an id, so no key has sealed for it
                return "unauthentic"
            self._openers.put(name, opener)
        opener.written_until = answer.written_until
        return opener

    @property
    def held_kids(self) -> tuple[str, ...]:
        """The public ids of the keys that the rings have in hand."""
        return tuple(dict.fromkeys(kid for ring in self._rings for kid in ring.health().held))

    async def held(self) -> dict[str, bytes]:
        """The master keys that are at hand by their kids, the SDK's among them: what may open a row that names another.

        Raises what the ring raises, once waiting has not helped.
        """
        kids = [UPSTREAM_KID, *self.held_kids]
        answers = {kid: await self._at_hand(kid) for kid in kids}
        return {kid: answer.secret for kid, answer in answers.items() if not isinstance(answer, str)}

    async def listed(self) -> dict[str, bytes]:
        """The same for those that are not at hand and that the places list, as far as they hand them out.

        They are there, so that no row that somebody made up takes the time that is left to ask for them.
        """
        kids: set[str] = set()
        for ring in self._rings:
            with suppress(KeyUnavailableError):
                kids.update(await ring.kids())
        kids.difference_update(self.held_kids)
        self._found |= kids
        answers = {kid: await self.answer(kid) for kid in sorted(kids)}
        return {kid: answer.secret for kid, answer in answers.items() if not isinstance(answer, str)}

    async def answer(self, kid: str) -> _Secret | Outcome | NotOpened:
        """The same for one kid: its key, or why there is none."""
        answer = await self._at_hand(kid)
        if answer == "key_not_asked" and self._may_ask({kid}):
            answer = (await self._ask_for_page({kid})).get(kid, answer)
        return answer

    def _may_ask(self, kids: Collection[str]) -> bool:
        """Whether there is time left, or one of these kids was found before."""
        return bool(kids) and (self._left_s > 0 or not self._found.isdisjoint(kids))

    async def _at_hand(self, kid: str) -> _Secret | Outcome | NotOpened:
        """What is known of a kid: without asking its place, "key_not_asked" where that would be needed."""
        if not _is_kid(kid) and kid != UPSTREAM_KID:
            return "unknown_key"
        answers = []
        for ring in self._rings:
            answer = await self._answer(ring, kid, 0.0)
            if not isinstance(answer, str):
                return answer
            answers.append(answer)
        answer = min(answers, key=_ORDER.index)
        return self._said.get(kid, answer) if answer == "key_not_asked" else answer

    async def _ask_for_page(self, wanted: Collection[str]) -> dict[str, _Secret | Outcome | NotOpened]:
        """Ask for what the rows of the page name and nobody has asked for yet, what most of them name first."""
        if not self._has_asked:  # most rows name the active key, which not every command asks for
            self._has_asked = True
            with suppress(KeyProviderError):
                await self._rings[0].active()
        page, self._page = self._page, ()
        parsed = (parse_row(row.data) for row in page)
        counts = Counter(found.kid for found in parsed if isinstance(found, Envelope))
        counts.update(wanted)
        answers = {}
        for kid, _ in counts.most_common():
            if self._may_ask({kid}) and _is_kid(kid) and kid not in self._said:
                answer = answers[kid] = await self._ask(kid)
                if not isinstance(answer, str):
                    self._found.add(kid)
                elif answer != "key_not_asked":
                    self._said[kid] = answer
                    if len(self._said) >= _MOST_KIDS:
                        self._left_s = 0.0
        return answers

    async def _ask(self, kid: str) -> _Secret | Outcome | NotOpened:
        """What the places say of a kid, in order up to the one that has it.

        Raises the error of one that does not answer, unless another one has the key.
        """
        answers: list[Outcome | NotOpened] = []
        silent: KeyUnavailableError | None = None
        for ring in self._rings:
            try:
                answer = await self._ask_place(ring, kid)
            except KeyUnavailableError as error:
                silent = silent or error
                continue
            if not isinstance(answer, str):
                self.refusals.pop(kid, None)  # of a place before
                return answer
            answers.append(answer)
        if silent is not None:
            raise silent
        return min(answers, key=_ORDER.index)

    async def _ask_place(self, ring: KeyRing, kid: str) -> _Secret | Outcome | NotOpened:
        """What one place says of a kid. What it takes is counted, unless it is a key."""
        tries = 1
        while True:
            deadline_s, began = ring.deadline_s, time.monotonic()
            wait_s = deadline_s if kid in self._found else min(self._left_s, deadline_s)
            try:
                answer = await self._answer(ring, kid, wait_s)
            except KeyUnavailableError as error:
                if wait_s < deadline_s and time.monotonic() - began >= wait_s:
                    self._left_s = 0.0  # no outage: what was left to wait was too little
                    return "key_not_asked"
                tries += 1
                await self._before_trying_again(error, tries)
            else:
                if isinstance(answer, str):
                    self._left_s = max(0.0, self._left_s - (time.monotonic() - began))
                return answer

    async def _answer(self, ring: KeyRing, kid: str, wait_s: float) -> _Secret | Outcome | NotOpened:
        async def ask(kid: str) -> _Secret:
            key = await ring.get(kid, asker=self._asker, wait_s=wait_s)
            return _Secret(key.secret, None if key.written_until is None else key.written_until.timestamp())

        try:
            return await answer_for(kid, self._upstream, ask)
        except (KeyAccessDeniedError, InvalidKeyError) as error:
            self.refusals[kid] = str(error)
            return "key_not_answered"

    async def _patiently(self, ask: Callable[[], Awaitable[Key]]) -> Key:
        tries = 1
        while True:
            try:
                return await ask()
            except KeyUnavailableError as error:
                tries += 1
                await self._before_trying_again(error, tries)

    async def _before_trying_again(self, error: KeyUnavailableError, tries: int) -> None:
        """Wait. Raises the error instead, when it was tried often enough."""
        if tries > _TRIES:
            raise error
        wait_s = _WAIT_S if error.retry_after_s is None else error.retry_after_s
        await wait(min(wait_s, _LONGEST_WAIT_S), self._stop)


def _is_kid(kid: str) -> bool:
    """Whether a place can be asked for it."""
    return parse_kid(kid) is not None

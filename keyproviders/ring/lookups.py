"""How often sources may be asked for keys that a ring does not hold: no thread, no lock, no I/O.

Kids stand in stored rows, so whoever writes to the store chooses what is asked for. A look-up takes
a token, and one that finds the key gives it back: good keys cost none, invented ones cost what
there is. Likewise a process without any key asks for the active one as often as its users want it,
and only failures cost.
"""

from __future__ import annotations

from ..errors import KeyNotFoundError, KeyUnavailableError
from .calls import copy_of
from .waiting import OneShotEvent

__all__ = ["ColdStart", "Lookups", "TokenBucket"]

_LOOKUP_BURST = 20
_LOOKUP_EVERY_S = 10.0
_MAX_NEGATIVE = 1_000
_COLD_START_BURST = 20
_COLD_START_EVERY_S = 1.0


class TokenBucket:
    """So many tokens at the start, and one more after each `every_s` seconds, up to as many."""

    def __init__(self, capacity: int, every_s: float) -> None:
        self._capacity = capacity
        self._every_s = every_s
        self._tokens = float(capacity)
        self._filled_at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Give a token back that was taken."""
        self._tokens = min(self._capacity, self._tokens + 1)

    def next_in_s(self, now: float) -> float:
        """Seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) * self._every_s)

    def _fill(self, now: float) -> None:
        if self._filled_at is None:
            self._filled_at = now
        elif now > self._filled_at:
            self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) / self._every_s)
            self._filled_at = now


class ColdStart:
    """The rate limit of a ring that has no key to write with, and the last failure: what counts beyond it."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(_COLD_START_BURST, _COLD_START_EVERY_S)
        self._error: BaseException | None = None

    def admit(self, now: float) -> None:
        """Take a token. Raises the last failure when there is none."""
        if not self._bucket.take(now) and self._error is not None:
            raise copy_of(self._error)

    def answered(self) -> None:
        """The source said which key is active."""
        self._bucket.give_back()

    def failed(self, error: BaseException) -> None:
        """It did not."""
        self._error = error


class Lookups:
    """The rate limit of look-ups, those in flight, and the negative cache: which kids were not found."""

    def __init__(self, label: str, negative_ttl_s: float) -> None:
        self._label = label
        self._bucket = TokenBucket(_LOOKUP_BURST, _LOOKUP_EVERY_S)
        self._negative_ttl_s = negative_ttl_s
        self._negative: dict[str, tuple[KeyNotFoundError, float]] = {}
        self._in_flight = 0
        #: Set when it is worth asking again for what was not admitted; another one then takes its place.
        self.ended = OneShotEvent()

    def admit(self, kid: str, now: float) -> bool:
        """Take a token for a look-up of this kid; False when it may be admitted once others have `ended`.

        Raises what the sources said of it, if that is recent enough or there is no token; or that
        it was not asked for.
        """
        error, at = self._negative.get(kid, (None, now))
        if error is None or now - at >= self._negative_ttl_s:
            if self._bucket.take(now):
                self._in_flight += 1
                return True
            if error is None and self._in_flight:
                return False
        raise self.not_asked(kid, now) if error is None else copy_of(error)

    def not_asked(self, kid: str, now: float) -> KeyUnavailableError:
        """The error for a kid that was not admitted."""
        wait_s = self._bucket.next_in_s(now)
        return KeyUnavailableError(
            f"{self._label} was not asked for {kid}: too many look-ups came back without a key;"
            f" the next one can go in {max(wait_s, 1):.0f} s",
            retry_after_s=wait_s,
        )

    def found(self, kid: str) -> OneShotEvent:
        """The look-up ended with the key; the event to set."""
        self._in_flight -= 1
        self._bucket.give_back()
        self._negative.pop(kid, None)
        return self._take_ended()

    def failed(self, kid: str, error: BaseException, now: float) -> OneShotEvent | None:
        """The look-up ended without a key; the event to set, if any.

        Only a source's own "no such key" is worth remembering.
        """
        self._in_flight -= 1
        if isinstance(error, KeyNotFoundError):
            self._negative.pop(kid, None)
            self._negative[kid] = (error, now)
            if len(self._negative) > _MAX_NEGATIVE:
                del self._negative[next(iter(self._negative))]
        return None if self._in_flight else self._take_ended()

    def forget_negative_entries(self) -> None:
        """Ask again for what was not found."""
        self._negative.clear()

    def after_fork(self) -> None:
        """Keep what is known; none is in flight here."""
        self._in_flight = 0
        self.ended = OneShotEvent()

    def _take_ended(self) -> OneShotEvent:
        ended, self.ended = self.ended, OneShotEvent()
        return ended

"""How often sources may be asked for keys that a ring does not hold, and in which order: no thread, no lock, no I/O.

Kids stand in stored rows, so whoever writes to the store chooses what is asked for. Each asker (a
session, a run of maintenance) has a queue of its own; they take turns, each with one call at a time.
A look-up takes a token, and one that finds the key gives it back: good keys cost none, and invented
ones in one session hold up another by no more than a turn. Likewise a process without any key asks
for the active one as often as its users want it, and only failures cost.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from math import inf

from .calls import NAMES, InFlightCall, copy_of

__all__ = ["ColdStart", "LookupQueue", "TokenBucket"]

_LOOKUP_BURST = 5
_LOOKUP_EVERY_S = 0.2
_LOOKUP_SLOTS = 2
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


class LookupQueue:
    """Look-ups that wait for their turn: round robin over askers, one call of each at a time, two in all."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(_LOOKUP_BURST, _LOOKUP_EVERY_S)
        # The asker that comes first is next. Of each call, how many wait for it.
        self._waiting: dict[Hashable, dict[InFlightCall, int]] = {}
        self._askers: dict[InFlightCall, set[Hashable]] = {}
        self._running: dict[InFlightCall, Hashable] = {}
        #: When another one may start, if it is only a token that lacks.
        self.next_at = inf

    def join(self, call: InFlightCall, asker: Hashable) -> None:
        """Somebody waits for this call, which has not started."""
        calls = self._waiting.setdefault(asker, {})
        calls[call] = calls.get(call, 0) + 1
        self._askers.setdefault(call, set()).add(asker)

    def leave(self, call: InFlightCall, asker: Hashable) -> bool:
        """Somebody no longer waits for a call; True if nobody does, and it is forgotten before it started."""
        calls = self._waiting.get(asker, {})
        if call not in calls:
            return False
        calls[call] -= 1
        if not calls[call]:
            self._askers[call].discard(asker)
            self._forget(call, asker)
        if self._askers[call]:
            return False
        del self._askers[call]
        return True

    def take(self, names: Container[str], now: float) -> InFlightCall | None:
        """The next call that may start, if any; none whose name is among those that are being asked for."""
        self.next_at = inf
        if len(self._running) >= _LOOKUP_SLOTS:
            return None
        call, asker = self._next(names)
        if call is None:
            return None
        # A reading of names takes none: there is one at a time, and it answers for all who wait.
        if call.question != NAMES and not self._bucket.take(now):
            self.next_at = now + self._bucket.next_in_s(now)
            return None
        self._running[call] = asker
        for one in self._askers.pop(call):
            self._forget(call, one)
        if asker in self._waiting:  # its next turn is after all others
            self._waiting[asker] = self._waiting.pop(asker)
        return call

    def release(self, call: InFlightCall, *, found: bool) -> None:
        """A call has come back."""
        if call in self._running:
            del self._running[call]
            if found:
                self._bucket.give_back()

    def clear(self) -> None:
        """Forget who waits. What runs keeps its slot until it comes back."""
        self._waiting.clear()
        self._askers.clear()
        self.next_at = inf

    def after_fork(self) -> None:
        """Nothing runs here."""
        self.clear()
        self._running.clear()

    def next_in_s(self, now: float) -> float:
        """Seconds until there is a token."""
        return self._bucket.next_in_s(now)

    def _next(self, names: Container[str]) -> tuple[InFlightCall | None, Hashable]:
        busy = set(self._running.values())
        for asker, calls in self._waiting.items():
            if asker not in busy:
                for call in calls:
                    if call.name not in names:
                        return call, asker
        return None, None

    def _forget(self, call: InFlightCall, asker: Hashable) -> None:
        calls = self._waiting[asker]
        del calls[call]
        if not calls:
            del self._waiting[asker]

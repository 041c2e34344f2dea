"""How often a place may be asked for kids that a ring does not hold: no thread, no lock, no I/O.

Kids stand in stored rows, so whoever writes to the store chooses what is asked for. A look-up takes
a permit, and a hit gives it back: good keys cost none, invented ones cost what there is.
"""

from __future__ import annotations

from ..errors import KeyNotFoundError

__all__ = ["Lookups", "Permits"]

_LOOKUP_PERMITS = 20
_LOOKUP_EVERY_S = 10.0
_REMEMBERED = 1_000


class Permits:
    """Some permits at the start, and one back after each ``every_s`` seconds, up to as many."""

    def __init__(self, most: int, every_s: float) -> None:
        self._most = most
        self._every_s = every_s
        self._left = float(most)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._fill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """Give one back that was taken."""
        self._left = min(self._most, self._left + 1)

    def next_in_s(self, now: float) -> float:
        """Seconds until there is one."""
        self._fill(now)
        return max(0.0, (1 - self._left) * self._every_s)

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._left = min(self._most, self._left + (now - self._at) / self._every_s)
        self._at = now


class Lookups:
    """Permits for look-ups, how many are under way, and which ended in "no such key"."""

    def __init__(self, miss_memory_s: float) -> None:
        self._permits = Permits(_LOOKUP_PERMITS, _LOOKUP_EVERY_S)
        self._miss_memory_s = miss_memory_s
        self._misses: dict[str, tuple[KeyNotFoundError, float]] = {}
        self.under_way = 0

    def recent_miss(self, kid: str, now: float) -> KeyNotFoundError | None:
        """What the place said about this kid a moment ago."""
        error, at = self._misses.get(kid, (None, now))
        return error if now - at < self._miss_memory_s else None

    def any_miss(self, kid: str) -> KeyNotFoundError | None:
        """What the place said about this kid at any time: what counts when it cannot be asked."""
        return self._misses.get(kid, (None,))[0]

    def begin(self, now: float) -> bool:
        """Take a permit for a look-up; False when there is none."""
        if not self._permits.take(now):
            return False
        self.under_way += 1
        return True

    def hit(self, kid: str) -> None:
        """The look-up found the key."""
        self.under_way -= 1
        self._permits.give_back()
        self._misses.pop(kid, None)

    def missed(self, kid: str, error: BaseException, now: float) -> None:
        """The look-up ended without a key. Only a place's own "no such key" is worth remembering."""
        self.under_way -= 1
        if isinstance(error, KeyNotFoundError):
            self._misses.pop(kid, None)
            self._misses[kid] = (error, now)
            if len(self._misses) > _REMEMBERED:
                del self._misses[next(iter(self._misses))]

    def next_permit_in_s(self, now: float) -> float:
        """Seconds until a look-up may begin."""
        return self._permits.next_in_s(now)

    def in_child(self) -> Lookups:
        """What a forked child goes on with: what is known, and none under way."""
        self.under_way = 0
        return self

    def forget_misses(self) -> None:
        """Ask again for what was not there."""
        self._misses.clear()

"""What a ring knows about its keys, and what it may do with that now: no thread, no lock, no I/O.

Time comes in as an argument, so every rule below can be read, and tested, by itself.

There are two kinds of questions: *which key is active?* and *which key has this kid?* For each one
that has been answered, `CacheEntry` has the last healthy answer and what has gone wrong since:

    not known ──answer──▶ fresh ──time──▶ due: asked again in the background, still used
                            ▲                │
                            └────answer──────┤
                                             ├─ unavailable, no key, bad setting: coasts until its
                                             │  limit, counted from the last healthy answer
                                             ├─ denied, not found: coasts for the grace as well,
                                             │  counted from the first denial; then dropped
                                             └─ disabled, destroyed: dropped at once

Only an answer moves `healthy_at` and forgets a denial. An error moves neither: it never extends
a clock.

Keys are told apart by their whole kid. A kid without a name stands for any key of its fingerprint,
and all keys of one fingerprint are the same bytes: another key that had it too would be refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from ..errors import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyUnavailableError,
)
from ..key import Key
from .events import Report, report_of
from .outage import OutageWatch
from .policies import CachePolicy

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["CacheEntry", "KeyCache"]

# The share of its freshness after which the active key is asked for again.
_REFRESH_FROM = 0.8
# Between two failed refreshes of the active key: at least this, and no more than the longest even
# if the source asks for it.
_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 60.0
# Between two failed refreshes of one older key. There may be a thousand of them.
_OLDER_PAUSE_S = 30.0
# A ring that nobody used for so long asks no more by itself.
_IDLE_S = 6 * 3600.0


class KeyLease:
    """Lives as long as a ring holds one key: the ring alone refers to it, and others only weakly."""

    __slots__ = ("__weakref__",)


class CacheEntry:
    """The last healthy answer to one question, and what has gone wrong since."""

    __slots__ = ("ask_at", "denied_since", "healthy_at", "key", "used_at")

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.healthy_at = now
        self.denied_since: float | None = None
        # Until then a use needs no thought: the key is good, and nothing is due.
        self.ask_at = now
        self.used_at = now

    def limit(self, stale_s: float, grace_s: float) -> float:
        """When this answer can no longer be used, as things are now."""
        denied = inf if self.denied_since is None else self.denied_since + grace_s
        return min(self.healthy_at + stale_s, denied)


class KeyCache:
    """The active key and the older ones, with their ages. Not safe for threads by itself.

    The methods that report a change return the events of it.
    """

    def __init__(
        self,
        policy: CachePolicy,
        label: str,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._policy = policy
        self._label = label
        self._event = partial(report_of, label)
        self._jitter = _jitter if jitter is None else jitter
        self._active: CacheEntry | None = None
        self._fresh_until = -inf
        self._stale_reported = False
        self._watch = OutageWatch(label)
        self._first_end: float | None = inf  # of the keys held; None when it is to be found anew
        self._older_not_before = -inf
        #: By the key's own kid; the active one is among them.
        self.by_kid: dict[str, CacheEntry] = {}
        # By the number that the fingerprint is: a text for each would take twice as much memory.
        self._by_fingerprint: dict[int, CacheEntry] = {}
        self._leases: dict[str, KeyLease] = {}  # by kid; most keys of a place that has many open nothing here
        self.healthy_at: float | None = None
        self.used_at = -inf

    def entry(self, kid: str) -> CacheEntry | None:
        """What is held under a kid: a key's own, or its fingerprint alone."""
        found = self.by_kid.get(kid)
        if found is not None or kid[:1] != "~":
            return found
        try:
            found = self._by_fingerprint.get(int(kid[1:], 16))
        except ValueError:
            return None
        return found if found is not None and found.key.kid.endswith(kid) else None  # not all that `int` reads

    # What may be used now.

    def writable(self, now: float) -> Key | None:
        """The active key, if writing with it is still allowed."""
        entry = self._active
        return entry.key if entry is not None and now < self._write_limit(entry) else None

    def readable(self, kid: str, now: float) -> Key | None:
        """The held key of that kid, if reading with it is still allowed."""
        entry = self.entry(kid)
        if entry is None or now >= self._read_limit(entry) or now >= self.all_until:
            return None
        entry.used_at = now
        return entry.key

    @property
    def all_until(self) -> float:
        """When all keys end, because the source refuses to say which one is active."""
        entry = self._active
        if entry is None or entry.denied_since is None:
            return inf
        return entry.denied_since + self._policy.denied_grace_s

    @property
    def kids(self) -> tuple[str, ...]:
        """The public ids of the keys that are held."""
        return tuple(self.by_kid)

    def held_as(self, fingerprint: str) -> str | None:
        """The public id under which a key of that fingerprint is held."""
        entry = self.entry(f"~{fingerprint}")
        return None if entry is None else entry.key.kid

    def lease(self, key: Key) -> KeyLease | None:
        """What lives as long as this key is held; None if it is not."""
        entry = self.by_kid.get(key.kid)
        if entry is None or not (entry.key is key or entry.key == key):
            return None
        lease = self._leases.get(key.kid)
        if lease is None:
            lease = self._leases[key.kid] = KeyLease()
        return lease

    def refusal(self, key: Key) -> InvalidKeyError | None:
        """Why a key cannot be held beside those that are: another one has its fingerprint."""
        from hmac import compare_digest  # noqa: PLC0415 - loads all of hashlib, and is needed once in minutes

        held = self.entry(f"~{key.fingerprint}")
        if held is None or compare_digest(held.key.secret, key.secret):
            return None
        return InvalidKeyError(
            f"{self._label} has two different keys with the same fingerprint, {held.key.kid} and {key.kid}, so a"
            " row could not say which of them it needs; the second one is refused: replace it with a new key"
        )

    @property
    def active_kid(self) -> str | None:
        """The public id of the key that was active when the source last said so."""
        return None if self._active is None else self._active.key.kid

    def active_age(self, now: float) -> float | None:
        """Seconds since the source last said which key is active."""
        return None if self._active is None else now - self._active.healthy_at

    def can_read(self, now: float) -> bool:
        """Whether any key is held that may be read with."""
        return now < self.all_until and any(now < self._read_limit(entry) for entry in self.by_kid.values())

    def confirmed_at(self, kid: str) -> float | None:
        """When a source last had the held key of that kid; None if it is not held."""
        entry = self.by_kid.get(kid)
        return None if entry is None else entry.healthy_at

    # For those who watch.

    def created_at(self) -> dict[str, datetime | None]:
        """When each key that is held was made, as far as its place says."""
        return {kid: entry.key.created_at for kid, entry in self.by_kid.items()}

    def is_resting(self, now: float) -> bool:
        """Whether nobody used the ring for so long that it asks no more by itself."""
        return now >= self.used_at + _IDLE_S

    # If nobody answers from now on.

    def writes_for(self, now: float) -> float:
        """Seconds for which writing goes on."""
        return max(0.0, self._writing_until() - now)

    def reads_for(self, now: float) -> float:
        """Seconds for which reading goes on with the key that is held the longest."""
        until = max((self._read_limit(entry) for entry in self.by_kid.values()), default=-inf)
        return max(0.0, min(until, self.all_until) - now)

    def is_overdue(self, now: float) -> bool:
        """Whether the active key is not confirmed in time, or was denied."""
        return now >= self._degraded_at()

    # What is due.

    def active_is_due(self, now: float) -> bool:
        """Whether the active key is to be asked for in the background."""
        return self._active is not None and now >= self._active.ask_at

    def key_is_due(self, kid: str, now: float) -> bool:
        """Whether a held key that was used now is to be asked for in the background."""
        entry = self.entry(kid)
        if entry is None or now < entry.ask_at:
            return False
        if now < self._older_not_before:
            self._schedule(entry, self._older_not_before)
            return False
        return True

    def must_ask_first(self, kid: str, now: float) -> Key | None:
        """The held key of that kid, if it was not used, nor confirmed, for so long that it is asked for before use."""
        entry = self.entry(kid)
        longest_s = self._policy.revalidate_s
        if entry is None or now - entry.used_at <= longest_s or now - entry.healthy_at <= longest_s:
            return None
        return entry.key if self.may_ask_for_older(now) else None

    def may_ask_for_older(self, now: float) -> bool:
        """Whether the source answers, as far as is known: a queue of questions ends when it does not."""
        return now >= self._older_not_before

    def write_valid_without_check_until(self, now: float) -> float:
        """Until when `writable` gives the same and nothing is due."""
        entry = self._active
        if entry is None:
            return -inf
        stale = inf if self._stale_reported else self._fresh_until
        return min(entry.ask_at, stale, self._write_limit(entry)) if self.writable(now) else -inf

    def wake_at(self, now: float) -> float:
        """When something is to be done that no use of the ring brings about."""
        refresh = inf
        if self._active is not None and not self.is_resting(now):
            refresh = self._active.ask_at
        return min(refresh, self.all_until, self._next_end(), self._next_outage_event())

    # What happened.

    def asking_for_active(self, now: float) -> None:
        """The question was put; it is not put again before it is answered or has failed."""
        if self._active is not None:
            self._active.ask_at = now + _PAUSE_S
            self._watch.asked(now)

    def asking_for_key(self, kid: str, now: float) -> None:
        """The same for a held key."""
        entry = self.entry(kid)
        if entry is not None:
            self._schedule(entry, now + _OLDER_PAUSE_S)

    def asked_first(self, kid: str, now: float, *, answered: bool) -> None:
        """A held key was asked for before it is used. Without an answer it is used all the same, and so are others."""
        entry = self.entry(kid)
        if entry is not None:
            entry.used_at = now
        if not answered:
            self._older_not_before = now + _PAUSE_S

    def put_active(self, key: Key, now: float) -> list[Report]:
        """The source said that this key is the active one."""
        self.healthy_at = now
        former = self._active
        replaced = self._replaced(key)
        news = self._watch.answered(key.kid, now)
        if former is not None and former.key.kid != key.kid:
            # How old its confirmation was before the source answered, the source alone knows: a key that
            # is asked for often may be confirmed from a copy, and from now on it is asked for seldom.
            self._schedule(self.by_kid[former.key.kid], now)
        entry = self._active = CacheEntry(key, now)
        fresh_s = self._policy.fresh_s * self._jitter()
        self._fresh_until = now + fresh_s
        self._stale_reported = False
        entry.ask_at = now + _REFRESH_FROM * fresh_s
        confirmed = self._put(key, now)
        if news:  # which says more than that the key is there
            confirmed[0].unlogged()
        return [*confirmed, *replaced, *news]

    def put(self, key: Key, now: float) -> list[Report]:
        """The source answered with this key, which is not necessarily active."""
        self.healthy_at = now
        return self._put(key, now)

    def active_failed(self, error: BaseException, now: float) -> list[Report]:
        """The source did not say which key is active."""
        entry = self._active
        if entry is None:
            cold = self._event(_kind(error), "it does not say which key is active", None, error)
            return [self._watch.once_a_minute("active", cold, now)]
        entry.ask_at = now + _pause(error)
        self._watch.failed(error, now)
        kid = entry.key.kid
        if isinstance(error, (KeyDisabledError, KeyDestroyedError)):
            self._active = None
            self._remove(kid)
            return [self._dropped(f"the active key {kid} is no longer held", kid, error)]
        if _is_denial(error):
            if entry.denied_since is None:
                entry.denied_since = now
            left_s = self.all_until - now
            text = f"all keys are held for {left_s:.0f} s more at most"
            denied = self._event("denied", text, None, error, seconds_left=left_s)
            return [self._watch.once_a_minute("active", denied, now)]
        left_s = self._write_limit(entry) - now
        if left_s > 0:
            text, level = f"writing continues with {kid} for {left_s:.0f} s at most", None
        else:
            text, level, left_s = "writing has ended", logging.ERROR, self.reads_for(now)
        failed = self._event("failed", text, kid, error, level=level, seconds_left=left_s)
        logged = self._watch.once_a_minute("active", failed, now)
        # The same turn may have more to tell, with the same reason.
        return [logged.unlogged() if now >= self._next_outage_event() else logged]

    def key_failed(self, kid: str, error: BaseException, now: float) -> list[Report]:
        """The source did not answer with that key."""
        entry = self.by_kid.get(kid)
        if entry is None:
            missed = self._event(_kind(error), f"no answer for {kid}", kid, error)
            # That there is no such key is told of each, and by no more than a line of information.
            is_answer = isinstance(error, KeyNotFoundError)
            return [missed if is_answer else self._watch.once_a_minute("look-ups", missed, now)]
        self._schedule(entry, now + _OLDER_PAUSE_S)
        if self.active_kid == kid and (_is_denial(error) or isinstance(error, (KeyDisabledError, KeyDestroyedError))):
            self._watch.failed(error, now)
        if isinstance(error, (KeyDisabledError, KeyDestroyedError)):
            if self.active_kid == kid:
                self._active = None
            self._remove(kid)
            return [self._dropped(f"{kid} is no longer held", kid, error)]
        if _is_denial(error):
            if entry.denied_since is None:
                entry.denied_since = now
                self._first_end = None
            self._schedule(entry, entry.ask_at)
            left_s = self._read_limit(entry) - now
            text = f"{kid} is held for {left_s:.0f} s more at most"
            denied = self._event("denied", text, kid, error, seconds_left=left_s)
            return [self._watch.once_a_minute(kid, denied, now)]
        self._older_not_before = now + _PAUSE_S
        left_s = self._read_limit(entry) - now
        text = f"reading continues with {kid} for {left_s:.0f} s at most"
        failed = self._event("failed", text, kid, error, seconds_left=left_s)
        # A place that is down is down for all of them.
        about = "older keys" if isinstance(error, KeyUnavailableError) else kid
        return [self._watch.once_a_minute(about, failed, now)]

    def served(self, now: float) -> list[Report]:
        """The active key was handed out."""
        if self._stale_reported or self._active is None or now < self._fresh_until:
            return []
        self._stale_reported = True
        kid, age_s = self._active.key.kid, now - self._active.healthy_at
        text = f"writing with {kid}, which was last confirmed {age_s:.0f} s ago"
        # The log has `degraded` instead, also where nobody writes.
        return [self._event("served stale", text, kid, seconds_left=self.writes_for(now)).unlogged()]

    def outage_events(self, now: float) -> list[Report]:
        """What is to be told of an outage by now, whether the ring is used or not."""
        if not self._watch.is_waiting:
            return []
        return self._watch.events(self._degraded_at(), self._writing_until(), now, self._is_denied, self.reads_for)

    def evict_expired(self, now: float) -> list[Report]:
        """Let go of everything whose time is over."""
        if now >= self.all_until:
            count = len(self.by_kid)
            self.clear()
            return [self._dropped(f"{count} keys are no longer held: access was refused repeatedly", None)]
        if now < self._next_end():
            return []
        over = [entry.key for entry in self.by_kid.values() if now >= self._read_limit(entry)]
        events = []
        for key in over:
            if self.active_kid == key.kid:
                self._active = None
            self._remove(key.kid)
            events.append(self._dropped(f"{key.kid} is no longer held: its time is over", key.kid))
        return events

    def clear(self) -> None:
        """Forget all keys."""
        self._active = None
        self.by_kid.clear()
        self._by_fingerprint.clear()
        self._leases.clear()
        self._first_end = inf

    def rejitter(self, now: float) -> None:
        """Draw the time of the next refresh anew: forked processes should not all ask at once."""
        self._watch.forget_questions()
        if self._active is not None and now < self._active.ask_at:
            self._active.ask_at = max(
                now, self._active.healthy_at + _REFRESH_FROM * self._policy.fresh_s * self._jitter()
            )

    # Inside.

    def _put(self, key: Key, now: float) -> list[Report]:
        kid, fingerprint = key.kid, _number(key)
        former = self.by_kid.get(kid)
        entry = CacheEntry(key, now)
        if former is not None:
            entry.used_at = former.used_at
        if self._by_fingerprint.get(fingerprint) in {None, former}:
            self._by_fingerprint[fingerprint] = entry
        self.by_kid[kid] = entry
        self._first_end = None
        self._schedule(entry, now + self._policy.revalidate_s)
        if former is not None:
            return [self._event("refreshed", f"{kid} is confirmed", kid)]
        return [self._event("fetched", f"{kid} is held", kid), *self._evict_least_used()]

    def _replaced(self, active: Key) -> list[Report]:
        if active.name is None or active.kid in self.by_kid:
            return []
        return [
            self._event(
                "replaced",
                f"the name {active.name!r} meant the key {held} and now means another one, {active.kid},"
                " which is active; add the former key under a name of its own, or what it sealed cannot be read",
                active.kid,
            )
            for held, entry in self.by_kid.items()
            if entry.key.name == active.name
        ]

    def _evict_least_used(self) -> Iterator[Report]:
        active = self.active_kid
        older = [entry for kid, entry in self.by_kid.items() if kid != active]
        if len(older) > self._policy.max_keys:
            least = min(older, key=lambda entry: entry.used_at).key
            self._remove(least.kid)
            yield self._dropped(f"{least.kid} was dropped to make room for another key", least.kid)

    def _remove(self, kid: str) -> None:
        entry = self.by_kid.pop(kid)
        self._leases.pop(kid, None)
        fingerprint = _number(entry.key)
        if self._by_fingerprint.get(fingerprint) is entry:
            # The same bytes may be held under another name.
            others = (one for one in self.by_kid.values() if _number(one.key) == fingerprint)
            other = next(others, None)
            if other is None:
                del self._by_fingerprint[fingerprint]
            else:
                self._by_fingerprint[fingerprint] = other
        self._first_end = None

    def _schedule(self, entry: CacheEntry, when: float) -> None:
        entry.ask_at = min(when, self._read_limit(entry))

    def _next_end(self) -> float:
        if self._first_end is None:
            self._first_end = min((self._read_limit(entry) for entry in self.by_kid.values()), default=inf)
        return self._first_end

    def _write_limit(self, entry: CacheEntry) -> float:
        return entry.limit(self._policy.stale_write_s, self._policy.denied_grace_s)

    def _read_limit(self, entry: CacheEntry) -> float:
        return entry.limit(self._policy.stale_read_s, self._policy.denied_grace_s)

    # When the active key ends, and what is told of it.

    def _is_denied(self) -> bool:
        active = self._active
        held = None if active is None else self.by_kid.get(active.key.kid)
        return any(entry is not None and entry.denied_since is not None for entry in (active, held))

    def _degraded_at(self) -> float:
        if self._active is None:
            return inf
        return -inf if self._is_denied() else self._fresh_until

    def _next_outage_event(self) -> float:
        if not self._watch.is_waiting:
            return inf
        return self._watch.next_at(self._degraded_at(), self._writing_until())

    def _writing_until(self) -> float:
        active = self._active
        if active is None:
            return -inf
        # Asked for by its name, it may have been denied as any other.
        held = self.by_kid.get(active.key.kid)
        return min(self._write_limit(active), inf if held is None else self._read_limit(held))

    def _dropped(self, message: str, kid: str | None, error: BaseException | None = None) -> Report:
        if self.by_kid:
            return self._event("dropped", message, kid, error)
        # With the last key reading ends too. That is an error, unless nobody used the ring for a day.
        level = logging.ERROR if self._watch.has_told else None
        return self._event("dropped", message, kid, error, level=level, seconds_left=0.0)


def _jitter() -> float:
    """Evenly from 0.9 to 1.1: a fleet that started in one moment should not ask in one."""
    return 0.9 + 0.2 * int.from_bytes(os.urandom(4), "big") / 2**32


def _number(key: Key) -> int:
    return int(key.fingerprint, 16)


def _is_denial(error: BaseException) -> bool:
    return isinstance(error, (KeyAccessDeniedError, KeyNotFoundError))


def _kind(error: BaseException) -> str:
    return "denied" if isinstance(error, KeyAccessDeniedError) else "failed"


def _pause(error: BaseException) -> float:
    asked = error.retry_after_s if isinstance(error, KeyUnavailableError) else None
    return min(max(asked or 0.0, _PAUSE_S), _LONGEST_PAUSE_S)

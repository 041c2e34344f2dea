"""What a ring decides, one look at a time.

    a flow that wants a key, the scheduler, a call that came back
                             │
                             ▼
    a turn, under the lock:  `cache` says whether a key may be used and whether something is due,
                             `names` whether the sources are known to lack a kid that is not held,
                             `calls` whether it is being asked already, and which call is next;
                             what a call brought goes to all three
                             │
                             ▼
    after it, lock free:     waiters go on, then calls start, then events are told, in the order of the turns
                             │
                             ▼
    a call, on a worker:     `retry` ──▶ `sources` (in order, answers checked) ──▶ a turn of its own

Locks: a turn may call the worker pool; the pool never calls into a turn while it has its own lock.
Nothing foreign (a provider, `on_event`, logging) is called under a lock, but for the clock.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from .._support.redaction import clear_frames
from ..errors import KeyNotAskedError, KeyProviderError, KeyUnavailableError
from ..key import Key
from . import call_hooks
from .cache import KeyCache
from .call_table import CallTable
from .calls import ACTIVE, NAMES, InFlightCall, copy_of
from .events import EventSink, Report
from .forks import survive_forks
from .lookups import ColdStart
from .names import KnownNames, Listing
from .policies import CachePolicy, RetryPolicy
from .retry import call_with_retry
from .sources import KeyLookup, KeySource
from .waiting import OneShotEvent
from .workers import WORKERS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LISTING", "Engine", "Turn"]

LISTING = object()  # whose turn it is when names are read, whoever wants them


class Turn:
    """One look at a ring under its lock, and what is to happen when the lock is free."""

    __slots__ = ("_engine", "events", "now", "resume", "start")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.now = 0.0
        self.resume: list[Callable[[], object]] = []  # who waited goes on, before anything else
        self.start: list[InFlightCall] = []
        self.events: list[Report] = []

    def __enter__(self) -> Self:
        self._engine.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.end(self)


class Engine:
    """The state of a ring, and all that changes it.

    A method that takes a turn is called in that turn. The worker pool and the fork hooks know an
    engine only weakly: it goes with its ring, or with the last call that runs for it.
    """

    def __init__(
        self,
        sources: Sequence[KeySource],
        *,
        cache: CachePolicy,
        retry: RetryPolicy,
        sink: EventSink,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.label = sources[0].label
        self.name = sink.ring
        self.deadline_s = retry.deadline_s
        self.lock = threading.RLock()
        self.clock = clock
        self.cache = KeyCache(cache, self.label)
        self.calls = CallTable()
        self.counts: Counter[str] = Counter()
        self.closed = False
        self.names = [KnownNames(source, cache.miss_memory_s, self.cache.confirmed_at) for source in sources]
        self.sources = sources
        self.workers = WORKERS
        self._retry = retry
        self._once = RetryPolicy(attempts=1)
        self._sink = sink
        self._sleep = sleep
        self._cold_start = ColdStart()
        self._idle = OneShotEvent()
        self._alarm_at = inf
        # What a use without a check goes by; each turn leaves it as it should be.
        self._write_key: Key | None = None
        self._write_key_until = -inf
        self._all_keys_until = inf
        survive_forks(self, Engine._before_fork, Engine._after_fork_in_parent, Engine._after_fork_in_child)

    # Without the lock: as long as there is nothing to decide.

    def active_without_check(self) -> Key | None:
        """The key to write with, or None when it takes a turn to say."""
        now = self.clock()
        if now >= self._write_key_until:
            return None
        self.cache.used_at = now
        return self._write_key

    def get_without_check(self, kid: str) -> Key | None:
        """The key of that kid, or None when it takes a turn to say."""
        try:
            entry = self.cache.by_kid.get(kid) or self.cache.entry(kid)
        except TypeError:  # no str, which is refused where there is time for it
            return None
        if entry is None:
            return None
        now = self.clock()
        if now >= entry.ask_at or now >= self._all_keys_until:
            return None
        entry.used_at = self.cache.used_at = now
        return entry.key

    # Turns.

    def turn(self) -> Turn:
        """For a `with` statement: one look under the lock."""
        return Turn(self)

    def begin(self, turn: Turn) -> None:
        """Take the lock, and see what time it is."""
        self.lock.acquire()
        try:
            turn.now = self.clock()
            if not self.closed:
                # What ends is told before what is let go of because of it.
                turn.events += self.cache.outage_events(turn.now)
            turn.events += self.cache.evict_expired(turn.now)
        except BaseException:  # a signal's, too: nobody else frees the lock
            self.lock.release()
            raise

    def end(self, turn: Turn) -> None:
        """Leave all as the next use should find it, free the lock, and carry out what the turn brought about."""
        try:
            now, cache = turn.now, self.cache
            if not self.closed:
                turn.events += cache.outage_events(now)
            self._write_key = cache.writable(now)
            self._write_key_until = -inf if self.closed else cache.write_valid_without_check_until(now)
            self._all_keys_until = cache.all_until
            self._set_alarm(now)
            for report in turn.events:
                self.counts[report.what] += 1
            self._sink.put(turn.events)
        finally:
            self.lock.release()
        for resume in turn.resume:
            resume()
        for call in turn.start:
            try:
                self.workers.submit(partial(self._run, call))
            except RuntimeError as error:
                self._resolve(call, None, KeyUnavailableError(f"no thread could be started for the call: {error}"))
        self._sink.tell()

    def _set_alarm(self, now: float) -> None:
        at = inf if self.closed else min(self.cache.wake_at(now), self.calls.lookups.next_at)
        if at == self._alarm_at:
            return
        self._alarm_at = at
        if at == inf:
            self.workers.forget(self)
        else:
            self.workers.wake_at(time.monotonic() + max(0.0, at - now), self, Engine._wake)

    def _wake(self) -> None:
        with self.turn() as turn:
            self._alarm_at = inf
            if not self.closed:
                self._refresh_if_due(turn)
                turn.start += self.calls.fill_slots(turn.now)

    # Under the lock: using a key.

    def use_active(self, turn: Turn) -> Key | None:
        """The key to write with, if one is held that still may be; it is refreshed when that is due."""
        self.refuse_if_closed()
        self.cache.used_at = turn.now
        key = self.cache.writable(turn.now)
        if key is not None:
            self._refresh_if_due(turn)
            turn.events += self.cache.served(turn.now)
        return key

    def use(self, turn: Turn, kid: str) -> Key | InFlightCall | None:
        """The held key of that kid, if it still may be read with; it is revalidated when that is due.

        Or the call to wait for, when the key was not used for so long that it is asked for first.
        """
        self.refuse_if_closed()
        self.cache.used_at = turn.now
        idle = self.cache.must_ask_first(kid, turn.now)
        if idle is not None:
            return self._revalidate(turn, idle, once=True)
        key = self.cache.readable(kid, turn.now)
        if key is not None and self.cache.key_is_due(kid, turn.now):
            self._revalidate(turn, key)
            self.cache.asking_for_key(kid, turn.now)
        return key

    def refuse_if_closed(self) -> None:
        """Raise if the ring is closed."""
        if self.closed:
            raise self._closed_error()

    # Under the lock: asking for a key.

    def ask_for_active(self, turn: Turn) -> InFlightCall:
        """The call that asks which key is active: the one in flight, or a new one."""
        return self._ask(turn, ACTIVE, self.sources[0].active)

    def look_up_active(self, turn: Turn) -> InFlightCall:
        """The same when no key is held, within the cold-start limit."""
        call = self.calls.get(ACTIVE)
        if call is None:
            self._cold_start.admit(turn.now)
            call = self.ask_for_active(turn)
        return call

    def lookup(self, turn: Turn, kid: str, name: str | None, fingerprint: str, *, listed: bool) -> KeyLookup:
        """How to ask for a kid that is not held. Raises KeyNotFoundError if the sources are known to lack it.

        `listed` says that those that list their names have done so since the kid was first wanted.
        """
        asked_for = name if name is not None else fingerprint
        known = [
            names.missing(asked_for, kid, turn.now, listed=listed, later=turn.resume.append) for names in self.names
        ]
        lookup = KeyLookup(self.sources, kid, name, fingerprint, known)
        refusal = lookup.refusal()
        if refusal is not None:
            raise copy_of(refusal)
        return lookup

    def look_up(self, turn: Turn, lookup: KeyLookup, asker: Hashable, *, listed: bool) -> InFlightCall:
        """The call for it, or one for the names that a source has, when that may save the other; joined for `asker`."""
        name = lookup.asked_for
        if not listed and any(self.names[at].needs_listing(name) for at in lookup.unanswered):
            return self.list_names(turn)
        return self._join(turn, self.calls.get(name) or self.calls.add_lookup(name, lookup, kid=lookup.kid), asker)

    def list_names(self, turn: Turn) -> InFlightCall:
        """The call that reads the names of those sources that list theirs, joined."""
        return self._join(turn, self.calls.get(NAMES) or self.calls.add_lookup(NAMES, Listing(self.sources)), LISTING)

    def _join(self, turn: Turn, call: InFlightCall, asker: Hashable) -> InFlightCall:
        self.calls.join(call, asker)
        turn.start += self.calls.fill_slots(turn.now)
        return call

    def not_asked(self, kid: str) -> KeyNotAskedError:
        """The error for a kid that was not asked for."""
        wait_s = self.calls.lookups.next_in_s(self.clock())
        return KeyNotAskedError(
            f"{self.label} was not asked for {kid}: too many look-ups of other keys that may not exist"
            " were queued before this one; try again",
            retry_after_s=wait_s,
        )

    def _revalidate(self, turn: Turn, key: Key, *, once: bool = False) -> InFlightCall:
        lookup = KeyLookup(self.sources, key.kid, key.name, key.fingerprint, was_held=True)
        return self._ask(turn, key.kid, lookup, kid=key.kid, name=lookup.asked_for, once=once)

    def _refresh_if_due(self, turn: Turn) -> None:
        if self.cache.active_is_due(turn.now):
            self.ask_for_active(turn)

    def _ask(
        self,
        turn: Turn,
        question: str,
        ask: Callable[[], Key],
        *,
        kid: str = "",
        name: str = "",
        once: bool = False,
    ) -> InFlightCall:
        call = self.calls.get(question)
        if call is None:
            call = self.calls.add(question, ask, kid=kid, name=name, once=once)
            if question == ACTIVE:
                self.cache.asking_for_active(turn.now)
            turn.start += self.calls.fill_slots(turn.now)
        return call

    # On a worker.

    def _run(self, call: InFlightCall) -> None:
        call.started_at = time.monotonic()
        key: Key | None = None
        error: BaseException | None = None
        if self._is_wanted(call):
            call_hooks.running(call)
            try:
                key = call_with_retry(
                    partial(self._attempt, call.ask),
                    self._once if call.once else self._retry,
                    clock=self.clock,
                    sleep=self._sleep,
                )
            except Exception as raised:  # noqa: BLE001 - it is raised where the waiters are
                error = raised
            except BaseException as raised:  # noqa: BLE001 - one that would end a waiter is not passed on
                error = RuntimeError(f"a provider raised {type(raised).__name__}")
        call_hooks.running(None)
        if error is not None:
            clear_frames(error)
        self._resolve(call, key, error)

    def _is_wanted(self, call: InFlightCall) -> bool:
        # Many older keys may fall due in an outage: those behind the first that failed are not asked.
        if call.is_lookup or call.question == ACTIVE:
            return True
        with self.lock:
            return self.cache.may_ask_for_older(self.clock())

    def _attempt(self, ask: Callable[[], Key | None]) -> Key | None:
        with self.lock:
            self.counts["calls"] += 1
        return ask()

    # Under the lock again: what a call brought.

    def _resolve(self, call: InFlightCall, key: Key | None, error: BaseException | None) -> None:
        with self.turn() as turn:
            if key is not None:
                error = self.cache.refusal(key)
                key = key if error is None else None
            if self.calls.release(call, found=key is not None):
                told = len(turn.events)
                if call.question == ACTIVE:
                    self._learn_active(turn, key, error)
                elif isinstance(call.ask, Listing):
                    for names, listed in zip(self.names, call.ask.found, strict=True):
                        names.put_listing(listed)
                else:
                    self._learn(turn, call, key, error)
                if len(turn.events) > told and call.started_at is not None:
                    turn.events[told].took_s = time.monotonic() - call.started_at
                turn.resume.append(partial(call.resolve, key, error))
            turn.start += self.calls.fill_slots(turn.now)
            if not self.calls.running:
                idle, self._idle = self._idle, OneShotEvent()
                turn.resume.append(idle.set)

    def _learn_active(self, turn: Turn, key: Key | None, error: BaseException | None) -> None:
        if key is not None:
            self._cold_start.answered()
            turn.events += self.cache.put_active(key, turn.now)
        elif error is not None:
            self._cold_start.failed(error)
            turn.events += self.cache.active_failed(error, turn.now)

    def _learn(self, turn: Turn, call: InFlightCall, key: Key | None, error: BaseException | None) -> None:
        if isinstance(call.ask, KeyLookup):
            # The key has the same name as a text of its own, which need not be kept twice.
            name = call.name if key is None or key.name != call.name else key.name
            for at, said in call.ask.said:
                self.names[at].remember(name, said, turn.now, is_held=key is not None and said == key.kid)
        if key is not None:
            turn.events += self.cache.put(key, turn.now)
        elif error is not None:
            turn.events += self.cache.key_failed(call.kid, error, turn.now)

    # Closing.

    def shut(self, turn: Turn) -> OneShotEvent | None:
        """Forget the keys and give up what is asked; what is set when the last running call is back, if any runs."""
        self.closed = True
        turn.events.clear()
        self.cache.clear()
        error = self._closed_error()
        turn.resume += [partial(call.resolve, None, error) for call in self.calls.give_up()]
        return self._idle if self.calls.running else None

    def _closed_error(self) -> KeyProviderError:
        return KeyProviderError(f"this ring of {self.label} is closed; make a new one")

    # Forks. The lock is taken before, so that no thread is in the middle of a turn.

    def _before_fork(self) -> None:
        self.lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for source in self.sources:
            source.after_fork()
        self.calls.after_fork()
        self._idle = OneShotEvent()
        self.counts.clear()
        self._sink.after_fork()
        self.cache.rejitter(self.clock())
        # The first use here takes a turn, which sets the alarm: a child that uses no key has no thread.
        self._alarm_at = inf
        self._write_key_until = -inf

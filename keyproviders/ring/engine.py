"""What a ring decides, one look at a time.

    a flow that wants a key, the scheduler, a call that came back
                             │
                             ▼
    a turn, under the lock:  `cache` says whether a key may be used and whether something is due,
                             `lookups` whether a kid that is not held may be asked for,
                             `calls` whether it is being asked already, and which call is next;
                             what a call brought goes to all three
                             │
                             ▼
    after it, lock free:     waiters go on, then calls start, then events are emitted
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
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from .._support.redaction import clear_frames
from ..errors import KeyProviderError, KeyUnavailableError
from ..key import Key
from .cache import KeyCache
from .calls import ACTIVE, CallTable, InFlightCall
from .events import EventSink, KeyEvent
from .forks import survive_forks
from .lookups import ColdStart, Lookups
from .policies import CachePolicy, RetryPolicy
from .retry import call_with_retry
from .sources import KeyLookup, KeySource
from .waiting import OneShotEvent
from .workers import WORKERS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Engine", "Turn"]


class Turn:
    """One look at a ring under its lock, and what is to happen when the lock is free."""

    __slots__ = ("_engine", "events", "now", "resume", "start")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.now = 0.0
        self.resume: list[Callable[[], object]] = []  # who waited goes on, before anything else
        self.start: list[InFlightCall] = []
        self.events: list[KeyEvent] = []

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
        self.deadline_s = retry.deadline_s
        self.lock = threading.RLock()
        self.clock = clock
        self.cache = KeyCache(cache, self.label)
        self.calls = CallTable()
        self.counts: Counter[str] = Counter()
        self.closed = False
        self.lookups = Lookups(self.label, cache.miss_memory_s)
        self.sources = sources
        self.workers = WORKERS
        self._retry = retry
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
            entry = self.cache.by_kid[kid]
        except (KeyError, TypeError):
            # Not held; or no str, which is refused where there is time for it.
            return None
        now = self.clock()
        if now >= entry.valid_without_check_until or now >= self._all_keys_until:
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
            turn.events += self.cache.evict_expired(turn.now)
        except BaseException:
            self.lock.release()
            raise

    def end(self, turn: Turn) -> None:
        """Leave all as the next use should find it, free the lock, and carry out what the turn brought about."""
        try:
            now, cache = turn.now, self.cache
            self._write_key = cache.writable(now)
            self._write_key_until = -inf if self.closed else cache.write_valid_without_check_until(now)
            self._all_keys_until = cache.all_until
            self._set_alarm(now)
            for event in turn.events:
                self.counts[event.what] += 1
        finally:
            self.lock.release()
        for resume in turn.resume:
            resume()
        for call in turn.start:
            try:
                self.workers.submit(partial(self._run, call))
            except RuntimeError as error:
                self._resolve(call, None, KeyUnavailableError(f"no thread could be started to ask: {error}"))
        for event in turn.events:
            self._sink.emit(event)

    def _set_alarm(self, now: float) -> None:
        at = inf if self.closed else self.cache.wake_at(now)
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

    def use(self, turn: Turn, fingerprint: str) -> Key | None:
        """The held key of that fingerprint, if it still may be read with; it is revalidated when that is due."""
        self.refuse_if_closed()
        self.cache.used_at = turn.now
        key = self.cache.readable(fingerprint, turn.now)
        if key is not None and self.cache.key_is_due(fingerprint, turn.now):
            lookup = KeyLookup(self.sources, key.name, fingerprint)
            self._ask(turn, key.kid, fingerprint, lookup, background=True)
            self.cache.asking_for_key(fingerprint, turn.now)
        return key

    def refuse_if_closed(self) -> None:
        """Raise if the ring is closed."""
        if self.closed:
            raise self._closed_error()

    # Under the lock: asking for a key.

    def ask_for_active(self, turn: Turn, *, background: bool = False) -> InFlightCall:
        """The call that asks which key is active: the one in flight, or a new one."""
        return self._ask(turn, ACTIVE, None, self.sources[0].active, background=background)

    def look_up_active(self, turn: Turn) -> InFlightCall:
        """The same when no key is held, within the cold-start limit."""
        call = self.calls.get(ACTIVE)
        if call is None:
            self._cold_start.admit(turn.now)
            call = self.ask_for_active(turn)
        return call

    def look_up(self, turn: Turn, kid: str, name: str | None, fingerprint: str) -> InFlightCall | OneShotEvent:
        """The call that asks for a kid that is not held, or, when none may start now, what to wait for."""
        call = self.calls.get(kid)
        if call is None:
            if not self.lookups.admit(kid, turn.now):
                return self.lookups.ended
            call = self._ask(turn, kid, fingerprint, KeyLookup(self.sources, name, fingerprint))
        return call

    def _refresh_if_due(self, turn: Turn) -> None:
        if self.cache.active_is_due(turn.now):
            self.ask_for_active(turn, background=True)

    def _ask(
        self, turn: Turn, question: str, fingerprint: str | None, ask: Callable[[], Key], *, background: bool = False
    ) -> InFlightCall:
        call = self.calls.get(question)
        if call is None:
            call = self.calls.add(question, fingerprint, ask, background=background)
            if question == ACTIVE:
                self.cache.asking_for_active(turn.now)
            turn.start += self.calls.fill_slots()
        return call

    # On a worker.

    def _run(self, call: InFlightCall) -> None:
        call.started_at = time.monotonic()
        key: Key | None = None
        error: BaseException | None = None
        if self._is_wanted(call):
            try:
                key = call_with_retry(
                    partial(self._attempt, call.ask), self._retry, clock=self.clock, sleep=self._sleep
                )
            except Exception as raised:  # noqa: BLE001 - it is raised where the waiters are
                error = raised
            except BaseException as raised:  # noqa: BLE001 - one that would end a waiter is not passed on
                error = RuntimeError(f"a provider raised {type(raised).__name__}")
        if error is not None:
            clear_frames(error)
        self._resolve(call, key, error)

    def _is_wanted(self, call: InFlightCall) -> bool:
        # Many older keys may fall due in an outage: those behind the first that failed are not asked.
        if not call.background or call.question == ACTIVE:
            return True
        with self.lock:
            return self.cache.may_ask_for_older(self.clock())

    def _attempt(self, ask: Callable[[], Key]) -> Key:
        with self.lock:
            self.counts["calls"] += 1
        return ask()

    # Under the lock again: what a call brought.

    def _resolve(self, call: InFlightCall, key: Key | None, error: BaseException | None) -> None:
        with self.turn() as turn:
            if self.calls.release(call):
                if call.question == ACTIVE:
                    self._learn_active(turn, key, error)
                else:
                    self._learn(turn, call, key, error)
                turn.resume.append(partial(call.resolve, key, error))
            turn.start += self.calls.fill_slots()
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
        kid, fingerprint = call.question, call.fingerprint or ""
        ended: OneShotEvent | None = None
        if key is not None:
            turn.events += self.cache.put(key, turn.now)
            if not call.background:
                ended = self.lookups.found(kid)
        elif error is not None:
            turn.events += self.cache.key_failed(kid, fingerprint, error, turn.now)
            if not call.background:
                ended = self.lookups.failed(kid, error, turn.now)
        if ended is not None:
            turn.resume.append(ended.set)

    # Closing.

    def shut(self, turn: Turn) -> OneShotEvent | None:
        """Forget the keys and give up what is asked; what is set when the last running call is back, if any runs."""
        self.closed = True
        turn.events.clear()
        self.cache.clear()
        error = self._closed_error()
        turn.resume += [partial(call.resolve, None, error) for call in self.calls.give_up()]
        turn.resume.append(self.lookups.ended.set)
        return self._idle if self.calls.running else None

    def _closed_error(self) -> KeyProviderError:
        return KeyProviderError(f"this ring of {self.label} is closed; make another one")

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
        self.lookups.after_fork()
        self._idle = OneShotEvent()
        self.counts.clear()
        self.cache.rejitter(self.clock())
        # The first use here takes a turn, which sets the alarm: a child that uses no key has no thread.
        self._alarm_at = inf
        self._write_key_until = -inf

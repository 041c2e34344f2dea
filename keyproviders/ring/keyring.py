"""A ring of keys: reads coast, writes expire.

How a question goes its way:

    active(), get(kid) ──▶ quiet? ──yes──▶ the key, at once: no lock, no thread, no I/O
                             │no
                             ▼
                 a turn, under the ring's lock: ``holding`` says whether a key may be used and
                 whether something is due, ``lookups`` whether a kid that is not held may be asked for
                             │
               ┌─────────────┼──────────────────────────────┐
               ▼             ▼                              ▼
        a key in hand   none in hand: join the flight    no permit: a remembered answer, or wait
        (and perhaps    for it, or begin one, and wait   for one that another look-up gives back,
        a flight in                                      or "not asked"
        the background)
                             │
    flight: a ``crew`` thread ──▶ ``retry`` ──▶ ``asking`` (places in order, answers checked)
                             │
                             ▼
                 landing, again a turn: ``holding`` learns the answer or the failure, ``lookups`` the
                 hit or the miss; then the waiters go on, then the events are told

The ring's own timer is another way into a turn, with nobody waiting. Locks: a turn may call the
crew, the crew never calls into a turn while it has its own lock. Nothing foreign (a provider,
``on_event``, logging) is called under a lock.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

from .._support.clock import AgeClock
from .._support.redaction import clear_frames, redact_frames
from ..errors import KeyNotFoundError, KeyProviderError, KeyUnavailableError
from ..key import Key, parse_kid
from ..local import StaticKeyProvider
from ..provider import KeyProvider
from ..registry import open_provider
from .cache import Holding
from .calls import Flight, Signal, Steps, copy_of, take_steps, take_steps_async
from .events import LEVELS, KeyEvent, Teller, log
from .lookups import Lookups, Permits
from .policies import CachePolicy, RetryPolicy
from .retry import call_with_retry
from .sources import Place, Search
from .workers import CREW, survive_forks

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["KeyRing", "RingHealth"]

_ACTIVE = ""  # no kid is empty, so this can stand for "the active key" among kids
_MOST_CALLS = 4
_CLOSE_S = 3.0
_CLOCKS_S = 60.0  # so far apart the clocks of a fleet may be
# A process without any key asks as often as its callers want one, so this is what keeps a busy one
# from flooding a place that refuses: so many failures at once, and one more each second.
_COLD_PERMITS = 20
_COLD_EVERY_S = 1.0

_CACHE = CachePolicy()
_RETRY = RetryPolicy()


class RingHealth(NamedTuple):
    """What a ring could do now, without asking anybody.

    ``can_read``: a key is held that may be read with. ``can_write``: the active one may be written
    with. ``last_healthy_s``: seconds since any real answer came, None if none ever did. ``held``:
    the public ids of the keys in hand. ``counts``: how often what happened since the ring was made
    (or since the fork): ``calls`` to the places, each kind of event, ``waiting`` flights now.
    ``stuck``: calls that take longer than the deadline, in words.
    """

    can_read: bool
    can_write: bool
    last_healthy_s: float | None
    held: tuple[str, ...]
    counts: dict[str, int]
    stuck: tuple[str, ...]


class _Turn:
    """One look at the ring under its lock. What it brings about happens after the lock is free."""

    __slots__ = ("_ring", "events", "flights", "now", "then")

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self.events: list[KeyEvent] = []
        self.flights: list[Flight] = []
        self.then: list[Callable[[], object]] = []  # who waited goes on, before anything else
        self.now = 0.0

    def __enter__(self) -> Self:
        self._ring._lock.acquire()  # noqa: SLF001 - a part of the ring
        self.now = self._ring._clock()  # noqa: SLF001 - likewise
        self.events += self._ring._holding.settle(self.now)  # noqa: SLF001 - likewise
        return self

    def __exit__(self, *_: object) -> None:
        self._ring._end_turn(self)  # noqa: SLF001 - likewise


class KeyRing:
    """Keys in front of one provider, for any number of sessions, threads and event loops.

    ``KeyRing(provider)`` or ``KeyRing.from_url("env:SESSION_KEYS")``. Nothing is asked before the
    first use. ``await ring.active()`` is the key to encrypt with, ``await ring.get(kid)`` the key
    of that public id; ``active_sync()`` and ``get_sync()`` are the same without an event loop. With
    a usable key in hand no call waits on the provider.

    ``also_read`` takes URLs or providers, which are asked in order for kids that the first one does
    not have. ``cache`` and ``retry`` are the numbers that the ring goes by. ``on_event`` is called
    with a ``KeyEvent`` each time something happens to a key. ``clock`` gives the seconds by which
    keys age, ``sleep`` waits between attempts.

    ``async with`` fetches the active key first, and closes the ring. A ring cannot be pickled.
    """

    @redact_frames
    def __init__(
        self,
        provider: KeyProvider,
        *,
        also_read: Iterable[KeyProvider | str] = (),
        cache: CachePolicy = _CACHE,
        retry: RetryPolicy = _RETRY,
        on_event: Callable[[KeyEvent], object] | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if isinstance(also_read, str) or not isinstance(also_read, Iterable):
            raise TypeError(f"also_read must be a list of URLs or providers, not {type(also_read).__name__}")
        places = [_checked_provider(provider, "provider")]
        places += [
            open_provider(one) if isinstance(one, str) else _checked_provider(one, "also_read") for one in also_read
        ]
        self._cache = _checked_policy(cache, CachePolicy, "cache")
        asks_every_s = (cache.fresh_s, cache.revalidate_s)
        self._places = [Place(places[0], asks_every_s, writes_for_s=cache.fresh_s + cache.stale_write_s + _CLOCKS_S)]
        self._places += [Place(one, asks_every_s) for one in places[1:]]
        self._retry = _checked_policy(retry, RetryPolicy, "retry")
        self._teller = Teller(on_event)
        self._clock = AgeClock() if clock is None else _checked_callable(clock, "clock")
        self._sleep = _checked_callable(sleep, "sleep")
        self._crew = CREW
        self._lock = threading.RLock()
        self._holding = Holding(cache, self._places[0].words)
        self._lookups = Lookups(cache.miss_memory_s)
        self._cold = Permits(_COLD_PERMITS, _COLD_EVERY_S)
        self._cold_error: BaseException | None = None
        self._flights: dict[str, Flight] = {}
        self._queue: deque[Flight] = deque()
        self._running: set[Flight] = set()
        self._numbered = 0
        self._permit_back = Signal()
        self._landed_all = Signal()
        self._counts: Counter[str] = Counter()
        self._wake_at = inf
        self._closed = False
        # Until then ``active()`` needs no thought.
        self._write_until = -inf
        self._write_key: Key | None = None
        self._read_until = inf
        survive_forks(self, KeyRing._before_fork, KeyRing._after_fork_in_parent, KeyRing._after_fork_in_child)

    @classmethod
    @redact_frames
    def from_url(
        cls,
        url: str,
        *,
        allow_insecure: bool = False,
        also_read: Iterable[KeyProvider | str] = (),
        cache: CachePolicy = _CACHE,
        retry: RetryPolicy = _RETRY,
        on_event: Callable[[KeyEvent], object] | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """A ring over the provider of ``url``. No I/O happens yet."""
        return cls(
            open_provider(url, allow_insecure=allow_insecure),
            also_read=also_read,
            cache=cache,
            retry=retry,
            on_event=on_event,
            clock=clock,
            sleep=sleep,
        )

    @classmethod
    def ephemeral(cls) -> Self:
        """A ring with a random key that is gone with the process: for notebooks and tests."""
        return cls(StaticKeyProvider(Key.generate("ephemeral")))

    # Keys.

    async def active(self) -> Key:
        """The key to encrypt with now.

        Raises from the tree of KeyProviderError when there is none that may be used.
        """
        key = self._quiet_active()
        return await take_steps_async(self._finding_active(), self._retry.deadline_s) if key is None else key

    def active_sync(self) -> Key:
        """The same as ``active()``, for code without an event loop."""
        key = self._quiet_active()
        return take_steps(self._finding_active(), self._retry.deadline_s) if key is None else key

    async def get(self, kid: str) -> Key:
        """The key of that public id.

        Raises KeyNotFoundError (or one of its kinds) when the places answered that they have none,
        and another error of the tree when they did not answer.
        """
        key = self._quiet_get(kid)
        return await take_steps_async(self._finding(kid), self._retry.deadline_s) if key is None else key

    def get_sync(self, kid: str) -> Key:
        """The same as ``get()``, for code without an event loop."""
        key = self._quiet_get(kid)
        return take_steps(self._finding(kid), self._retry.deadline_s) if key is None else key

    async def refresh(self) -> Key:
        """Ask now which key is active, hold what comes back, and forget which keys were not found.

        Raises what the provider raises; keys in hand are then held on as in any failure.
        """
        return await take_steps_async(self._refreshing(), 2 * self._retry.deadline_s)

    def health(self) -> RingHealth:
        """What the ring holds and could do now. No I/O, and no waiting."""
        with self._lock:
            now = self._clock()
            healthy_at = self._holding.healthy_at
            return RingHealth(
                can_read=self._holding.can_read(now),
                can_write=self._holding.to_write(now) is not None,
                last_healthy_s=None if healthy_at is None else now - healthy_at,
                held=self._holding.kids,
                counts={"calls": 0, **dict.fromkeys(LEVELS, 0), **self._counts, "waiting": len(self._flights)},
                stuck=tuple(self._in_words(self._stuck())),
            )

    # The end.

    async def aclose(self) -> None:
        """Close the ring: the same as ``close()``, without blocking the event loop."""
        await take_steps_async(self._closing(), _CLOSE_S)

    def close(self) -> None:
        """Forget the keys, end what is under way, and close the providers.

        It waits for calls under way for at most 3 s and names in the log those that it leaves.
        Later uses of the ring raise KeyProviderError; closing again does nothing.
        """
        take_steps(self._closing(), _CLOSE_S)

    async def __aenter__(self) -> Self:
        await self.active()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        kid = self._holding.active_kid
        state = "closed" if self._closed else f"active {kid}" if kid else "nothing fetched yet"
        return f"<KeyRing of {self._places[0].words}: {state}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyRing cannot be pickled: it holds keys; make one in the other process, from the same URL")

    # The short way: nothing to think about, nothing to wait for.

    def _quiet_active(self) -> Key | None:
        now = self._clock()
        if now >= self._write_until:
            return None
        self._holding.used_at = now
        return self._write_key

    def _quiet_get(self, kid: str) -> Key | None:
        try:
            known = self._holding.by_kid[kid]
        except (KeyError, TypeError):
            # Not held; or no str, which the long way refuses.
            return None
        now = self._clock()
        if now >= known.quiet_until or now >= self._read_until:
            return None
        known.used_at = self._holding.used_at = now
        return known.key

    # The long way, in steps.

    def _finding_active(self) -> Steps[Key]:
        with self._turn() as turn:
            self._refuse_if_closed()
            self._holding.used_at = turn.now
            key = self._holding.to_write(turn.now)
            flight = None
            if key is None:
                age_s = self._holding.active_age(turn.now)
                flight = self._cold_flight(turn)
            else:
                self._refresh_if_due(turn)
                turn.events += self._holding.served(turn.now)
        if flight is None:
            assert key is not None  # noqa: S101 - one of the two is there
            return key
        yield from self._awaiting(flight)
        try:
            return flight.result()
        except KeyProviderError as error:
            if age_s is not None:
                error.args = (
                    f"{error} (the key that was active was last confirmed {age_s:.0f} s ago: too long to write)",
                )
            raise

    def _finding(self, kid: str) -> Steps[Key]:
        parts = parse_kid(kid)
        if parts is None:
            raise KeyNotFoundError(
                f"{kid[:128]!r} is no public id of a key (name~fingerprint), so no place was asked for it"
            )
        while True:
            with self._turn() as turn:
                self._refuse_if_closed()
                self._holding.used_at = turn.now
                key = self._holding.to_read(parts[1], turn.now)
                if key is not None:
                    self._revalidate_if_due(turn, key)
                    return key
                step = self._flights.get(kid) or self._look_up(turn, kid, parts)
            if isinstance(step, Flight):
                yield from self._awaiting(step)
                return step.result()
            yield step
            if not step.is_set():
                raise self._not_asked(kid, turn.now)

    def _refreshing(self) -> Steps[Key]:
        with self._turn():
            self._refuse_if_closed()
            self._lookups.forget_misses()
            before = self._numbered
        while True:
            with self._turn() as turn:
                self._refuse_if_closed()
                flight = self._begin(turn, _ACTIVE, None, self._places[0].active)
            yield from self._awaiting(flight)
            # One that was under way before may have asked before what is to be noticed happened.
            if flight.number > before:
                return flight.result()

    def _awaiting(self, flight: Flight) -> Steps[None]:
        if flight.age_s() < self._retry.deadline_s:
            yield flight.landed
        if not flight.landed.is_set():
            what = "which key is active" if flight.what == _ACTIVE else f"for {flight.what}"
            raise KeyUnavailableError(
                f"{self._places[0].words} was asked {what} and did not answer within {self._retry.deadline_s:g} s;"
                " the call goes on, and its answer will be held when it comes"
            )

    # Under the lock: what to ask for.

    def _cold_flight(self, turn: _Turn) -> Flight:
        flight = self._flights.get(_ACTIVE)
        if flight is not None:
            return flight
        if not self._cold.take(turn.now) and self._cold_error is not None:
            raise copy_of(self._cold_error)
        return self._begin(turn, _ACTIVE, None, self._places[0].active)

    def _refresh_if_due(self, turn: _Turn) -> None:
        if self._holding.active_is_due(turn.now):
            self._begin(turn, _ACTIVE, None, self._places[0].active, background=True)

    def _revalidate_if_due(self, turn: _Turn, key: Key) -> None:
        if self._holding.key_is_due(key.fingerprint, turn.now):
            search = Search(self._places, key.name, key.fingerprint)
            self._begin(turn, key.kid, key.fingerprint, search, background=True)
            self._holding.asking_for_key(key.fingerprint, turn.now)

    def _look_up(self, turn: _Turn, kid: str, parts: tuple[str | None, str]) -> Flight | Signal:
        miss = self._lookups.recent_miss(kid, turn.now)
        if miss is not None:
            raise copy_of(miss)
        if self._lookups.begin(turn.now):
            return self._begin(turn, kid, parts[1], Search(self._places, *parts))
        miss = self._lookups.any_miss(kid)
        if miss is not None:
            raise copy_of(miss)
        if self._lookups.under_way:
            return self._permit_back
        raise self._not_asked(kid, turn.now)

    def _not_asked(self, kid: str, now: float) -> KeyUnavailableError:
        wait_s = self._lookups.next_permit_in_s(now)
        return KeyUnavailableError(
            f"{self._places[0].words} was not asked for {kid}: too many look-ups came back without a key;"
            f" the next one can go in {max(wait_s, 1):.0f} s",
            retry_after_s=wait_s,
        )

    def _begin(
        self, turn: _Turn, what: str, fingerprint: str | None, ask: Callable[[], Key], *, background: bool = False
    ) -> Flight:
        flight = self._flights.get(what)
        if flight is not None:
            return flight
        self._numbered += 1
        flight = self._flights[what] = Flight(self._numbered, what, fingerprint, ask, background=background)
        if what == _ACTIVE:
            self._holding.asking_for_active(turn.now)
            self._queue.appendleft(flight)
        else:
            self._queue.append(flight)
        self._depart(turn)
        return flight

    def _depart(self, turn: _Turn) -> None:
        names = {flight.name for flight in self._running}
        for flight in list(self._queue):
            if len(self._running) == _MOST_CALLS:
                return
            if flight.name not in names:  # one call at a time for each name, whatever the fingerprint
                names.add(flight.name)
                self._queue.remove(flight)
                self._running.add(flight)
                turn.flights.append(flight)

    # Turns.

    def _turn(self) -> _Turn:
        return _Turn(self)

    def _end_turn(self, turn: _Turn) -> None:
        now, holding = turn.now, self._holding
        self._write_key = holding.to_write(now)
        self._write_until = -inf if self._closed else holding.write_quiet_until(now)
        self._read_until = holding.all_until
        self._set_timer(now)
        for event in turn.events:
            self._counts[event.what] += 1
        self._lock.release()
        for go_on in turn.then:
            go_on()
        for flight in turn.flights:
            try:
                self._crew.submit(partial(self._fly, flight))
            except RuntimeError as error:
                self._land(flight, None, KeyUnavailableError(f"no thread could be started to ask: {error}"))
        for event in turn.events:
            self._teller.tell(event)

    def _set_timer(self, now: float) -> None:
        wake_at = inf if self._closed else self._holding.wake_at(now)
        if wake_at == self._wake_at:
            return
        self._wake_at = wake_at
        if wake_at == inf:
            self._crew.forget(self)
        else:
            self._crew.wake_at(time.monotonic() + max(0.0, wake_at - now), self, KeyRing._wake)

    def _wake(self) -> None:
        """The timer's turn."""
        with self._turn() as turn:
            self._wake_at = inf
            if not self._closed:
                self._refresh_if_due(turn)

    # On a thread of the crew.

    def _fly(self, flight: Flight) -> None:
        flight.begun_at = time.monotonic()
        key: Key | None = None
        error: BaseException | None = None
        if self._is_wanted(flight):
            try:
                key = call_with_retry(
                    partial(self._call, flight.ask), self._retry, clock=self._clock, sleep=self._sleep
                )
            except Exception as raised:  # noqa: BLE001 - it is raised where the waiters are
                error = raised
            except BaseException as raised:  # noqa: BLE001 - one that would end a waiter is not passed on
                error = RuntimeError(f"a provider raised {type(raised).__name__}")
        if error is not None:
            clear_frames(error)
        self._land(flight, key, error)

    def _is_wanted(self, flight: Flight) -> bool:
        # Many older keys may fall due in an outage: those behind the first that failed are not asked.
        if not flight.background or flight.what == _ACTIVE:
            return True
        with self._lock:
            return self._holding.may_ask_for_older(self._clock())

    def _call(self, ask: Callable[[], Key]) -> Key:
        with self._lock:
            self._counts["calls"] += 1
        return ask()

    def _land(self, flight: Flight, key: Key | None, error: BaseException | None) -> None:
        with self._turn() as turn:
            self._running.discard(flight)
            if self._flights.get(flight.what) is flight:
                del self._flights[flight.what]
                if flight.what == _ACTIVE:
                    self._learn_active(turn, key, error)
                elif key is not None or error is not None:
                    self._learn(turn, flight, key, error)
            self._depart(turn)
            if not self._running:
                landed_all, self._landed_all = self._landed_all, Signal()
                turn.then.append(landed_all.set)
            turn.then.append(partial(flight.land, key, error))

    def _learn_active(self, turn: _Turn, key: Key | None, error: BaseException | None) -> None:
        if key is not None:
            self._cold.give_back()
            turn.events += self._holding.active_is(key, turn.now)
        elif error is not None:
            self._cold_error = error
            turn.events += self._holding.active_failed(error, turn.now)

    def _learn(self, turn: _Turn, flight: Flight, key: Key | None, error: BaseException | None) -> None:
        kid, fingerprint = flight.what, flight.fingerprint or ""
        looked_up = not flight.background
        if key is not None:
            turn.events += self._holding.key_is(key, turn.now)
            if looked_up:
                self._lookups.hit(kid)
        elif error is not None:
            turn.events += self._holding.key_failed(kid, fingerprint, error, turn.now)
            if looked_up:
                self._lookups.missed(kid, error, turn.now)
        if looked_up and (key is not None or not self._lookups.under_way):
            permit_back, self._permit_back = self._permit_back, Signal()
            turn.then.append(permit_back.set)

    # Closing.

    def _closing(self) -> Steps[None]:
        with self._turn() as turn:
            if self._closed:
                return
            self._closed = True
            turn.events.clear()
            self._holding.clear()
            given_up = list(self._flights.values())
            self._flights.clear()
            self._queue.clear()
            running = bool(self._running)
            landed_all = self._landed_all
            permit_back = self._permit_back
        closed = self._is_closed()
        for flight in given_up:
            flight.land(None, closed)
        permit_back.set()
        if running:
            yield landed_all
        if any(place.closes for place in self._places):
            closing = Signal()
            try:
                self._crew.submit(partial(self._close_places, closing))
            except RuntimeError:
                # The interpreter is ending. It closes connections by itself, and never waits.
                closing.set()
            yield closing
            if not closing.is_set():
                log.warning("%s: close() left the provider's own close() under way", self._places[0].words)
        with self._lock:
            left = self._in_words(list(self._running))
        if left:
            log.warning("%s: close() left calls under way: %s", self._places[0].words, "; ".join(left))
        self._crew.rest()

    def _close_places(self, closing: Signal) -> None:
        for place in self._places:
            place.close()
        closing.set()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise self._is_closed()

    def _is_closed(self) -> KeyProviderError:
        return KeyProviderError(f"this ring of {self._places[0].words} is closed; make another one")

    def _stuck(self) -> list[Flight]:
        return [flight for flight in self._running if flight.age_s() > self._retry.deadline_s]

    def _in_words(self, flights: list[Flight]) -> list[str]:
        return [
            f"{'active()' if flight.what == _ACTIVE else flight.what} for {flight.age_s():.0f} s" for flight in flights
        ]

    # Forks. The lock is taken before, so that no thread is in the middle of a turn.

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        for place in self._places:
            place.after_fork()
        # Whatever was under way is so in the parent; here nobody will ever land it.
        self._flights.clear()
        self._queue.clear()
        self._running.clear()
        self._lookups = self._lookups.in_child()
        self._permit_back = Signal()
        self._landed_all = Signal()
        self._counts.clear()
        self._holding.spread(self._clock())
        # The first use here takes a turn, which sets the timer: a child that uses no key has no thread.
        self._wake_at = inf
        self._write_until = -inf


def _checked_provider(provider: object, argument: str) -> KeyProvider:
    if isinstance(provider, str):
        raise TypeError(f"{argument} must be a provider, not a str; KeyRing.from_url() takes a URL")
    if isinstance(provider, type):
        raise TypeError(f"{argument} must be a provider, not the class {provider.__name__} itself; make one of it")
    if not isinstance(provider, KeyProvider):
        raise TypeError(f"{argument} must have active() and get(name), which {type(provider).__name__} lacks")
    return provider


_Callable = TypeVar("_Callable", bound="Callable[..., object]")


def _checked_callable(given: _Callable, argument: str) -> _Callable:
    if not callable(given):
        raise TypeError(f"{argument} must be callable, not {type(given).__name__}")
    return given


_Policy = TypeVar("_Policy", CachePolicy, RetryPolicy)


def _checked_policy(policy: _Policy, kind: type[_Policy], argument: str) -> _Policy:
    if not isinstance(policy, kind):
        raise TypeError(f"{argument} must be a {kind.__name__}, not {type(policy).__name__}")
    return policy

"""A ring of keys: what it has is at hand at once, and what it has not is asked for once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

from .asking import Search, ask_active, place_of
from .errors import KeyNotFoundError, KeyProviderError, KeyUnavailableError
from .events import KeyEvent, Teller
from .local import StaticKeyProvider
from .policies import CachePolicy, RetryPolicy
from .provider import Key, KeyProvider, parse_kid
from .redaction import redact_frames
from .registry import open_provider
from .retry import call_with_retry

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["KeyRing", "RingHealth"]

_CACHE = CachePolicy()
_RETRY = RetryPolicy()

_ACTIVE = ""  # no kid is empty, so this can stand for "the active key" among kids


class RingHealth(NamedTuple):
    """What a ring could do now, without asking anybody."""

    can_read: bool
    can_write: bool
    last_healthy_s: float | None
    held: tuple[str, ...]
    counts: dict[str, int]
    stuck: tuple[str, ...]


class KeyRing:
    """Keys in front of one provider, for any number of sessions, threads and event loops.

    ``KeyRing(provider)`` or ``KeyRing.from_url("env:SESSION_KEYS")``. Nothing is asked before the
    first use. ``await ring.active()`` is the key to encrypt with, ``await ring.get(kid)`` the key
    of that public id; ``active_sync()`` and ``get_sync()`` are the same without an event loop.

    ``also_read`` takes URLs or providers, which are asked in order for kids that the first one does
    not have. ``async with`` fetches the active key first, and closes the ring.
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
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if isinstance(also_read, str):
            raise TypeError("also_read must be a list of URLs or providers, not a str")
        self._provider = _checked_provider(provider, "provider")
        self._places = (
            self._provider,
            *(open_provider(one) if isinstance(one, str) else _checked_provider(one, "also_read") for one in also_read),
        )
        self._cache = _checked_policy(cache, CachePolicy, "cache")
        self._retry = _checked_policy(retry, RetryPolicy, "retry")
        self._teller = Teller(place_of(provider), on_event)
        self._clock = _checked_callable(clock, "clock")
        self._sleep = _checked_callable(sleep, "sleep")
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Key]] = {}
        self._active: Key | None = None
        self._by_fingerprint: dict[str, Key] = {}
        self._healthy_at: float | None = None
        self._counts = {"calls": 0, "fetched": 0, "failed": 0}
        self._closed = False

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
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> KeyRing:
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
    def ephemeral(cls) -> KeyRing:
        """A ring with a random key that is gone with the process: for notebooks and tests."""
        return cls(StaticKeyProvider(Key.generate("ephemeral")))

    async def active(self) -> Key:
        """The key to encrypt with now."""
        held = self._active
        if held is not None and not self._closed:
            return held
        return await self._arrived_async(self._fly(_ACTIVE, partial(ask_active, self._provider)))

    def active_sync(self) -> Key:
        """The same as ``active()``, for code without an event loop."""
        held = self._active
        if held is not None and not self._closed:
            return held
        return self._arrived(self._fly(_ACTIVE, partial(ask_active, self._provider)))

    async def get(self, kid: str) -> Key:
        """The key of that public id, or an error that says why there is none."""
        found = self._held_or_search(kid)
        if isinstance(found, Key):
            return found
        return await self._arrived_async(self._fly(kid, found))

    def get_sync(self, kid: str) -> Key:
        """The same as ``get()``, for code without an event loop."""
        found = self._held_or_search(kid)
        return found if isinstance(found, Key) else self._arrived(self._fly(kid, found))

    async def refresh(self) -> Key:
        """Ask now which key is active, and hold what comes back."""
        return await self._arrived_async(self._fly(_ACTIVE, partial(ask_active, self._provider)))

    def health(self) -> RingHealth:
        """What the ring holds and could do now. No I/O."""
        with self._lock:
            age = None if self._healthy_at is None else self._clock() - self._healthy_at
            usable = self._active is not None and not self._closed
            return RingHealth(
                can_read=usable,
                can_write=usable,
                last_healthy_s=age,
                held=tuple(key.kid for key in self._by_fingerprint.values()),
                counts=dict(self._counts),
                stuck=(),
            )

    async def aclose(self) -> None:
        """Close the ring: the same as ``close()``, off the event loop."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Forget the keys and close the providers. Later calls raise; closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._active = None
            self._by_fingerprint.clear()
        for place in self._places:
            closing = getattr(place, "close", None)
            if callable(closing):
                closing()

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
        active = self._active
        return f"<KeyRing {self._teller.place} {active.kid if active else 'nothing fetched yet'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyRing cannot be pickled: it holds keys; make one in the other process, from the same URL")

    def _held_or_search(self, kid: str) -> Key | Search:
        parts = parse_kid(kid)
        if parts is None:
            raise KeyNotFoundError(
                f"{kid[:128]!r} is no public id of a key (name~fingerprint), so no place was asked for it"
            )
        held = self._by_fingerprint.get(parts[1])
        if held is not None and not self._closed:
            return held
        return Search(self._places, *parts)

    def _fly(self, what: str, ask: Callable[[], Key]) -> Future[Key]:
        """The call for ``what`` that is under way, or a new one in a thread of its own."""
        with self._lock:
            if self._closed:
                raise KeyProviderError(f"this ring of {self._teller.place} is closed")
            flight = self._flights.get(what)
            if flight is not None:
                return flight
            flight = self._flights[what] = Future()
            # From now on no waiter can cancel the call, for others may wait for it too.
            flight.set_running_or_notify_cancel()
        # A daemon, so that the interpreter never waits for a provider that hangs.
        threading.Thread(target=self._call, args=(what, ask, flight), name="keyproviders-call", daemon=True).start()
        return flight

    def _call(self, what: str, ask: Callable[[], Key], flight: Future[Key]) -> None:
        def counted() -> Key:
            self._counts["calls"] += 1
            return ask()

        try:
            key = call_with_retry(counted, self._retry, clock=self._clock, sleep=self._sleep)
        except BaseException as error:  # noqa: BLE001 - it is raised where the waiters are
            with self._lock:
                self._flights.pop(what, None)
                self._counts["failed"] += 1
            flight.set_exception(error)
            self._teller.tell("failed", str(error), kid=what or None, error=error)
            return
        with self._lock:
            self._flights.pop(what, None)
            self._counts["fetched"] += 1
            if not self._closed:
                self._by_fingerprint[key.fingerprint] = key
                self._healthy_at = self._clock()
                if what == _ACTIVE:
                    self._active = key
        flight.set_result(key)
        self._teller.tell("fetched", f"{self._teller.place}: fetched {key.kid}", kid=key.kid)

    def _arrived(self, flight: Future[Key]) -> Key:
        wait([flight], timeout=self._retry.deadline_s)
        return self._landed(flight)

    async def _arrived_async(self, flight: Future[Key]) -> Key:
        landed = asyncio.get_running_loop().create_future()

        def land(_: Future[Key]) -> None:
            if not landed.done():
                landed.set_result(None)

        def tell_loop(flight: Future[Key]) -> None:
            # A loop that was closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                landed.get_loop().call_soon_threadsafe(land, flight)

        flight.add_done_callback(tell_loop)
        await asyncio.wait([landed], timeout=self._retry.deadline_s)
        return self._landed(flight)

    def _landed(self, flight: Future[Key]) -> Key:
        if not flight.done():
            raise KeyUnavailableError(
                f"{self._teller.place} did not answer within {self._retry.deadline_s:g} s; the call"
                " goes on, and its answer will be held when it comes"
            )
        return flight.result()


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

"""The ring of keys that users see: reads coast, writes expire.

How a question goes its way:

    active(), get(kid) ──▶ nothing to check? ──yes──▶ the key, at once: no lock, no thread, no I/O
                             │no
                             ▼
                 `flows`: a look of the `engine`, under its lock
                             │
               ┌─────────────┼──────────────────────────────┐
               ▼             ▼                              ▼
        a key in hand   no such key, as the sources      none in hand: join the call for it, or
        (and perhaps    lately said of its name,         wait for the turn of its asker; no turn
        a call in the   or as their lists of names       in time is "not asked"
        background)     say                              │
                             ▼
                 the call, on a thread of `workers`, and what is learned from it: see `engine`

The ring's own alarm is another way into a look, with nobody waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import isfinite
from typing import TYPE_CHECKING, NoReturn, TypeVar

from .._support.clock import AgeClock
from .._support.redaction import redact_frames
from .._support.strictness import is_strict, strictness
from ..key import Key
from ..provider import KeyProvider
from ..registry import open_provider
from .engine import Engine
from .events import EventSink
from .flows import close, find, find_active, list_kids, refresh
from .policies import CachePolicy, RetryPolicy
from .sources import KeySource
from .waiting import Flow, run_async, run_sync

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .health import RingHealth
    from .key_event import KeyEvent

__all__ = ["KeyRing"]

_CLOSE_S = 3.0
_CLOCKS_S = 60.0  # so far apart the clocks of a fleet may be

_CACHE = CachePolicy()
_RETRY = RetryPolicy()


class KeyRing:
    """Caches the keys of one provider, for any number of sessions, threads and event loops.

    `KeyRing(provider)` or `KeyRing.from_url("env:SESSION_KEYS")`. Nothing is requested before the first use. `await
    ring.active()` is the key to encrypt with, `await ring.get(kid)` the key of that public id; `active_sync()` and
    `get_sync()` are the same without an event loop. While the ring holds a usable key, no call waits for the
    provider.

    `async with` fetches the active key first, and closes the ring. A ring cannot be pickled.

    Args:
        provider: Where the active key comes from, and the first to be asked for any other.
        also_read: URLs or providers, asked in order for kids that the first one does not have.
        cache: How long the ring may use what it knows.
        retry: How a call is repeated if the provider could not answer.
        on_event: Called with a `KeyEvent` each time something happens to a key.
        clock: Returns the time, in seconds, by which keys age. By default, the larger of the wall clock and the
            monotonic clock.
        sleep: Waits between attempts.
        name: What the ring is called in the fields of its log records (`ring`); by default its place of keys.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The name is empty.
        ProviderConfigError: A URL in `also_read` is not that of a provider.
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
        name: str | None = None,
    ) -> None:
        if isinstance(also_read, str) or not isinstance(also_read, Iterable):
            raise TypeError(f"also_read must be a list of URLs or providers, not {type(also_read).__name__}")
        self._strict = is_strict()
        first = _checked_provider(provider, "provider")
        others = [
            open_provider(one) if isinstance(one, str) else _checked_provider(one, "also_read") for one in also_read
        ]
        _checked_policy(cache, CachePolicy, "cache")
        asks_every_s = (cache.fresh_s, cache.revalidate_s)
        sources = [KeySource(first, asks_every_s, writes_for_s=cache.fresh_s + cache.stale_write_s + _CLOCKS_S)]
        sources += [KeySource(one, asks_every_s) for one in others]
        self._engine = Engine(
            sources,
            cache=cache,
            retry=_checked_policy(retry, RetryPolicy, "retry"),
            sink=EventSink(on_event, sources[0].label if name is None else _checked_name(name)),
            clock=AgeClock() if clock is None else _checked_callable(clock, "clock"),
            sleep=_checked_callable(sleep, "sleep"),
        )

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
        strict: bool = False,
        name: str | None = None,
    ) -> Self:
        """A ring over the provider of `url`. No I/O happens yet.

        Args:
            url: Where the keys come from, such as `env:SESSION_KEYS`.
            allow_insecure: Allow http and unverified TLS, with a warning.
            also_read, cache, retry, on_event, clock, sleep: As for `KeyRing`.
            strict: Refuse what otherwise causes a warning: files that others may read or replace, keys that can be
                guessed, and `allow_insecure`. Sessions over this ring are strict too. ENCRYPTED_SESSIONS_STRICT=1
                makes every ring strict.
            name: As for `KeyRing`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The name is empty.
            ProviderConfigError: The URL is not that of a provider, or lacks something.
        """
        with strictness(strict):
            return cls(
                open_provider(url, allow_insecure=allow_insecure),
                also_read=also_read,
                cache=cache,
                retry=retry,
                on_event=on_event,
                clock=clock,
                sleep=sleep,
                name=name,
            )

    @classmethod
    def ephemeral(cls) -> Self:
        """A ring with a random key that is lost when the process ends: for notebooks and tests."""
        from ..local.static import StaticKeyProvider  # noqa: PLC0415 - a ring of another place needs none

        return cls(StaticKeyProvider(Key.generate("ephemeral")))

    # Keys.

    async def active(self) -> Key:
        """The key to encrypt with now.

        Raises:
            KeyProviderError: There is no usable key; the class is that of the provider's error.
        """
        key = self._engine.active_without_check()
        return await run_async(find_active(self._engine), self._engine.deadline_s) if key is None else key

    def active_sync(self) -> Key:
        """The same as `active()`, for code without an event loop."""
        key = self._engine.active_without_check()
        return run_sync(find_active(self._engine), self._engine.deadline_s) if key is None else key

    async def get(self, kid: str, *, asker: str | None = None, wait_s: float | None = None) -> Key:
        """The key of that public id, whatever its age.

        A key that is held is returned at once. For other keys, callers take turns, and each has one call at a time:
        many invented ids of one caller do not delay another.

        Args:
            kid: The public id, `name~fingerprint`, as it stands in an envelope.
            asker: On whose behalf, such as a session id.
            wait_s: How many seconds to wait at most; by default the RetryPolicy's `deadline_s`. With 0, nothing is
                requested.

        Raises:
            KeyDisabledError: It exists, and may come back.
            KeyDestroyedError: It existed, and was destroyed permanently.
            KeyNotFoundError: Every provider answered that it has no such key, or `kid` is not a public id.
            KeyNotAskedError: No provider was asked, because its turn did not come in time.
            KeyUnavailableError: A provider could not be asked, or did not answer.
            KeyProviderError: Any other error of the provider; nothing is known about the key.
            TypeError: `kid` or `asker` is not a str, or `wait_s` is not a number.
            ValueError: `wait_s` is negative, or not finite.
        """
        key = self._engine.get_without_check(kid)
        return await run_async(*self._finding(kid, asker, wait_s)) if key is None else key

    def get_sync(self, kid: str, *, asker: str | None = None, wait_s: float | None = None) -> Key:
        """The same as `get()`, for code without an event loop."""
        key = self._engine.get_without_check(kid)
        return run_sync(*self._finding(kid, asker, wait_s)) if key is None else key

    def _finding(self, kid: str, asker: str | None, wait_s: float | None) -> tuple[Flow[Key], float]:
        if asker is not None and not isinstance(asker, str):
            raise TypeError(f"asker must be a str or None, not {type(asker).__name__}")
        if wait_s is None:
            wait_s = self._engine.deadline_s
        elif isinstance(wait_s, bool) or not isinstance(wait_s, (int, float)):
            raise TypeError(f"wait_s must be a number of seconds or None, not {type(wait_s).__name__}")
        elif not isfinite(wait_s) or wait_s < 0:
            raise ValueError(f"wait_s must be finite and 0 or more; {wait_s} was given")
        return find(self._engine, kid, asker, wait_s), wait_s

    async def kids(self) -> tuple[str, ...]:
        """The public ids of all keys that its providers list, whether held or not.

        Only providers with `names()` list their keys: keys in code, `env:`, `file:` and keysets. Not every listed key
        can be fetched: disabled and destroyed keys are included.

        Returns:
            The public ids, except those of providers that do not list their names, or could not now.

        Raises:
            KeyUnavailableError: They did not answer within the RetryPolicy's `deadline_s`.
            KeyProviderError: The ring is closed.
        """
        return await run_async(list_kids(self._engine), self._engine.deadline_s)

    @property
    def strict(self) -> bool:
        """Whether the ring refuses what otherwise causes a warning."""
        return self._strict

    @property
    def deadline_s(self) -> float:
        """How many seconds a caller waits at most, as in the RetryPolicy."""
        return self._engine.deadline_s

    def lease(self, key: Key) -> object | None:
        """An object that lives exactly as long as this ring holds that key, for objects derived from the key.

        Only the ring refers to it. Keep a `weakref.ref` to it, with a callback that releases what was derived. It is
        called when the key is dropped: because its place of keys said so, because its time is over, or because the
        ring was closed. A key that was only confirmed keeps its lease.

        Returns:
            The object; None if the ring does not hold that key.
        """
        with self._engine.lock:
            return self._engine.cache.lease(key)

    async def refresh(self) -> Key:
        """Ask now which key is active, hold the answer, and forget which keys were not found.

        Returns:
            The key that is active.

        Raises:
            KeyProviderError: What the provider raised. Held keys stay held, as in any failure.
        """
        return await run_async(refresh(self._engine), 2 * self._engine.deadline_s)

    def health(self) -> RingHealth:
        """What the ring holds and could do now. Without I/O or waiting."""
        from .health import health_of  # noqa: PLC0415 - few who import this ask

        return health_of(self._engine)

    # The end.

    async def aclose(self) -> None:
        """Close the ring: the same as `close()`, without blocking the event loop."""
        await run_async(close(self._engine), _CLOSE_S)

    def close(self) -> None:
        """Forget the keys, end running calls, and close the providers.

        It waits at most 3 s for running calls, and names in the log those that did not end. Later uses of the ring
        raise KeyProviderError; closing again does nothing.
        """
        run_sync(close(self._engine), _CLOSE_S)

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
        kid = self._engine.cache.active_kid
        state = "closed" if self._engine.closed else f"active {kid}" if kid else "nothing fetched yet"
        return f"<KeyRing of {self._engine.label}: {state}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyRing cannot be pickled: it holds keys; make one in the other process from the same URL")


def _checked_provider(provider: object, argument: str) -> KeyProvider:
    if isinstance(provider, str):
        raise TypeError(f"{argument} must be a provider, not a str; KeyRing.from_url() takes a URL")
    if isinstance(provider, type):
        raise TypeError(f"{argument} must be a provider, not the class {provider.__name__} itself; make one of it")
    if not isinstance(provider, KeyProvider):
        raise TypeError(f"{argument} must have active() and get(name), which {type(provider).__name__} lacks")
    return provider


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str or None, not {type(name).__name__}")
    if not name:
        raise ValueError("name must not be empty; leave it out to name the ring after its place of keys")
    return name


_Callable = TypeVar("_Callable", bound=Callable[..., object])


def _checked_callable(given: _Callable, argument: str) -> _Callable:
    if not callable(given):
        raise TypeError(f"{argument} must be callable, not {type(given).__name__}")
    return given


_Policy = TypeVar("_Policy", CachePolicy, RetryPolicy)


def _checked_policy(policy: _Policy, kind: type[_Policy], argument: str) -> _Policy:
    if not isinstance(policy, kind):
        raise TypeError(f"{argument} must be a {kind.__name__}, not {type(policy).__name__}")
    return policy

"""What `encrypted-sessions doctor` checks. It prints nothing; `report` writes it down.

`await examine("env:SESSION_KEYS")` goes the way that an application goes, from the URL of the keys
to an item that was sealed and read back, and says where the way ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any, NoReturn

from keyproviders import (
    CachePolicy,
    Key,
    KeyProvider,
    KeyProviderError,
    KeyRing,
    ProviderConfigError,
    RetryPolicy,
    open_provider,
    redact_frames,
)

from ..errors import EncryptedSessionError
from ..session import EncryptedSession
from .advice import TOO_EARLY, UNKNOWN_ERROR, Kind, advice_for, kind_of
from .diagnosis import Check, Diagnosis
from .installed import whose_package

__all__ = ["examine"]

_VARIABLE = "ENCRYPTED_SESSIONS_KEYS"

#: With spaces, which no ciphertext in base64 has.
_PROBE = "a probe of the doctor"

_SILENT = "the place of keys gives no details about itself"

_CACHE = CachePolicy()
_RETRY = RetryPolicy()


@redact_frames
async def examine(
    url: str | None,
    *,
    cache: CachePolicy = _CACHE,
    retry: RetryPolicy = _RETRY,
) -> Diagnosis:
    """Check the keys of `url` as an application would use them; None: no URL was given.

    `cache` and `retry` are those of the application's ring, the defaults if it sets none. It
    takes as long as the provider does, and raises nothing for what it finds. Nothing is written
    anywhere: the probe is kept in memory.
    """
    examination = _Examination(cache, retry)
    examination.check_packages()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await examination.run_steps(url)
    return examination.diagnosis(tuple(sorted({str(one.message) for one in caught})))


class _StopError(Exception):
    """A step failed, and what comes after it has no ground."""


class _Examination:
    _STEPS = ("open", "fetch", "look up", "seal and read")

    def __init__(self, cache: CachePolicy, retry: RetryPolicy) -> None:
        self._cache = cache
        self._retry = retry
        self._checks: list[Check] = []
        self._place: str | None = None
        self._kid: str | None = None
        self._created_at: datetime | None = None
        self._remarks: list[str] = []
        self._kind: Kind = "other"

    def diagnosis(self, caught_warnings: tuple[str, ...]) -> Diagnosis:
        reached = {check.name for check in self._checks}
        left = [Check(name, "not tried", "an earlier step failed") for name in self._STEPS if name not in reached]
        age_s = None
        if self._created_at is not None:
            age_s = (datetime.now(timezone.utc) - self._created_at).total_seconds()
        return Diagnosis(
            (*self._checks, *left),
            self._place,
            self._kid,
            self._created_at,
            age_s,
            tuple(self._remarks),
            caught_warnings,
            self._cache,
            self._retry,
        )

    def check_packages(self) -> None:
        began = time.perf_counter()
        found = whose_package()
        took_s = time.perf_counter() - began
        if found.problem is not None:
            self._checks.append(Check("packages", "failed", found.problem, took_s, None, found.advice))
        else:
            by = f", installed by {', '.join(found.owners)}" if found.owners else ""
            self._checks.append(Check("packages", "ok", f"keyproviders is loaded from {found.loaded_from}{by}", took_s))

    async def run_steps(self, url: str | None) -> None:
        rings: list[KeyRing] = []
        try:
            url, provider = self._open(url)
            first = KeyRing(provider, cache=self._cache, retry=self._retry)
            rings.append(first)
            key = await self._fetch(first)
            await self._ask_about_its_place(provider)
            second = await self._look_up(url, key, rings)
            await self._seal_and_read(first, second, key)
        except _StopError:
            pass
        finally:
            for ring in rings:
                await ring.aclose()

    # -- The steps ---------------------------------------------------------------------------

    def _open(self, url: str | None) -> tuple[str, KeyProvider]:
        if url is None:
            self._failed(
                "open",
                "no URL was given",
                advice=f"give one, as in `encrypted-sessions doctor env:SESSION_KEYS`, or set {_VARIABLE}",
            )
        with self._step("open") as found:
            provider = open_provider(url)
            self._place = _place_of(provider)
            self._kind = kind_of(provider)
            found(f"{self._place}, read by {type(provider).__name__}")
        return url, provider

    async def _fetch(self, ring: KeyRing) -> Key:
        with self._step("fetch", ring) as found:
            key = await ring.active()
            self._kid, self._created_at = key.kid, key.created_at
            found(f"the active key is {key.kid}{_calls(ring)}")
        return key

    async def _ask_about_its_place(self, provider: KeyProvider) -> None:
        """What the provider has to say beyond its keys. No failure: who may not ask can still seal."""
        ask = getattr(provider, "examine", None)
        if callable(ask):
            self._remarks += await _remarks_of(ask, self._retry.deadline_s)

    async def _look_up(self, url: str, key: Key, rings: list[KeyRing]) -> KeyRing:
        with self._step("look up") as found:
            # A ring that holds nothing yet, as in another process.
            other = KeyRing(open_provider(url), cache=self._cache, retry=self._retry)
            rings.append(other)
            await other.get(key.kid)
            found("another process finds it by its id")
        return other

    async def _seal_and_read(self, writes: KeyRing, reads: KeyRing, key: Key) -> None:
        with self._step("seal and read") as found:
            store = _MemorySession()
            probe: Any = {"role": "user", "content": _PROBE}
            await EncryptedSession.wrap(store, writes, ttl=60).add_items([probe])
            if _PROBE in str(store.items):
                raise EncryptedSessionError("the probe can be read in the store")
            if await EncryptedSession.wrap(store, reads, ttl=60).get_items() != [probe]:
                raise EncryptedSessionError("what was read back is not the probe")
            found(f"a probe was sealed with {key.kid} and read back")

    # -- How a step ends ----------------------------------------------------------------------

    @contextmanager
    def _step(self, name: str, ring: KeyRing | None = None) -> Iterator[Callable[[str], None]]:
        found: list[str] = []
        began = time.perf_counter()
        # Noted here, raised outside: an error's context is an error too, and holds frames.
        problem: tuple[str, str, str] | None = None
        try:
            yield found.append
        except KeyProviderError as error:
            problem = str(error) + _calls(ring), self._advice(error), type(error).__name__
        except EncryptedSessionError as error:
            problem = str(error), "report this: it should never happen", type(error).__name__
        except Exception as error:  # noqa: BLE001 - a provider of somebody else may raise anything
            problem = f"{type(error).__name__} was raised{_calls(ring)}", UNKNOWN_ERROR, type(error).__name__
        took_s = time.perf_counter() - began
        if problem is not None:
            self._failed(name, problem[0], took_s, problem[2], problem[1])
        self._checks.append(Check(name, "ok", found[-1], took_s))

    def _advice(self, error: KeyProviderError) -> str:
        # The one mistake that is of the ring's numbers, and names the option that is too short.
        if self._kind == "keyset" and isinstance(error, ProviderConfigError) and "--activation-delay" in str(error):
            return TOO_EARLY
        return advice_for(error, self._kind)

    def _failed(
        self, name: str, found: str, took_s: float = 0.0, error: str | None = None, advice: str | None = None
    ) -> NoReturn:
        self._checks.append(Check(name, "failed", found, took_s, error, advice))
        raise _StopError


class _MemorySession:
    """A store for the probe, gone with it."""

    session_id = "encrypted-sessions-doctor"
    session_settings = None

    def __init__(self) -> None:
        self.items: list[Any] = []

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return self.items if limit is None else self.items[max(0, len(self.items) - limit) :]

    async def add_items(self, items: list[Any]) -> None:
        self.items.extend(items)

    async def pop_item(self) -> Any:
        return self.items.pop() if self.items else None

    async def clear_session(self) -> None:
        self.items.clear()


async def _remarks_of(ask: Callable[[], object], deadline_s: float) -> list[str]:
    """The sentences that a provider's `examine()` gives, or the one that says why there are none."""
    answers: list[object] = []
    loop, answered = asyncio.get_running_loop(), asyncio.Event()

    def call() -> None:
        try:
            answers.append(ask())
        except KeyProviderError as error:
            answers.append([f"{_SILENT}: {type(error).__name__}: {error}"])
        except Exception as error:  # noqa: BLE001 - a provider of somebody else may raise anything, in any words
            answers.append([f"{_SILENT}: {type(error).__name__} was raised"])
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(answered.set)

    # A daemon, for what hangs in there must not keep the command from its end.
    threading.Thread(target=call, name="encrypted-sessions-doctor", daemon=True).start()
    with suppress(asyncio.TimeoutError, TimeoutError):  # two classes until Python 3.11
        await asyncio.wait_for(answered.wait(), deadline_s)
    found = answers[0] if answers else [f"{_SILENT}: no answer within {deadline_s:g} s"]
    return [one for one in found if isinstance(one, str)] if isinstance(found, (list, tuple)) else []


def _place_of(provider: KeyProvider) -> str:
    place = getattr(provider, "place", None)
    return place if isinstance(place, str) and place else type(provider).__name__


def _calls(ring: KeyRing | None) -> str:
    calls = 0 if ring is None else ring.health().counts.get("calls", 0)
    return f" (asked {calls} times)" if calls > 1 else ""

"""A key ring for each tenant: made when it is first used, closed when it is used no more."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakValueDictionary, ref

from keyproviders import KeyNotFoundError, KeyProviderError, KeyRing, RingHealth, redact_frames

from . import arguments
from .session import EncryptedSession

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    RingFor = Callable[[str], "KeyRing | str | Awaitable[KeyRing | str | None] | None"]

__all__ = ["KeyRings"]

logger = logging.getLogger("encrypted_sessions")

_Result = TypeVar("_Result")

#: Rings that were not asked for in a long time are looked for this often, at most, while others are asked for.
_LOOK_EVERY_S = 60.0
_SHOWN = 128


def _now() -> float:
    return time.monotonic()


class KeyRings:
    """One `KeyRing` for each tenant, for applications whose tenants have keys of their own.

    `await rings.wrap(store, tenant, ttl=86_400)` is a session with the tenant's keys. A tenant's ring is made once,
    when it is first requested, however many requests come at the same time. If a tenant's place of keys is slow or
    down, other tenants are not delayed. All rings of a process share their threads. The object can be used from
    several event loops and threads, but cannot be pickled. `async with` closes it.

    Args:
        ring_for: Called with a tenant's name; returns the tenant's `KeyRing`, or the URL of its keys, or None if
            there is no such tenant. It may be a coroutine function; a plain function is called in a thread.
        max_rings: How many rings are kept. Above that, the one that was not requested for the longest time is
            released. A ring that a session still uses is always kept; the log says once that there are more rings.
        idle_s: A ring that was not requested for this many seconds, and that no session uses, is released when
            another one is requested.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
    """

    def __init__(self, ring_for: RingFor, *, max_rings: int = 1_000, idle_s: float = 3_600) -> None:
        if not callable(ring_for):
            raise TypeError(
                f"ring_for must be a function that takes a tenant's name, not {arguments.kind_of(ring_for)}"
            )
        if type(max_rings) is not int:
            raise TypeError(f"max_rings must be an int, not {arguments.kind_of(max_rings)}")
        if max_rings < 1:
            raise ValueError(f"max_rings must be 1 or more, not {max_rings}")
        if isinstance(idle_s, bool) or not isinstance(idle_s, (int, float)):
            raise TypeError(f"idle_s must be a number of seconds, not {arguments.kind_of(idle_s)}")
        if not isfinite(idle_s) or idle_s < 0:
            raise ValueError(f"idle_s must be finite and 0 or more, not {idle_s}")
        self._ring_for = ring_for
        self._max_rings = max_rings
        self._idle_s = idle_s
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the one that was asked for last is the last
        self._given: WeakValueDictionary[str, KeyRing] = WeakValueDictionary()  # let go of; others may have them
        self._look_at = _now() + min(idle_s, _LOOK_EVERY_S)
        self._has_warned = False
        self._closed = False
        self._begin_in_process()

    def _begin_in_process(self) -> None:
        """In a forked child no thread and no loop of the parent is of any use. Its rings are."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._opening: dict[str, Future[KeyRing]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[Future[None]] = set()

    # -- Rings ------------------------------------------------------------------------------

    async def get(self, tenant: str) -> KeyRing:
        """The ring of a tenant. No key is requested yet.

        It need not be closed. Closing a ring that was made from a URL does nothing, since others may use it.

        Args:
            tenant: The tenant's name, as `ring_for` knows it.

        Returns:
            The ring. A ring that was made from a URL has the tenant's name in its log records.

        Raises:
            TypeError: The tenant is not a str, or `ring_for` returned an unsuitable object.
            ValueError: The tenant is empty.
            KeyNotFoundError: `ring_for` returned None: there is no such tenant.
            ProviderConfigError: `ring_for` returned a URL that is not that of a place of keys.
            KeyProviderError: This object is closed.
        """
        if not isinstance(tenant, str):
            raise TypeError(f"tenant must be a str, not {arguments.kind_of(tenant)}")
        if not tenant:
            raise ValueError("tenant must not be empty")
        while True:
            if self._pid != os.getpid():
                self._begin_in_process()
            with self._lock:
                if self._closed:
                    raise _closed_error()
                ring = self._find(tenant)
                opening = self._opening.get(tenant)
                if ring is None and opening is None:
                    opening = self._begin_to_open(tenant)
            if ring is not None:
                return ring
            assert opening is not None  # noqa: S101 - one of the two
            try:
                return await asyncio.wrap_future(opening)
            except _AbandonedError:
                continue  # the loop of whoever asked first has ended meanwhile

    async def wrap(self, store: Any, tenant: str, *, ttl: int | None, **options: Any) -> EncryptedSession:
        """The encrypted session over `store` with the keys of a tenant.

        If tenants share a store, put the tenant into the session id: `f"{tenant}:{user}"`.

        Args:
            store: What stores the sealed items, and has the session id. As for `EncryptedSession.wrap`.
            tenant: The tenant's name.
            ttl: How many seconds an item lives; None for no end.
            options: The other arguments of `EncryptedSession.wrap`.

        Returns:
            The wrapper. As long as it exists, the tenant's ring is not closed.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has a value that is not allowed.
            KeyProviderError: As for `get`.
        """
        return EncryptedSession.wrap(store, await self.get(tenant), ttl=ttl, **options)

    def health(self) -> dict[str, RingHealth]:
        """What the rings that are kept could do now, by tenant, without a request."""
        if self._pid != os.getpid():
            self._begin_in_process()
        with self._lock:
            rings = {tenant: held.ring for tenant, held in self._held.items()}
        return {tenant: ring.health() for tenant, ring in rings.items()}

    async def aclose(self) -> None:
        """Close the rings that were made from URLs, even if sessions use them. Later uses raise KeyProviderError."""
        if self._pid != os.getpid():
            self._begin_in_process()
        with self._lock:
            self._closed = True
            opened = [held.ring for held in self._held.values() if held.is_opened]
            self._held.clear()
            self._given.clear()
            closing = list(self._closing)
        await asyncio.gather(*(ring.aclose() for ring in opened), *map(asyncio.wrap_future, closing))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<KeyRings: {'closed' if self._closed else f'{len(self._held)} rings'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyRings cannot be pickled: its rings hold keys; make one in the other process")

    # -- Under the lock ---------------------------------------------------------------------

    def _find(self, tenant: str) -> KeyRing | None:
        held = self._held.get(tenant)
        if held is None:
            given = self._given.pop(tenant, None)
            return None if given is None else self._keep(tenant, _Held(given, is_opened=False))
        ring = held.lend()
        self._held.move_to_end(tenant)
        if held.used_at >= self._look_at:
            self._let_go(held.used_at)
        return ring

    def _keep(self, tenant: str, held: _Held) -> KeyRing:
        ring = held.lend()
        self._held[tenant] = held
        self._let_go(held.used_at)
        return ring

    def _let_go(self, now: float) -> None:
        """Let go of rings that were not asked for in a long time, and of others that are too many."""
        self._look_at = now + min(self._idle_s, _LOOK_EVERY_S)
        opened = []
        for tenant, held in list(self._held.items()):
            if len(self._held) <= self._max_rings and now - held.used_at < self._idle_s:
                break
            if held.is_lent():
                continue
            del self._held[tenant]
            if held.is_opened:
                opened.append(held.ring)
            else:
                self._given[tenant] = held.ring
        if opened:
            closing = _in_thread(partial(_close, opened))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if len(self._held) > self._max_rings and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "more than %d tenants have sessions in use, so more rings are kept than max_rings allows",
                self._max_rings,
            )

    def _begin_to_open(self, tenant: str) -> Future[KeyRing]:
        opening: Future[KeyRing] = Future()
        opening.set_running_or_notify_cancel()  # so that one who waits can be cancelled alone
        # A task of its own: whoever asked first may be cancelled, and others wait too.
        task = asyncio.get_running_loop().create_task(self._open(tenant, opening))
        self._opening[tenant] = opening
        self._tasks.add(task)
        task.add_done_callback(partial(self._opened, tenant, opening))
        return opening

    # -- Opening ----------------------------------------------------------------------------

    async def _open(self, tenant: str, opening: Future[KeyRing]) -> None:
        try:
            held = await self._make(tenant)
        except Exception as error:  # noqa: BLE001 - it is raised where they wait
            self._forget(tenant, opening)
            opening.set_exception(error)
            return
        with self._lock:
            closed = self._closed
            ring = held.ring if closed else self._keep(tenant, held)
            self._opening.pop(tenant, None)
        if not closed:
            opening.set_result(ring)
            return
        opening.set_exception(_closed_error())
        if held.is_opened:
            await ring.aclose()

    def _opened(self, tenant: str, opening: Future[KeyRing], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not opening.done():  # it was cancelled, with its loop
            self._forget(tenant, opening)
            opening.set_exception(_AbandonedError())

    def _forget(self, tenant: str, opening: Future[KeyRing]) -> None:
        with self._lock:
            if self._opening.get(tenant) is opening:
                del self._opening[tenant]

    @redact_frames  # what was given in the place of a URL may be a key
    async def _make(self, tenant: str) -> _Held:
        ring_for: Callable[[str], Any] = self._ring_for
        is_async = inspect.iscoroutinefunction(ring_for) or inspect.iscoroutinefunction(
            getattr(ring_for, "__call__", None)  # noqa: B004 - an object whose call is a coroutine function
        )
        given = ring_for(tenant) if is_async else await asyncio.wrap_future(_in_thread(partial(ring_for, tenant)))
        if inspect.isawaitable(given):
            given = await given
        if given is None:
            raise KeyNotFoundError(
                f"there is no tenant {tenant[:_SHOWN]!r}: ring_for returned neither a ring nor a URL for it"
            )
        if isinstance(given, KeyRing):
            return _Held(given, is_opened=False)
        if not isinstance(given, str):
            raise TypeError(f"ring_for must return a KeyRing, a URL or None, not {arguments.kind_of(given)}")
        # In a thread too: it may load an SDK.
        opened = await asyncio.wrap_future(_in_thread(partial(KeyRing.from_url, given, name=tenant)))
        return _Held(opened, is_opened=True)


class _Held:
    """A tenant's ring as it is kept: whether it was opened here, when it was asked for, who has it."""

    __slots__ = ("_lent", "is_opened", "ring", "used_at")

    def __init__(self, ring: KeyRing, *, is_opened: bool) -> None:
        self.ring = ring
        self.is_opened = is_opened
        self.used_at = _now()
        self._lent: ref[_LentRing] | None = None

    def lend(self) -> KeyRing:
        """The ring for whoever asks for it."""
        self.used_at = _now()
        if not self.is_opened:
            return self.ring
        lent = None if self._lent is None else self._lent()
        if lent is None:
            lent = _LentRing(self.ring)
            self._lent = ref(lent)
        return lent

    def is_lent(self) -> bool:
        """Whether a session, or anybody else, has it. Of a ring that was given nobody knows; it is never closed."""
        return self._lent is not None and self._lent() is not None


class _LentRing(KeyRing):
    """A ring as its users have it: the same keys and threads. When nobody has this object, nobody uses the ring."""

    def __init__(self, ring: KeyRing) -> None:
        vars(self).update(vars(ring))

    async def aclose(self) -> None:
        """Nothing: whoever lent it closes it."""

    def close(self) -> None:
        """Nothing, likewise."""


class _AbandonedError(Exception):
    """The loop on which a ring was being opened has ended."""


def _closed_error() -> KeyProviderError:
    return KeyProviderError("this KeyRings is closed; make a new one")


def _close(rings: list[KeyRing]) -> None:
    for ring in rings:
        ring.close()


def _in_thread(call: Callable[[], _Result]) -> Future[_Result]:
    """Run it in a thread of its own: in a pool, some that are slow would hold up the others."""
    done: Future[_Result] = Future()
    done.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    @redact_frames
    def call_in_context() -> _Result:
        return context.run(call)

    def run() -> None:
        try:
            done.set_result(call_in_context())
        except StopIteration as error:  # which no future takes
            done.set_exception(RuntimeError(f"ring_for raised {type(error).__name__}"))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            trace = error.__traceback__
            # Without this frame, which still runs and cannot be redacted.
            done.set_exception(error.with_traceback(trace and trace.tb_next))

    threading.Thread(target=run, name="encrypted-sessions-rings", daemon=True).start()
    return done

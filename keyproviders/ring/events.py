"""What a ring reports about its keys: one small object each time, also written to the log."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, NamedTuple

from .._support.hook_list import HookList
from .._support.redaction import redact_frames
from ..errors import KeyProviderError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["LEVELS", "Cause", "EventSink", "KeyEvent", "Report", "cause_of", "log", "observe", "report_of"]

log = logging.getLogger("keyproviders")

#: What can happen, and at which level it is logged.
LEVELS = {
    "fetched": logging.INFO,
    "refreshed": logging.DEBUG,
    "failed": logging.ERROR,
    "served stale": logging.WARNING,
    "denied": logging.ERROR,
    "replaced": logging.ERROR,
    "dropped": logging.WARNING,
    "degraded": logging.WARNING,
    "write_ended": logging.ERROR,
    "recovered": logging.INFO,
    "active_changed": logging.INFO,
}
# Failures that need nobody yet: an outage may end by itself, and a row may name a key of long ago.
_MILDER = {
    "KeyUnavailableError": logging.WARNING,
    "KeyNotFoundError": logging.INFO,
    "KeyDisabledError": logging.INFO,
    "KeyDestroyedError": logging.INFO,
}


class KeyEvent(NamedTuple):
    """One thing that happened to a ring's keys. It holds no secret.

    `what` is one of

    - `fetched`: a key that was not held was fetched,
    - `refreshed`: the place confirmed a key that was held,
    - `failed`: the place of keys could not answer, or has no such key,
    - `served stale`: the active key is used although it is no longer fresh, because the place does not answer;
      reported once until it answers again,
    - `denied`: the place refused access, which it may or may not have allowed before,
    - `replaced`: the active key's name belonged to another key before: somebody replaced a key under the same name,
    - `dropped`: a key is no longer held,
    - `degraded`: an answer is overdue, and writing goes on without it,
    - `write_ended`: writing had to end because no answer came, or the active key was taken away,
    - `recovered`: after one of these two, the place says again which key is active,
    - `active_changed`: a different key is active now.

    The ring's own timer reports the last four, whether the ring is used or not. If one of them and another event
    report the same thing, `on_event` gets both, and the log has one record.

    Attributes:
        what: What happened, as above.
        place: Where the keys come from.
        message: What happened, in words.
        kid: The key that it is about; None if the question was which key is active, or if it is about all keys.
        error: The name of the error's class, if there was an error.
        seconds_left: Seconds until the next loss if no answer comes: first writing ends, then reading. For `denied`,
            and for a failure about an older key, until that key is dropped. None if nothing is about to end.
        from_kid: The key that was active before, of `active_changed`.
        to_kid: The key that is active now, of `active_changed`.
        at: When it was reported, in UTC.
        took_s: Seconds from the first attempt of a call to its answer, on the first event about that call; None on
            all others.
        ring: What the ring is called: its `name`, or its place.
    """

    what: str
    place: str
    message: str
    kid: str | None = None
    error: str | None = None
    seconds_left: float | None = None
    from_kid: str | None = None
    to_kid: str | None = None
    at: datetime | None = None
    took_s: float | None = None
    ring: str | None = None


class Report:
    """An event, and the level at which it is logged; `logging.NOTSET` where another record tells the same."""

    __slots__ = ("event", "level")

    def __init__(self, event: KeyEvent, level: int) -> None:
        self.event = event
        self.level = level

    def unlogged(self) -> Report:
        """The same event for hooks alone."""
        return Report(self.event, logging.NOTSET)

    def of_call(self, took_s: float) -> Report:
        """The same as the first that tells of a call which took so long."""
        told = self.event
        # Not `_replace`: of each tuple that grows while it is made, CPython keeps the first one, up to 2,000 of them.
        event = KeyEvent(
            told.what,
            told.place,
            told.message,
            told.kid,
            told.error,
            told.seconds_left,
            told.from_kid,
            told.to_kid,
            told.at,
            took_s,
            told.ring,
        )
        return Report(event, self.level)


class Cause:
    """What is told of an error: the name of its class, and words."""

    __slots__ = ("kind", "words")

    def __init__(self, kind: str, words: str) -> None:
        self.kind = kind
        self.words = words


def cause_of(error: BaseException) -> Cause:
    """The error's own words when they are of this library's tree.

    Nobody knows what the words of another exception hold, so only its class is named.
    """
    kind = type(error).__name__
    if isinstance(error, KeyProviderError):
        return Cause(kind, str(error))
    return Cause(kind, f"{kind}, which is not an error that a provider should raise")


def report_of(
    place: str,
    what: str,
    message: str,
    kid: str | None = None,
    error: BaseException | Cause | None = None,
    *,
    level: int | None = None,
    seconds_left: float | None = None,
    from_kid: str | None = None,
    to_kid: str | None = None,
) -> Report:
    """An event, and its cause in words. The level is that of the event unless given."""
    kind = None
    if error is not None:
        cause = error if isinstance(error, Cause) else cause_of(error)
        kind, message = cause.kind, f"{message}: {cause.words}"
    if level is None:
        level = LEVELS[what]
        if what == "failed" and kind is not None:
            level = _MILDER.get(kind, level)
    left_s = None if seconds_left is None else max(0.0, seconds_left)
    event = KeyEvent(what, place, f"{place}: {message}", kid, kind, left_s, from_kid, to_kid)
    return Report(event, level)


class EventSink:
    """Takes events to the log and to the user's function, whose own failures end in the log.

    Events are told in the order in which they happened, whichever threads they happened in: one thread
    at a time tells them, those of the others too. Otherwise "it answers again" could come before the
    end of writing that it is the end of. `ring` is what the ring is called in the fields of its records.
    """

    def __init__(self, on_event: Callable[[KeyEvent], object] | None, ring: str) -> None:
        if on_event is not None:
            _check_hook(on_event, "on_event")
        self._on_event = on_event
        self.ring = ring
        self._queue: deque[Report] = deque()
        self._telling = threading.Lock()

    def put(self, reports: Iterable[Report]) -> None:
        """What happened next. To be called under the lock of whatever it happened to."""
        self._queue.extend(reports)

    def tell(self) -> None:
        """Tell what was put, unless another thread is telling, which goes on with it. To be called without a lock."""
        while self._queue and self._telling.acquire(blocking=False):
            try:
                while self._queue:
                    self._tell(self._queue.popleft())
            finally:
                self._telling.release()

    def after_fork(self) -> None:
        """In a forked child: what its parent had to tell is told there."""
        self._queue.clear()
        self._telling = threading.Lock()

    def _tell(self, report: Report) -> None:
        event = report.event
        if report.level != logging.NOTSET:
            log.log(report.level, "%s", event.message, extra=self._fields(event))
        if self._on_event is None and not _observers.hooks:
            return
        from datetime import datetime, timezone  # noqa: PLC0415 - a twentieth of what importing this library takes

        event = event._replace(at=datetime.now(timezone.utc), ring=self.ring)
        for hook in _unique((self._on_event, *_observers.hooks)):
            try:
                hook(event)
            except Exception:  # whatever somebody's function raises
                log.exception("on_event failed on %r of %s", event.what, event.place)

    def _fields(self, event: KeyEvent) -> dict[str, str | float | None]:
        left_s = event.seconds_left
        fields = {
            "event": event.what,
            "ring": self.ring,
            "kid": event.kid,
            "seconds_left": None if left_s is None else round(left_s, 3),
        }
        if event.to_kid is not None:
            fields.update(from_kid=event.from_kid, to_kid=event.to_kid)
        return fields


_Hook = Callable[[KeyEvent], object]
_observers = HookList[_Hook]()


@redact_frames
def observe(hook: _Hook) -> Callable[[], None]:
    """Call a hook with the events of every ring of this process, from now on.

    It is called like a ring's own `on_event`, in the thread in which the event happened. A hook that is given twice
    is called once per event.

    Args:
        hook: Called with each `KeyEvent`. It must not be a coroutine function.

    Returns:
        A function without arguments that ends this. Calling it again does nothing.

    Raises:
        TypeError: The hook is not callable, or is a coroutine function.
    """
    _check_hook(hook, "hook")
    return _observers.add(hook)


def _check_hook(given: object, argument: str) -> None:
    if not callable(given):
        raise TypeError(
            f"{argument} must be callable{' or None' * (argument == 'on_event')}, not {type(given).__name__}"
        )
    if iscoroutinefunction(given) or iscoroutinefunction(getattr(given, "__call__", None)):  # noqa: B004 - an object
        raise TypeError(f"{argument} must be a plain function: a coroutine function would not be awaited")


def _unique(hooks: tuple[_Hook | None, ...]) -> list[_Hook]:
    found: list[_Hook] = []
    for hook in hooks:
        if hook is not None and hook not in found:
            found.append(hook)
    return found

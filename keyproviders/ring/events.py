"""What a ring reports about its keys: one small object each time, also written to the log."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

from .._support.hook_list import HookList
from .._support.redaction import redact_frames
from ..errors import KeyProviderError

if TYPE_CHECKING:
    from .key_event import KeyEvent

__all__ = ["LEVELS", "Cause", "EventSink", "Report", "cause_of", "log", "observe", "report_of"]

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


class Report:
    """What happened to a ring's keys, with the fields of a `KeyEvent`.

    `level` is that at which it is logged; `logging.NOTSET` where another record tells the same. `took_s` is set on the
    first that tells of a call.
    """

    __slots__ = ("error", "from_kid", "kid", "level", "message", "place", "seconds_left", "to_kid", "took_s", "what")

    def __init__(
        self,
        place: str,
        what: str,
        message: str,
        kid: str | None,
        error: str | None,
        level: int,
        seconds_left: float | None,
        from_kid: str | None,
        to_kid: str | None,
    ) -> None:
        self.place = place
        self.what = what
        self.message = message
        self.kid = kid
        self.error = error
        self.level = level
        self.seconds_left = seconds_left
        self.from_kid = from_kid
        self.to_kid = to_kid
        self.took_s: float | None = None

    def unlogged(self) -> Report:
        """It, from now on for hooks alone."""
        self.level = logging.NOTSET
        return self


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
    """What happened, and its cause in words. The level is that of such an event unless given."""
    kind = None
    if error is not None:
        cause = error if isinstance(error, Cause) else cause_of(error)
        kind, message = cause.kind, f"{message}: {cause.words}"
    if level is None:
        level = LEVELS[what]
        if what == "failed" and kind is not None:
            level = _MILDER.get(kind, level)
    left_s = None if seconds_left is None else max(0.0, seconds_left)
    return Report(place, what, f"{place}: {message}", kid, kind, level, left_s, from_kid, to_kid)


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
        if report.level != logging.NOTSET:
            log.log(report.level, "%s", report.message, extra=self._fields(report))
        if self._on_event is None and not _observers.hooks:
            return
        event = self._event(report)
        for hook in _unique((self._on_event, *_observers.hooks)):
            try:
                hook(event)
            except Exception:  # whatever somebody's function raises
                log.exception("on_event failed on %r of %s", event.what, event.place)

    def _event(self, report: Report) -> KeyEvent:
        from datetime import datetime, timezone  # noqa: PLC0415 - a twentieth of what importing this library takes

        from .key_event import KeyEvent  # noqa: PLC0415 - as said there

        return KeyEvent(
            report.what,
            report.place,
            report.message,
            report.kid,
            report.error,
            report.seconds_left,
            report.from_kid,
            report.to_kid,
            datetime.now(timezone.utc),
            report.took_s,
            self.ring,
        )

    def _fields(self, report: Report) -> dict[str, str | float | None]:
        left_s = report.seconds_left
        fields = {
            "event": report.what,
            "ring": self.ring,
            "kid": report.kid,
            "seconds_left": None if left_s is None else round(left_s, 3),
        }
        if report.to_kid is not None:
            fields.update(from_kid=report.from_kid, to_kid=report.to_kid)
        return fields


_Hook = Callable[["KeyEvent"], object]
_observers: HookList[_Hook] = HookList()


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

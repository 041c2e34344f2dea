"""What a ring reports about its keys: one small object each time, also written to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from ..errors import KeyProviderError

__all__ = ["LEVELS", "EventSink", "KeyEvent", "event_of", "log"]

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

    - `fetched`: a key that was not held came,
    - `refreshed`: the place confirmed a key that was held,
    - `failed`: the place could not answer, or has no such key,
    - `served stale`: the active key is used beyond its freshness, because the place does not
      answer; reported once until it answers again,
    - `denied`: the place refused what it had allowed, or what nobody was ever allowed,
    - `replaced`: the active key's name meant another key before: somebody changed a key in place,
    - `dropped`: a key is no longer held.

    Attributes:
        what: What happened, as above.
        place: Where the keys come from.
        message: What happened, in words.
        kid: Which key it is about; None when the question was which key is active, or when it is
            about all keys.
        error: The name of the error's class, if it was one.
    """

    what: str
    place: str
    message: str
    kid: str | None = None
    error: str | None = None


def event_of(
    what: str,
    place: str,
    message: str,
    kid: str | None = None,
    error: BaseException | None = None,
) -> KeyEvent:
    """An event, with the error's own words when they are of this library's tree.

    Nobody knows what the words of another exception hold, so only its class is named.
    """
    if isinstance(error, KeyProviderError):
        message = f"{message}: {error}"
    elif error is not None:
        message = f"{message}: {type(error).__name__}, which is none of the errors that a provider should raise"
    return KeyEvent(what, place, f"{place}: {message}", kid, type(error).__name__ if error is not None else None)


class EventSink:
    """Takes events to the log and to the user's function, whose own failures end in the log."""

    def __init__(self, on_event: Callable[[KeyEvent], object] | None) -> None:
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, not {type(on_event).__name__}")
        self._on_event = on_event

    def emit(self, event: KeyEvent) -> None:
        """Report one event. To be called without holding a lock."""
        level = LEVELS[event.what]
        if event.what == "failed" and event.error is not None:
            level = _MILDER.get(event.error, level)
        log.log(level, "%s", event.message)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                log.exception("on_event failed on %r of %s", event.what, event.place)

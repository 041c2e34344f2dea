"""What a ring tells about its keys: one small object each time, also written to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["KeyEvent", "Teller"]

log = logging.getLogger("keyproviders")

# fetched: a key that was not held came. refreshed: the place confirmed or replaced a held one.
# failed: the place could not answer. served stale: a key was handed out past its freshness because
# of that. denied: the place refused. dropped: a key is no longer held.
_LEVELS = {
    "fetched": logging.INFO,
    "refreshed": logging.DEBUG,
    "failed": logging.WARNING,
    "served stale": logging.WARNING,
    "denied": logging.ERROR,
    "dropped": logging.WARNING,
}


class KeyEvent(NamedTuple):
    """One thing that happened to a ring's keys. It holds no secret.

    ``what`` is ``fetched``, ``refreshed``, ``failed``, ``served stale``, ``denied`` or ``dropped``.
    ``place`` says where the keys come from, ``kid`` which key it is about (None: the active one,
    not known yet), ``error`` is the name of the error's class, and ``message`` says it in words.
    """

    what: str
    place: str
    message: str
    kid: str | None = None
    error: str | None = None


class Teller:
    """Tells events to the log and to the user's function, whose own failures end in the log."""

    def __init__(self, place: str, on_event: Callable[[KeyEvent], object] | None) -> None:
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, not {type(on_event).__name__}")
        self.place = place
        self._on_event = on_event

    def tell(
        self,
        what: str,
        message: str,
        *,
        kid: str | None = None,
        error: BaseException | None = None,
        serious: bool = False,
    ) -> None:
        """``serious`` logs it as an error whatever it is."""
        level = logging.ERROR if serious else _LEVELS[what]
        log.log(level, "%s", message)
        if self._on_event is None:
            return
        name = None if error is None else type(error).__name__
        try:
            self._on_event(KeyEvent(what, self.place, message, kid, name))
        except Exception:
            log.exception("%s: on_event failed on %r", self.place, what)

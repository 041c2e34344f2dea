"""Whether anybody listens: the one attribute that is looked at where nobody does.

All else of this package is imported when somebody does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .protocols import Running

__all__ = ["LISTENING", "Hook", "current", "running"]

#: What is called with each event. It passes over events that it does not know.
Hook = Callable[[Any], object]


class Listening:
    """Who listens in this process.

    Attributes:
        is_on: Whether there is, or was, a hook: of the process, or of any session.
        hooks: Those that were given to `observe`.
        left: What hooks have left to be done when somebody begins to wait, as for a store.
    """

    __slots__ = ("hooks", "is_on", "left")

    def __init__(self) -> None:
        self.is_on = False
        self.hooks: tuple[Hook, ...] = ()
        self.left: set[Callable[[], object]] = set()

    def do_what_is_left(self) -> None:
        """Do it: a store is about to be asked. Threads may come at once, and one of them does it."""
        left, self.left = self.left, set()
        for one in tuple(left):
            one()

    def hooks_with(self, own: Hook | None) -> tuple[Hook, ...]:
        """Those of the process, and one more. One that was given twice is told once."""
        return self.hooks if own is None or own in self.hooks else (*self.hooks, own)


LISTENING = Listening()

#: The operation of a session that runs in this task, if anybody is to be told of it.
current: ContextVar[Running | None] = ContextVar("encrypted_sessions_operation", default=None)


def running() -> Running | None:
    """The operation that runs in this task; None where nobody listens."""
    return current.get() if LISTENING.is_on else None

"""Whether anybody listens: the one attribute that is looked at where nobody does.

All else of this package is imported when somebody does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["LISTENING", "Hook", "Item", "Judged", "Judging", "Running", "current", "running"]

#: What is called with each event. It passes over events that it does not know.
Hook = Callable[[Any], object]


class Judged(Protocol):
    """What became of one row."""

    @property
    def outcome(self) -> str:
        """What it is."""

    @property
    def kid(self) -> str | None:
        """What it names as its key."""

    @property
    def item(self) -> object | None:
        """What it holds, if that may be read."""


#: A row that was opened, and is nothing but its item.
Item = dict[str, Any]


class Judging(Protocol):
    """Takes note of the rows of one walk, as they come."""

    def __call__(self, rows: Sequence[Judged | Item], opened: Mapping[str, int] = ..., /) -> None:
        """Some rows, and by kid how many of them are nothing but items: those were plainly ok."""


class Running(Protocol):
    """An operation of a session that runs, and counts what it does: `operation.Operation`."""

    history: object
    ended: bool

    def sealed(self, kid: str, items: int) -> None:
        """Items were sealed under a key."""

    def judging(self) -> Judging:
        """What takes note of the rows of one walk, the newest first."""

    def judged(self, rows: Sequence[Judged], position: int | None = None) -> None:
        """Rows were judged, the first of them at `position` from the newest one; None where that is not known."""

    def tally(self) -> Any:
        """What was judged so far, to come back to."""

    def back_to(self, tally: Any) -> None:
        """Count from there again: what was judged since is judged anew."""

    def removing(self) -> None:
        """Rows are to be removed: until `removed` says how many, nobody knows."""

    def removed(self, rows: int) -> None:
        """So many were removed."""

    def put_back(self, rows: int) -> None:
        """Rows that had been removed are in the store again."""


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

"""The calls of a ring to its sources: each question once at a time, and only a few at once.

No thread, no lock, no I/O; whoever waits for a call waits for its `done`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING

from ..errors import KeyUnavailableError
from ..key import Key
from .waiting import OneShotEvent

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ACTIVE", "CallTable", "InFlightCall", "copy_of"]

ACTIVE = ""  # no kid is empty, so this can stand for "which key is active?" among kids
_SLOTS = 4


class InFlightCall:
    """One question to the sources: how to put it, since when, and how it ended."""

    __slots__ = (
        "_error",
        "_key",
        "_trace",
        "ask",
        "background",
        "done",
        "fingerprint",
        "number",
        "question",
        "started_at",
    )

    def __init__(
        self, number: int, question: str, fingerprint: str | None, ask: Callable[[], Key], *, background: bool
    ) -> None:
        self.number = number
        self.question = question  # a kid, or ACTIVE
        self.fingerprint = fingerprint
        self.ask = ask
        self.background = background  # nobody waited for it when it was made
        self.started_at: float | None = None
        self.done = OneShotEvent()
        self._key: Key | None = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    @property
    def name(self) -> str:
        """What a source is asked for: the key's name, or its kid if it has none, or "" for the active key."""
        return self.question.rpartition("~")[0] or self.question

    def resolve(self, key: Key | None, error: BaseException | None) -> None:
        """End it with a key, an error, or neither if nobody will run it. To be called once."""
        self._key, self._error = key, error
        self._trace = None if error is None else error.__traceback__
        self.done.set()

    def age_s(self) -> float:
        """Seconds since a thread took it up."""
        return 0.0 if self.started_at is None else time.monotonic() - self.started_at

    def result(self) -> Key:
        """The key, or the error. It must be done."""
        if self._key is not None:
            return self._key
        if self._error is None:
            raise KeyUnavailableError("the call was given up")
        # Each raise adds to a traceback; what is shared begins anew each time.
        raise copy_of(self._error).with_traceback(self._trace)

    def __str__(self) -> str:
        return f"{'active()' if self.question == ACTIVE else self.question} for {self.age_s():.0f} s"


class CallTable:
    """What is being asked: single flight for each question, one call at a time for each name, four in all.

    A call is pending until it is given a slot, then it runs until it is released.
    """

    def __init__(self) -> None:
        self._unresolved: dict[str, InFlightCall] = {}
        self._pending: deque[InFlightCall] = deque()
        self._running: set[InFlightCall] = set()
        self.last_number = 0

    def __len__(self) -> int:
        """How many have no end yet."""
        return len(self._unresolved)

    @property
    def running(self) -> tuple[InFlightCall, ...]:
        """Those that have a slot, given up or not."""
        return tuple(self._running)

    def get(self, question: str) -> InFlightCall | None:
        """The call that answers this question, if it is being asked."""
        return self._unresolved.get(question)

    def add(
        self, question: str, fingerprint: str | None, ask: Callable[[], Key], *, background: bool = False
    ) -> InFlightCall:
        """A new call, pending: for the active key before all others. The question must not be asked yet."""
        self.last_number += 1
        call = self._unresolved[question] = InFlightCall(
            self.last_number, question, fingerprint, ask, background=background
        )
        if question == ACTIVE:
            self._pending.appendleft(call)
        else:
            self._pending.append(call)
        return call

    def fill_slots(self) -> Iterable[InFlightCall]:
        """The calls whose turn it is: they have a slot from now on, and are to be run."""
        names = {call.name for call in self._running}
        started: list[InFlightCall] = []
        for call in list(self._pending):
            if len(self._running) == _SLOTS:
                break
            if call.name not in names:  # one call at a time for each name, whatever the fingerprint
                names.add(call.name)
                self._pending.remove(call)
                self._running.add(call)
                started.append(call)
        return started

    def release(self, call: InFlightCall) -> bool:
        """The call has come back, and its slot is free; False if it had been given up meanwhile."""
        self._running.discard(call)
        if self._unresolved.get(call.question) is not call:
            return False
        del self._unresolved[call.question]
        return True

    def give_up(self) -> list[InFlightCall]:
        """Forget what was asked and return it. What runs keeps its slot until it comes back."""
        given_up = list(self._unresolved.values())
        self._unresolved.clear()
        self._pending.clear()
        return given_up

    def after_fork(self) -> None:
        """What was under way is so in the parent; here nobody will ever resolve it."""
        self.give_up()
        self._running.clear()


def copy_of(error: BaseException) -> BaseException:
    """An error as a new object, for several waiters may raise it at the same time.

    Each raise writes to the exception: its traceback would grow by every waiter, and keep the
    frames of all of them. Only a foreign error that cannot be made anew is raised as it is.
    """
    try:
        copied = copy(error)
    except Exception:  # noqa: BLE001 - whatever a foreign type's __init__ raises
        try:
            # Without __init__, whose arguments are not those in `args`.
            copied = type(error).__new__(type(error), *error.args)
            copied.__dict__.update(error.__dict__)
        except Exception:  # noqa: BLE001 - whatever its __new__ raises
            return error
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = True
    return copied

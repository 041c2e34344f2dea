"""The calls of a ring to its sources: each question once at a time, and only a few at once.

No thread, no lock, no I/O; whoever waits for a call waits for its `done`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from math import inf

from ..key import Key
from .calls import ACTIVE, NAMES, InFlightCall
from .lookups import LookupQueue

__all__ = ["CallTable"]

_SLOTS = 4


class CallTable:
    """What is being asked: single flight for each question, one call at a time for each name, four in all.

    A call is pending until it is given a slot, then it runs until it is released. Look-ups of what is
    not held wait for their turn in `lookups`, which never has more than two of the slots.
    """

    def __init__(self) -> None:
        self.lookups = LookupQueue()
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
        self, question: str, ask: Callable[[], Key | None], *, kid: str = "", name: str = "", once: bool = False
    ) -> InFlightCall:
        """A new call, pending: for the active key before all others. The question must not be asked yet."""
        call = self._new(InFlightCall(self.last_number + 1, question, ask, kid=kid, name=name, once=once))
        if question == ACTIVE:
            self._pending.appendleft(call)
        else:
            self._pending.append(call)
        return call

    def add_lookup(self, question: str, ask: Callable[[], Key | None], *, kid: str = "") -> InFlightCall:
        """A new look-up of what is not held. It starts when somebody has joined it whose turn it is."""
        return self._new(
            InFlightCall(self.last_number + 1, question, ask, kid=kid, is_lookup=True, once=question == NAMES)
        )

    def join(self, call: InFlightCall, asker: Hashable) -> None:
        """Somebody waits for a look-up."""
        if call not in self._running:
            self.lookups.join(call, asker)

    def leave(self, call: InFlightCall, asker: Hashable) -> bool:
        """Somebody no longer waits for a look-up; whether it is under way. Nobody asks for what nobody waits for."""
        if self.lookups.leave(call, asker) and self._unresolved.get(call.question) is call:
            del self._unresolved[call.question]
        return call in self._running

    def fill_slots(self, now: float) -> Iterable[InFlightCall]:
        """The calls whose turn it is: they have a slot from now on, and are to be run."""
        self.lookups.next_at = inf
        names = {call.name for call in self._running}
        started: list[InFlightCall] = []
        for call in list(self._pending):
            if len(self._running) == _SLOTS:
                break
            if call.name not in names:  # one call at a time for each name, whatever the fingerprint
                self._pending.remove(call)
                started.append(self._started(call, names))
        while len(self._running) < _SLOTS and (next_one := self.lookups.take(names, now)) is not None:
            started.append(self._started(next_one, names))
        return started

    def release(self, call: InFlightCall, *, found: bool) -> bool:
        """The call has come back, and its slot is free; False if it had been given up meanwhile."""
        self._running.discard(call)
        self.lookups.release(call, found=found)
        if self._unresolved.get(call.question) is not call:
            return False
        del self._unresolved[call.question]
        return True

    def give_up(self) -> list[InFlightCall]:
        """Forget what was asked and return it. What runs keeps its slot until it comes back."""
        given_up = list(self._unresolved.values())
        self._unresolved.clear()
        self._pending.clear()
        self.lookups.clear()
        return given_up

    def after_fork(self) -> None:
        """What was under way is so in the parent; here nobody will ever resolve it."""
        self.give_up()
        self._running.clear()
        self.lookups.after_fork()

    def _new(self, call: InFlightCall) -> InFlightCall:
        self.last_number = call.number
        self._unresolved[call.question] = call
        return call

    def _started(self, call: InFlightCall, names: set[str]) -> InFlightCall:
        names.add(call.name)
        self._running.add(call)
        return call

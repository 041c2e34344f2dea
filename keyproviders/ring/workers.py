"""The threads of this package: one that keeps time and some that call, for all rings of a process.

All are daemons, so that the interpreter never waits for a place that hangs. A caller ends when
there is nothing left to call, the timekeeper when there is nothing left to wake, so a process whose
rings are closed has none.

Before a fork the threads that do nothing end, and all locks are taken; in the child every lock is
new, no thread is left, and what was under way is forgotten.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .events import log

__all__ = ["CREW", "Crew", "survive_forks"]

_Owner = TypeVar("_Owner")

_MOST_CALLERS = 32
# How long a fork, or the end of the last ring, waits for a thread that is on its way out.
_ENDING_S = 1.0


class _Wake:
    """When a ring wants to be woken. It does not keep the ring alive."""

    __slots__ = ("at", "call", "owner")

    def __init__(self, at: float, owner: object, call: Callable[[Any], None]) -> None:
        self.at = at
        self.owner = weakref.ref(owner)
        self.call = call


class Crew:
    """Runs jobs on daemon threads, at most 32 at once, and wakes rings at their times."""

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._earlier = threading.Condition(self._lock)
        self._jobs: deque[Callable[[], None]] = deque()
        self._callers: set[threading.Thread] = set()
        self._ended: list[threading.Thread] = []
        self._wakes: dict[int, _Wake] = {}
        self._order: list[tuple[float, int, int]] = []
        self._turns = 0
        self._timekeeper: threading.Thread | None = None
        self._forking = False

    def submit(self, job: Callable[[], None]) -> None:
        """Run the job on a thread. Raises RuntimeError when no thread can be started."""
        with self._lock:
            self._jobs.append(job)
            if self._forking:
                return  # it begins when the fork is over
            try:
                self._add_callers(1)
            except RuntimeError:
                if self._callers:
                    return  # it will be its turn
                self._jobs.remove(job)
                raise

    def wake_at(self, at: float, owner: _Owner, call: Callable[[_Owner], None]) -> None:
        """Call ``call(owner)`` at that monotonic time, instead of at the one that was said before."""
        with self._lock:
            self._turns += 1
            self._wakes[id(owner)] = _Wake(at, owner, call)
            heapq.heappush(self._order, (at, self._turns, id(owner)))
            if self._timekeeper is None:
                self._start_timekeeper()
            elif self._order[0][0] == at:
                self._earlier.notify_all()

    def forget(self, owner: object) -> None:
        """Wake this one no more."""
        with self._lock:
            self._wakes.pop(id(owner), None)
            self._earlier.notify_all()

    def rest(self) -> None:
        """Wait until the threads that have nothing left to do have ended."""
        with self._lock:
            ending, self._ended = self._ended, []
            if not self._wakes and self._timekeeper is not None:
                ending.append(self._timekeeper)
        _join(ending)

    def threads(self) -> list[threading.Thread]:
        """Those that there are."""
        with self._lock:
            keeper = [self._timekeeper] if self._timekeeper is not None else []
            return [*keeper, *self._callers]

    # Callers.

    def _add_callers(self, wanted: int) -> None:
        for _ in range(min(wanted, _MOST_CALLERS - len(self._callers))):
            self._ended = [thread for thread in self._ended if thread.is_alive()]
            caller = threading.Thread(target=self._call, name="keyproviders-call", daemon=True)
            self._callers.add(caller)
            try:
                caller.start()
            except BaseException:
                self._callers.discard(caller)
                raise

    def _call(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._callers.discard(threading.current_thread())
                    self._ended.append(threading.current_thread())
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:  # noqa: BLE001 - a job tells its own failures; a thread must go on
                log.exception("a call ended in an error of keyproviders itself")
            # While this thread waits for its next job, it must not keep a ring alive.
            del job

    # The timekeeper.

    def _start_timekeeper(self) -> None:
        if self._forking:
            return
        keeper = self._timekeeper = threading.Thread(target=self._keep_time, name="keyproviders-time", daemon=True)
        try:
            keeper.start()
        except RuntimeError:
            # The interpreter is ending: nothing needs to be woken any more.
            self._timekeeper = None

    def _keep_time(self) -> None:
        while True:
            with self._lock:
                call = self._next_call()
                if call is None:
                    self._timekeeper = None
                    return
            try:
                call()
            except BaseException:  # noqa: BLE001 - the other rings still need the time
                log.exception("waking a ring ended in an error of keyproviders itself")
            del call

    def _next_call(self) -> Callable[[], None] | None:
        """Wait for the next one whose time has come; None when there is no one left, or a fork wants quiet."""
        while self._wakes and not self._forking:
            at, _, number = self._order[0]
            wake = self._wakes.get(number)
            if wake is None or wake.at != at:
                heapq.heappop(self._order)
                continue
            left_s = at - time.monotonic()
            if left_s > 0 and wake.owner() is not None:
                self._earlier.wait(min(left_s, threading.TIMEOUT_MAX))
                continue
            heapq.heappop(self._order)
            del self._wakes[number]
            owner = wake.owner()
            if owner is not None:
                return partial(wake.call, owner)
        if not self._wakes:
            self._order.clear()
        return None

    # Forks.

    def before_fork(self) -> None:
        """Let idle threads end, so that a fork finds as few as possible; then take the lock."""
        with self._lock:
            self._forking = True
            self._earlier.notify_all()
            ending, self._ended = self._ended, []
            if self._timekeeper is not None:
                ending.append(self._timekeeper)
        _join(ending)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        with self._lock:
            self._forking = False
            if self._wakes and self._timekeeper is None:
                self._start_timekeeper()
            with suppress(RuntimeError):
                self._add_callers(len(self._jobs))

    def after_fork_in_child(self) -> None:
        """No thread and no lock of the parent is of any use here."""
        self._start_anew()


def _join(threads: list[threading.Thread]) -> None:
    until = time.monotonic() + _ENDING_S
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))
            # The interpreter calls a thread ended a moment before the system does, and it is the
            # system's count that a fork goes by.
            task = f"/proc/self/task/{thread.native_id}"
            while os.path.exists(task) and not thread.is_alive() and time.monotonic() < until:  # noqa: PTH110 - in a hurry
                time.sleep(0.0002)


CREW = Crew()

_Hooks = tuple[Callable[[Any], None], Callable[[Any], None], Callable[[Any], None]]

# What is done for each ring before a fork, after it in the parent, and after it in the child.
# Weakly: to be taken care of keeps no ring alive.
_members: weakref.WeakKeyDictionary[object, _Hooks] = weakref.WeakKeyDictionary()
_members_lock = threading.RLock()
_held: list[tuple[object, _Hooks]] = []
_registered = False


def survive_forks(
    owner: _Owner,
    before: Callable[[_Owner], None],
    in_parent: Callable[[_Owner], None],
    in_child: Callable[[_Owner], None],
) -> None:
    """From now on call these with ``owner`` when the process forks, as long as it lives."""
    global _registered  # noqa: PLW0603 - hooks can be registered once and never be taken back
    with _members_lock:
        _members[owner] = (before, in_parent, in_child)
        if not _registered and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
            )
            _registered = True


def _before_fork() -> None:
    # One fork at a time, and the members' locks before the crew's: a ring that has its lock may
    # call the crew, never the other way round.
    _members_lock.acquire()
    CREW.before_fork()
    _held.extend(_members.items())
    for owner, (before, _, _) in _held:
        before(owner)
    CREW._lock.acquire()  # noqa: SLF001 - the crew's own module


def _after_fork_in_parent() -> None:
    CREW._lock.release()  # noqa: SLF001 - as above
    for owner, (_, in_parent, _) in _held:
        in_parent(owner)
    _held.clear()
    CREW.after_fork_in_parent()
    _members_lock.release()


def _after_fork_in_child() -> None:
    global _members_lock  # noqa: PLW0603 - the parent's is held by a thread that is not here
    _members_lock = threading.RLock()
    CREW.after_fork_in_child()
    for owner, (_, _, in_child) in _held:
        in_child(owner)
    _held.clear()

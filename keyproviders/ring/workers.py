"""The threads of this package, for all rings of a process: workers that call, and a scheduler that wakes rings.

All are daemons, so that the interpreter never waits for a source that hangs. A worker ends when
there is no job left, the scheduler when nobody is left to wake, so a process whose rings are closed
has none.
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

__all__ = ["WORKERS", "WorkerPool"]

_Owner = TypeVar("_Owner")

_MAX_WORKERS = 32
# How long a fork, or the end of the last ring, waits for a thread that is on its way out.
_JOIN_S = 1.0


class _Alarm:
    """When a ring wants to be woken. It does not keep the ring alive."""

    __slots__ = ("at", "call", "owner")

    def __init__(self, at: float, owner: object, call: Callable[[Any], None]) -> None:
        self.at = at
        self.owner = weakref.ref(owner)
        self.call = call


class WorkerPool:
    """Runs jobs on daemon threads, at most 32 at once, and wakes rings at their times."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: in a forked child no thread and no lock of the parent is of any use."""
        #: Whoever forks holds it meanwhile, so that the child finds nothing half done.
        self.lock = threading.RLock()
        self._earlier = threading.Condition(self.lock)
        self._jobs: deque[Callable[[], None]] = deque()
        self._workers: set[threading.Thread] = set()
        self._ending: list[threading.Thread] = []
        self._alarms: dict[int, _Alarm] = {}
        self._heap: list[tuple[float, int, int]] = []
        self._alarms_set = 0
        self._scheduler: threading.Thread | None = None
        self._quiet = False

    def submit(self, job: Callable[[], None]) -> None:
        """Run the job on a thread. Raises RuntimeError when no thread can be started."""
        with self.lock:
            self._jobs.append(job)
            if self._quiet:
                return  # it begins when the fork is over
            try:
                self._add_workers(1)
            except RuntimeError:
                if self._workers:
                    return  # one of them will come to it
                self._jobs.remove(job)
                raise

    def wake_at(self, at: float, owner: _Owner, call: Callable[[_Owner], None]) -> None:
        """Call `call(owner)` at that monotonic time, instead of at the one that was set before."""
        with self.lock:
            self._alarms_set += 1
            self._alarms[id(owner)] = _Alarm(at, owner, call)
            heapq.heappush(self._heap, (at, self._alarms_set, id(owner)))
            if self._scheduler is None:
                self._start_scheduler()
            elif self._heap[0][0] == at:
                self._earlier.notify_all()

    def forget(self, owner: object) -> None:
        """Wake this one no more."""
        with self.lock:
            self._alarms.pop(id(owner), None)
            self._earlier.notify_all()

    def join_idle(self) -> None:
        """Wait until the threads that have nothing left to do have ended."""
        with self.lock:
            ending, self._ending = self._ending, []
            if not self._alarms and self._scheduler is not None:
                ending.append(self._scheduler)
        _join(ending)

    def threads(self) -> list[threading.Thread]:
        """Those that there are."""
        with self.lock:
            scheduler = [self._scheduler] if self._scheduler is not None else []
            return [*scheduler, *self._workers]

    # Around a fork.

    def quiesce(self) -> None:
        """Let idle threads end and start no others, so that a fork finds as few as possible."""
        with self.lock:
            self._quiet = True
            self._earlier.notify_all()
            ending, self._ending = self._ending, []
            if self._scheduler is not None:
                ending.append(self._scheduler)
        _join(ending)

    def resume(self) -> None:
        """Go on after `quiesce`."""
        with self.lock:
            self._quiet = False
            if self._alarms and self._scheduler is None:
                self._start_scheduler()
            with suppress(RuntimeError):
                self._add_workers(len(self._jobs))

    # Workers.

    def _add_workers(self, wanted: int) -> None:
        for _ in range(min(wanted, _MAX_WORKERS - len(self._workers))):
            self._ending = [thread for thread in self._ending if thread.is_alive()]
            worker = threading.Thread(target=self._work, name="keyproviders-call", daemon=True)
            self._workers.add(worker)
            try:
                worker.start()
            except BaseException:
                self._workers.discard(worker)
                raise

    def _work(self) -> None:
        while True:
            with self.lock:
                if not self._jobs:
                    self._workers.discard(threading.current_thread())
                    self._ending.append(threading.current_thread())
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:  # noqa: BLE001 - a job reports its own failures; a thread must go on
                log.exception("a call failed with an error in keyproviders itself")
            # While this thread waits for its next job, it must not keep a ring alive.
            del job

    # The scheduler.

    def _start_scheduler(self) -> None:
        if self._quiet:
            return
        scheduler = self._scheduler = threading.Thread(target=self._schedule, name="keyproviders-time", daemon=True)
        try:
            scheduler.start()
        except RuntimeError:
            # The interpreter is ending: nothing needs to be woken any more.
            self._scheduler = None

    def _schedule(self) -> None:
        while True:
            with self.lock:
                call = self._next_call()
                if call is None:
                    self._scheduler = None
                    return
            try:
                call()
            except BaseException:  # noqa: BLE001 - the other rings still need to be woken
                log.exception("waking a ring failed with an error in keyproviders itself")
            del call

    def _next_call(self) -> Callable[[], None] | None:
        """Wait for the next alarm that is due; None when there is none left, or a fork wants quiet."""
        while self._alarms and not self._quiet:
            at, _, number = self._heap[0]
            alarm = self._alarms.get(number)
            if alarm is None or alarm.at != at:
                heapq.heappop(self._heap)
                continue
            left_s = at - time.monotonic()
            if left_s > 0 and alarm.owner() is not None:
                self._earlier.wait(min(left_s, threading.TIMEOUT_MAX))
                continue
            heapq.heappop(self._heap)
            del self._alarms[number]
            owner = alarm.owner()
            if owner is not None:
                return partial(alarm.call, owner)
        if not self._alarms:
            self._heap.clear()
        return None


def _join(threads: list[threading.Thread]) -> None:
    until = time.monotonic() + _JOIN_S
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))
            # The interpreter calls a thread ended a moment before the system does, and it is the
            # system's count that a fork goes by.
            task = f"/proc/self/task/{thread.native_id}"
            while os.path.exists(task) and not thread.is_alive() and time.monotonic() < until:  # noqa: PTH110 - in a hurry
                time.sleep(0.0002)


WORKERS = WorkerPool()

"""The thread that writes an audit log, so that no event loop waits for a disk or for a place of keys."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections import deque
from enum import Enum

from ..events.listening import LISTENING
from .lines import Line
from .writing import Writing, end, words

__all__ = ["Writer"]

logger = logging.getLogger("encrypted_sessions")

#: So many lines wait for the disk at most; further ones are lost, or refused.
MOST_WAITING = 10_000
#: Lines that are written at once.
_MOST_AT_ONCE = 500
#: How long a line waits until somebody waits.
_SOON_S = 0.02
_CLOSE_S = 10.0
#: How long a fork waits for the thread.
_REST_S = 1.0


class _Word(Enum):
    """What the thread is told."""

    LINES = "lines"
    END = "end"
    REST = "rest"


class Writer:
    """Takes lines from any thread, and has them written in this order by a thread of its own."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._lines: deque[Line] = deque()
        self._told: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._is_told = False
        self._timed_by: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._is_quiet = False
        self._closed = False
        self._brought = self._done = 0
        self._stuck_at = -1

    @property
    def lines_lost(self) -> int:
        """How many lines could not be written."""
        return self._writing.lines_lost

    @property
    def is_behind(self) -> bool:
        """Whether a line waits to be written, and it is worth waiting for."""
        return self._done < self._brought and self._done != self._stuck_at

    def is_stuck(self) -> None:
        """Somebody waited too long: nobody else shall, until a line is written again."""
        self._stuck_at = self._done

    def bring(self, line: Line) -> None:
        """Have a line written. Its `future`, if it has one, ends when it is, or with AuditFailedError."""
        with self._lock:
            problem = ""
            if self._closed:
                problem = "it is closed"
            elif self._brought - self._done >= MOST_WAITING:
                problem = f"{MOST_WAITING:,} lines wait for its disk"
            else:
                self._brought += 1
                self._lines.append(line)
                if self._thread is not None:
                    self._tell_soon(line)
                elif not self._is_quiet:
                    self._begin_thread()
                return
        self._writing.lose(1, problem)
        end(line, problem)

    def _tell_soon(self, line: Line) -> None:
        """Tell the thread of a line: at once, or when the caller begins to wait for something.

        Who ends an operation often goes on computing. The thread would wake to find that it cannot run, and wake
        again for each moment in which the caller lets others run, as for each random number that sealing draws: dozens
        of times, at more than all else of a line takes. So it is told when a store is asked, or a moment later.
        Where the event loop has ended by then, it looks by itself within a second. A second line is told of at once: a
        kill loses the last one at most.
        """
        if line.future is None and len(self._lines) == 1 and self._writing.looks_soon:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                pass
            else:
                LISTENING.left.add(self._tell)
                if self._timed_by is not loop:
                    self._timed_by = loop
                    loop.call_later(_SOON_S, self._tell_in_time)
                return
        self._tell()

    def _tell_in_time(self) -> None:
        self._timed_by = None
        self._tell()

    def _tell(self) -> None:
        if self._lines and not self._is_told:
            self._is_told = True
            self._told.put(_Word.LINES)

    def close(self) -> None:
        """Write what is left and the last line, and end the thread. Waits 10 s at most."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            self._told.put(_Word.END)
        if thread is None:
            while self._turn() is not _Word.END:
                pass
            return
        thread.join(_CLOSE_S)
        if thread.is_alive():
            logger.error("the audit log was left open: its disk did not answer for %d s", int(_CLOSE_S))

    # Around a fork, which had better find no thread.

    def rest(self) -> None:
        """Write what was brought, and let the thread end until `go_on`."""
        with self._lock:
            thread, self._is_quiet = self._thread, True
        if thread is not None and not self._closed:
            self._told.put(_Word.REST)
            _join(thread)

    def go_on(self) -> None:
        """Go on after `rest`, if there is anything that may be to do."""
        with self._lock:
            self._is_quiet = False
            if self._brought and self._thread is None and not self._closed:
                self._begin_thread()

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the file, and write nothing to it."""
        self._writing.close()

    def _begin_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="encrypted-sessions-audit", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending
            self._thread = None
            self._turn()

    # -- The thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            told = self._turn()
            if told is _Word.END:
                return
            if told is _Word.REST:
                with self._lock:
                    if self._is_quiet:
                        self._thread = None
                        return
                # Else the fork did not wait so long.

    def _turn(self) -> _Word | None:
        """Wait for lines or for what is due, and see to it; what the thread was told then."""
        told: _Word | None
        writing, waiting = self._writing, self._lines
        left_s = writing.due_at - time.monotonic()
        is_due = left_s <= 0  # what the next lines make due comes later
        try:
            told = self._told.get(timeout=0.0 if is_due or waiting else left_s)
        except queue.Empty:
            told = None
        self._is_told = False  # first: of what is brought from now on the thread is told again
        lines: list[Line] = []
        while waiting and len(lines) < _MOST_AT_ONCE:
            lines.append(waiting.popleft())
        if waiting and told is not None:  # what it is told holds after all lines
            self._told.put(told)
            told = None
        failed: list[tuple[Line, str]] = []
        try:
            if lines:
                writing.take(lines)
            if is_due or told is _Word.END:
                self._timed_by = None  # an event loop that has ended calls nobody
                writing.do_what_is_due(is_end=told is _Word.END)
        except Exception as error:
            # Not a line's doing, so not told as one; and nobody may wait for ever.
            logger.exception("the audit log failed")
            writing.lose(len(lines), words(error))
            failed = [(line, words(error)) for line in lines]
        self._done += len(lines)  # nobody else counts here
        # Only now: who goes on finds that nothing waits.
        if writing.ended:
            writing.let_go()
        for line, problem in failed:
            end(line, problem)
        return told


def _join(thread: threading.Thread) -> None:
    until = time.monotonic() + _REST_S
    thread.join(_REST_S)
    # Python calls a thread ended a moment before the system does, and it is the system's count that a fork goes by.
    task = f"/proc/self/task/{thread.native_id}"
    while os.path.exists(task) and not thread.is_alive() and time.monotonic() < until:  # noqa: PTH110 - in a hurry
        time.sleep(0.0002)

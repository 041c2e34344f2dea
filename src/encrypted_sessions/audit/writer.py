"""The thread that writes the audit log, so that no event loop waits for a disk or for a place of keys."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from keyproviders import KeyProviderError

from .answer import audit_failure
from .chain import body
from .floods import FOLD_S, Floods
from .journal import Journal, Keys
from .line_keys import LineKeys
from .lines import Line, NameSession, now, session_names

__all__ = ["Writer"]

logger = logging.getLogger("encrypted_sessions")

#: So many lines wait for the disk at most; further ones are lost, or refused.
MOST_WAITING = 10_000
#: Lines that are written at once.
_MOST_AT_ONCE = 500
_NEVER = float("inf")
_SYNC_S = 1.0
_TELL_S = 60.0
_HASH_S = 3_600.0
#: A place of keys that does not answer is not asked again for each line.
_KEYS_REST_S = 1.0
_CLOSE_S = 10.0


class _NoKeyError(Exception):
    """The keys for a line are not to be had."""


class Writer:
    """Takes lines from any thread, and writes them in this order.

    `session_ids` is "omitted", "hashed" or "plain"; with `folds` refusals that repeat themselves are folded.
    """

    def __init__(self, journal: Journal, keys: LineKeys, session_ids: str, *, folds: bool) -> None:
        self._journal = journal
        self._keys = keys
        self._session_ids = session_ids
        self._folds = folds
        self._queue: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._brought = self._done = 0
        self._closed = False
        self._lost = 0
        self._lost_since = ""
        # From here on only the thread looks at it.
        self._floods = Floods()
        self._owed: list[Line] = []
        self._lost_in_all = 0
        self._tell_at = self._keys_at = 0.0
        self._fold_at = self._sync_at = _NEVER
        self._hash_at = time.monotonic() + _HASH_S
        self._hash_told = 0

    @property
    def lines_lost(self) -> int:
        """How many lines could not be written."""
        return self._lost_in_all

    # -- Called by those who have something to write ------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether a line waits to be written."""
        return self._done < self._brought

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
                self._queue.put(line)
                if self._thread is None:
                    self._begin_thread()
                return
        self._fail([line], problem)

    def close(self) -> None:
        """Write what is left and the last line, and end the thread. Waits 10 s at most."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is None:
            self._turn()
            return
        thread.join(_CLOSE_S)
        if thread.is_alive():
            logger.error("the audit log was left open: its disk did not answer for %d s", int(_CLOSE_S))

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the file, and write nothing to it."""
        self._journal.close()

    def _begin_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="encrypted-sessions-audit", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending
            self._thread = None
            self._turn()

    # -- The thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._turn():
            pass

    def _turn(self) -> bool:
        """Wait for lines or for what is due, and see to it; whether that was the end."""
        until = min(self._fold_at, self._sync_at, self._hash_at)
        entries: list[Line | None] = []
        with suppress(queue.Empty):
            entries.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            while len(entries) < _MOST_AT_ONCE:
                entries.append(self._queue.get_nowait())
        lines = [entry for entry in entries if entry is not None]
        is_end = len(lines) < len(entries)
        try:
            if lines:
                self._take(lines)
            self._do_what_is_due(is_end=is_end)
        except Exception as error:
            # Not a line's doing, so not told as one; and nobody may wait for ever.
            logger.exception("the audit log went wrong")
            self._fail([line for line in lines if line.future is None or not line.future.done()], _words(error))
        with self._lock:
            self._done += len(lines)
        return is_end

    def _take(self, lines: Sequence[Line]) -> None:
        """Write these, but for those that are folded."""
        left = []
        for line in lines:
            if self._is_refusal(line) and self._floods.fold(line.event):
                _end(line)
            else:
                left.append(line)
        if self._floods and self._fold_at == _NEVER:
            self._fold_at = time.monotonic() + FOLD_S
        if left:
            self._write(left)

    def _is_refusal(self, line: Line) -> bool:
        return self._folds and not line.more and bool(getattr(line.event, "refused", 0))

    def _write(self, lines: Sequence[Line]) -> None:
        """Write what is owed, then these. What cannot be written fails."""
        with self._lock:
            lost, since = self._lost, self._lost_since
        told = [Line(None, {"event": "lost", "at": now(), "lines": lost, "since": since})] if lost else []
        every = [*self._owed, *told, *lines]
        written, problem = 0, ""
        try:
            while written < len(every):
                keys = self._keys_now()
                name = session_names(self._session_ids, keys.pseudonyms)
                written += self._journal.write([_body(line, name) for line in every[written:]], keys)
        except (OSError, _NoKeyError) as error:
            problem = _words(error)
        if written >= len(self._owed) + len(told) and lost:
            with self._lock:
                self._lost -= lost
            logger.info("the audit log is written again")
            self._tell_at = 0.0
        for line in every[:written]:
            _end(line)
        failed = every[max(written, len(self._owed) + len(told)) :]
        self._owed = self._owed[written:]
        if not self._journal.is_synced and self._sync_at == _NEVER:
            self._sync_at = time.monotonic() + _SYNC_S
        if problem:
            self._fail(failed, problem)

    def _keys_now(self) -> Keys:
        if not self._keys.are_needed:
            return Keys(None, None)
        if time.monotonic() < self._keys_at:
            raise _NoKeyError("its keys could not be had a moment ago")
        try:
            return self._keys.now(self._journal.kids)
        except KeyProviderError as error:
            self._keys_at = time.monotonic() + _KEYS_REST_S
            raise _NoKeyError(f"no key came: {error}") from None

    def _fail(self, lines: Sequence[Line], problem: str) -> None:
        """Count these as lost, tell it once a minute, and have nobody wait for them."""
        with self._lock:
            self._lost_since = self._lost_since if self._lost else now()
            self._lost += len(lines)
            self._lost_in_all += len(lines)
            lost = self._lost_in_all
            is_due = time.monotonic() >= self._tell_at
            if is_due:
                self._tell_at = time.monotonic() + _TELL_S
        if is_due:
            logger.error(
                "the audit log cannot be written: %s. %d lines are missing in it so far",
                problem,
                lost,
                extra={"audit_file": self._journal.path, "lines_lost": lost},
            )
        for line in lines:
            _end(line, problem)

    # -- What is due ------------------------------------------------------------------------------------

    def _do_what_is_due(self, *, is_end: bool) -> None:
        moment = time.monotonic()
        if is_end or moment >= self._fold_at:
            self._owed = self._owed or list(self._floods.flush())
            self._fold_at = moment + FOLD_S if self._floods else _NEVER
            if self._owed:
                self._write([])
            if is_end and self._owed:
                self._fail(self._owed, "it ends")
        if is_end and self._journal.number:
            self._write([Line(None, {"event": "end", "at": now()})])
        if is_end or moment >= self._sync_at:
            self._sync_at = _NEVER
            try:
                self._journal.sync()
            except OSError as error:
                self._fail([], _words(error))
        if is_end or moment >= self._hash_at:
            self._hash_at = moment + _HASH_S
            self._tell_hash()
        if is_end:
            self._journal.close()

    def _tell_hash(self) -> None:
        """What is to be kept elsewhere: only so it shows that somebody cut off the end."""
        number, path = self._journal.number, self._journal.path
        if number == self._hash_told:
            return
        self._hash_told = number
        logger.info(
            "the audit log has %d lines so far; to be kept elsewhere, for `audit verify --until`: %d:%s",
            number,
            number,
            self._journal.hash,
            extra={"audit_file": path, "line": number, "hash": self._journal.hash},
        )


def _body(line: Line, name_session: NameSession) -> bytes:
    try:
        return body(line.fields(name_session))
    except (AttributeError, TypeError, ValueError):
        logger.exception("the audit log cannot show a %s as it is", type(line.event).__name__)
        return body({"event": "unknown", "at": now(), "class": type(line.event).__name__})


def _end(line: Line, problem: str = "") -> None:
    if line.future is None:
        return
    with suppress(InvalidStateError):  # nobody waited for it any longer
        if problem:
            line.future.set_exception(audit_failure(problem, in_doubt=line.in_doubt))
        else:
            line.future.set_result(None)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error) or type(error).__name__



"""What the thread of an audit log does: lines are written, counted where they cannot be, folded, synced and told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress

from keyproviders import KeyProviderError

from .answer import audit_failure
from .chain import as_json
from .floods import FOLD_S, Floods
from .journal import Journal, Keys
from .line_keys import LineKeys
from .lines import Line, NameSession, now, session_names

__all__ = ["Writing", "end", "words"]

logger = logging.getLogger("encrypted_sessions")

_NEVER = float("inf")
_SYNC_S = 1.0
_TELL_S = 60.0
_HASH_S = 3_600.0
#: A place of keys that does not answer is not asked again for each line.
_KEYS_REST_S = 1.0


class _NoKeyError(Exception):
    """The keys for a line are not to be had."""


class Writing:
    """Writes lines to a journal. All but `lose` and `lines_lost` is for one thread.

    `session_ids` is "omitted", "hashed" or "plain"; with `folds` refusals that repeat themselves are folded.
    """

    def __init__(self, journal: Journal, keys: LineKeys, session_ids: str, *, folds: bool) -> None:
        self._journal = journal
        self._keys = keys
        self._session_ids = session_ids
        self._keyless = None if keys.are_needed else (Keys(None, None), session_names(session_ids, None))
        self._folds = folds
        self._floods = Floods()
        self._owed: list[Line] = []
        self.ended: list[tuple[Line, str]] = []
        """Lines that are written or lost, and the problem; those who wait for them are to be told."""
        self._keys_at = 0.0
        self._fold_at = self._sync_at = _NEVER
        self._hash_at = self.due_at = time.monotonic() + _HASH_S
        """When the next thing is due, by the monotonic clock."""
        self._hash_told = 0
        # What could not be written: in all, since a line last said so, and from when on.
        self._lock = threading.Lock()
        self.lines_lost = 0
        self._lost = 0
        self._lost_since = ""
        self._tell_at = 0.0

    @property
    def looks_soon(self) -> bool:
        """Whether something is due within a second."""
        return self._sync_at != _NEVER

    def take(self, lines: Sequence[Line]) -> None:
        """Write these, but for those that are folded."""
        if self._folds:
            for line in lines:
                if getattr(line.event, "refused", 0):
                    lines = [line for line in lines if not self._is_folded(line)]
                    break
        if lines:
            self._write(lines)

    def _is_folded(self, refusal: Line) -> bool:
        if refusal.more or not getattr(refusal.event, "refused", 0):  # what has more tells of several
            return False
        if self._fold_at == _NEVER:
            self._fold_at = time.monotonic() + FOLD_S
            self._set_due()
        if not self._floods.fold(refusal.event):
            return False
        self.ended.append((refusal, ""))
        return True

    def _write(self, lines: Sequence[Line]) -> None:
        """Write what is owed, then these. What cannot be written fails."""
        owed, lost = self._owed, self._lost
        if lost:
            with self._lock:
                lost, since = self._lost, self._lost_since
            owed = [*owed, Line(None, {"event": "lost", "at": now(), "lines": lost, "since": since})]
        every = [*owed, *lines] if owed else lines
        written, problem = 0, ""
        try:
            while written < len(every):
                keys, name = self._keyless or self._keyed()
                said = []
                for line in every[written:]:
                    said.append(_said(line, name))  # noqa: PERF401 - in a function of its own it takes longer
                written += self._journal.write(said, keys)
        except (OSError, _NoKeyError) as error:
            problem = words(error)
        if lost and written >= len(owed):
            with self._lock:
                self._lost -= lost
            logger.info("the audit log can be written again")
        if self._sync_at == _NEVER:
            self._sync_at = time.monotonic() + _SYNC_S
            self._set_due()
        for line in every[:written]:
            if line.future is not None:
                self.ended.append((line, ""))
        self._owed = self._owed[written:]
        if problem:
            failed = every[max(written, len(owed)) :]
            self.ended += [(line, problem) for line in failed]
            self.lose(len(failed), problem)

    def _keyed(self) -> tuple[Keys, NameSession]:
        """The keys of now, which are held nowhere, and how sessions are named by them."""
        if time.monotonic() < self._keys_at:
            raise _NoKeyError("its keys were not available a moment ago")
        try:
            keys = self._keys.now(self._journal.kids)
        except KeyProviderError as error:
            self._keys_at = time.monotonic() + _KEYS_REST_S
            raise _NoKeyError(f"no key could be fetched: {error}") from None
        return keys, session_names(self._session_ids, keys.pseudonyms)

    def let_go(self) -> None:
        """Tell those who wait what became of their lines."""
        ended, self.ended = self.ended, []
        for line, problem in ended:
            end(line, problem)

    def lose(self, lines: int, problem: str) -> None:
        """Count lines as lost, and tell it once a minute."""
        with self._lock:
            self._lost_since = self._lost_since if self._lost else now()
            self._lost += lines
            self.lines_lost += lines
            lost = self.lines_lost
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

    # -- What is due ------------------------------------------------------------------------------------

    def do_what_is_due(self, *, is_end: bool) -> None:
        """Fold, sync and tell; at the end all of it, and the line `end`."""
        moment = time.monotonic()
        if is_end or moment >= self._fold_at:
            self._owed = self._owed or list(self._floods.flush())
            self._fold_at = moment + FOLD_S if self._floods else _NEVER
            if self._owed:
                self._write([])
            if is_end and self._owed:
                self.lose(len(self._owed), "it is being closed")
        if is_end and self._journal.number:
            self._write([Line(None, {"event": "end", "at": now()})])
        if is_end or moment >= self._sync_at:
            self._sync_at = _NEVER
            try:
                self._journal.sync()
            except OSError as error:
                self.lose(0, words(error))
        if is_end or moment >= self._hash_at:
            self._hash_at = moment + _HASH_S
            self._tell_hash()
        self._set_due()
        if is_end:
            self.close()

    def _set_due(self) -> None:
        self.due_at = min(self._fold_at, self._sync_at, self._hash_at)

    def close(self) -> None:
        """Let go of the file."""
        self._journal.close()

    def _tell_hash(self) -> None:
        """What is to be kept elsewhere: only so it shows that somebody cut off the end."""
        number, path = self._journal.number, self._journal.path
        if number == self._hash_told:
            return
        self._hash_told = number
        logger.info(
            "the audit log has %d lines so far; keep this elsewhere, for `audit verify --until`: %d:%s",
            number,
            number,
            self._journal.hash,
            extra={"audit_file": path, "line": number, "hash": self._journal.hash},
        )


def _said(line: Line, name_session: NameSession) -> str:
    try:
        return line.said(name_session)
    except (AttributeError, TypeError, ValueError):
        logger.exception("the audit log cannot represent a %s exactly", type(line.event).__name__)
        return as_json({"event": "unknown", "at": now(), "class": type(line.event).__name__})


def end(line: Line, problem: str) -> None:
    """Tell who waits for a line that it is written, or what the problem is."""
    if line.future is None:
        return
    with suppress(InvalidStateError):  # nobody waited for it any longer
        if problem:
            line.future.set_exception(audit_failure(problem, in_doubt=line.in_doubt))
        else:
            line.future.set_result(None)


def words(error: Exception) -> str:
    """What went wrong, with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error) or type(error).__name__

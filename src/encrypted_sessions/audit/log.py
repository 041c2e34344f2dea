"""The hook that writes an audit log."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from keyproviders import redact_frames

from .._support.origin import host_name, library_version, user_name
from ..events.hooks import Recorder
from ..events.shapes import SessionEvent
from .answer import Answer, audit_failure
from .files import checked_folder
from .journal import Journal
from .line_keys import LineKeys
from .lines import Line, is_known, session_names
from .writer import Writer
from .writing import Writing

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from keyproviders import KeyRing

__all__ = ["AuditLog"]

FORMAT = 1

_SESSION_IDS = ("omitted", "hashed", "plain")
_ON_FAILURE = ("continue", "refuse")
_SYNC = ("second", "always", "never")
_LEAST_BYTES = 4_096

#: So long a caller waits for its line.
_REFUSED_AFTER_S = 10.0
_LET_GO_AFTER_S = 2.0

#: What an operation that has not begun has not found or done.
_NOT_YET = ("uses", "refused", "removed", "findings", "error", "took_s")

# The folders that have a log in this process, by device and inode.
_folders: weakref.WeakValueDictionary[tuple[int, int], AuditLog] = weakref.WeakValueDictionary()
_logs: weakref.WeakSet[AuditLog] = weakref.WeakSet()
_lock = threading.Lock()


class AuditLog(Recorder):
    """Writes each event as a line of JSON into files of a folder, chained so that no line can be altered unnoticed.

    It is a hook: `observe(log)` for the whole process, `on_event=log` for a session. A separate thread writes the
    lines. If a line has to wait for an earlier one, the event loop is not blocked. A forked child starts its own
    file. Close the log at the end, or use `with`.

    Args:
        folder: The folder of the files. Only its owner may be able to write to it.
        session_ids: "omitted", "plain", or "hashed": as HMAC-SHA256 under the active key of `pseudonym_keys`.
        pseudonym_keys: A ring or a URL that is used for nothing else, not that of the sessions. Destroying its keys
            makes the log anonymous.
        chain_keys: A ring or a URL. With it, lines are chained by HMAC-SHA256, so that whoever can write to the files
            cannot chain them again.
        on_failure: What happens to an operation that cannot be recorded. "continue": it is carried out, the missing
            lines are counted, and a log record says so once a minute. "refuse": AuditFailedError.
        rotate_bytes: When a file has reached this size, the next line starts another file.
        sync: When lines are flushed to the disk: within a "second", "always" before they count as written, or
            "never", which leaves it to the operating system.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed, the folder is missing, other users may write to it,
            or another AuditLog of this process uses it.
        ProviderConfigError: A URL is not that of a place of keys.
    """

    @redact_frames
    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        session_ids: Literal["omitted", "hashed", "plain"] = "omitted",
        pseudonym_keys: KeyRing | str | None = None,
        chain_keys: KeyRing | str | None = None,
        on_failure: Literal["continue", "refuse"] = "continue",
        rotate_bytes: int = 64 << 20,
        sync: Literal["second", "always", "never"] = "second",
    ) -> None:
        self._session_ids = _choice(session_ids, "session_ids", _SESSION_IDS)
        self._refuse: bool = _choice(on_failure, "on_failure", _ON_FAILURE) == "refuse"
        self._sync = _choice(sync, "sync", _SYNC)
        if type(rotate_bytes) is not int:
            raise TypeError(f"rotate_bytes must be an int, not {type(rotate_bytes).__name__}")
        if rotate_bytes < _LEAST_BYTES:
            raise ValueError(f"rotate_bytes must be {_LEAST_BYTES:,} or more, not {rotate_bytes:,}")
        self._rotate_bytes = rotate_bytes
        # A pseudonym's key is asked for where callers do not wait for it.
        self._name_session = None if session_ids == "hashed" else session_names(session_ids, None)
        if (session_ids == "hashed") != (pseudonym_keys is not None):
            raise ValueError(
                'session_ids="hashed" and pseudonym_keys go together: give a key ring, or its URL, that is'
                " used for nothing else"
            )
        self._folder = checked_folder(folder)
        self._keys = LineKeys(chain_keys, pseudonym_keys)
        self._claim()
        self._asked: set[int] = set()
        self._begin()
        _logs.add(self)

    def _claim(self) -> None:
        status = os.stat(self._folder)  # noqa: PTH116 - text is all it takes
        place = (status.st_dev, status.st_ino)
        with _lock:
            if place in _folders:
                raise ValueError(f"another AuditLog of this process writes to {self._folder}; close that one first")
            _folders[place] = self
        self._place = place

    def _begin(self) -> None:
        about = {
            "format": FORMAT,
            "library": f"encrypted-sessions {library_version()}",
            "host": host_name(),
            "user": user_name(),
            "pid": os.getpid(),
            "session_ids": self._session_ids,
            "on_failure": "refuse" if self._refuse else "continue",
        }
        journal = Journal(self._folder, about, self._rotate_bytes, self._sync, looks_always=self._refuse)
        self._writer = Writer(Writing(journal, self._keys, self._session_ids, folds=not self._refuse))
        # Also where nobody closes it: when it is let go of, or the process ends.
        self._finalizer = weakref.finalize(self, _end, self._writer, self._keys)

    def _begin_in_child(self) -> None:
        """In a forked child the file, the thread and what waits to be written are the parent's."""
        is_open = self._finalizer.detach() is not None
        self._writer.leave_to_parent()
        self._asked = set()
        self._begin()
        if not is_open:
            self._finalizer()

    # -- The hook ---------------------------------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether it takes note of what is to be done."""
        return self._refuse

    @property
    def refuses(self) -> bool:  # type: ignore[override]  # it changes
        """Whether callers have to wait: with "refuse", and if an earlier line is not written yet.

        So a kill loses at most the last line.
        """
        return self._refuse or self._writer.is_behind

    def __call__(self, event: Any) -> None:
        """Write an event, which nobody waits for."""
        if type(event) is SessionEvent or is_known(event):
            self._bring(Line(event))

    def before(self, event: Any) -> Future[None]:
        """Write what is about to be done."""
        if not (self._refuse and is_known(event)):
            return _done()
        is_command = hasattr(event, "phase")
        self._asked.add(event.sequence)
        answer = self._brought(event, {} if is_command else {"event": "intent"}, without=_NOT_YET)
        answer.add_done_callback(partial(self._forget_refused, event.sequence))
        return answer

    def _forget_refused(self, sequence: int, answer: Future[None]) -> None:
        """What was refused is not in doubt."""
        if answer.exception() is not None:
            self._asked.discard(sequence)

    def after(self, event: Any) -> Future[None]:
        """Write what was done."""
        if not is_known(event) or self._is_begun(event):
            return _done()
        was_asked = event.sequence in self._asked
        self._asked.discard(event.sequence)
        return self._brought(event, {}, in_doubt=was_asked)

    def _is_begun(self, event: Any) -> bool:
        """Whether it is the start of a command, which was written when it was asked for."""
        return getattr(event, "phase", None) == "start" and event.sequence in self._asked

    def _brought(
        self, event: Any, more: Mapping[str, Any], *, without: tuple[str, ...] = (), in_doubt: bool = False
    ) -> Answer:
        if self._refuse:
            late = f"its disk did not answer for {int(_REFUSED_AFTER_S)} s"
            answer = Answer(_REFUSED_AFTER_S, audit_failure(late, in_doubt=in_doubt))
        else:
            answer = Answer(_LET_GO_AFTER_S, on_late=self._writer.is_stuck)
        self._bring(Line(event, more, without=without, future=answer, in_doubt=in_doubt))
        return answer

    def _bring(self, line: Line) -> None:
        if self._name_session is not None:
            line.say(self._name_session)
        self._writer.bring(line)

    @property
    def lines_lost(self) -> int:
        """How many lines could not be written in this process."""
        return self._writer.lines_lost

    # -- The end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Write the remaining lines and `end`, within 10 s at most. Later events are not recorded, or are refused."""
        self._finalizer()
        with _lock:
            if _folders.get(self._place) is self:
                del _folders[self._place]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AuditLog in {self._folder}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "an AuditLog cannot be pickled: each process writes its own files; make one in the other process"
        )


def _end(writer: Writer, keys: LineKeys) -> None:
    writer.close()
    keys.close()


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def _choice(value: object, argument: str, words: tuple[str, ...]) -> Any:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if value not in words:
        raise ValueError(f"{argument} must be {', '.join(map(repr, words[:-1]))} or {words[-1]!r}, not {value!r}")
    return value


def _before_fork() -> None:
    for log in list(_logs):
        log._writer.rest()  # noqa: SLF001 - this module's own


def _after_fork_in_parent() -> None:
    for log in list(_logs):
        log._writer.go_on()  # noqa: SLF001 - likewise


def _begin_in_child() -> None:
    global _lock  # noqa: PLW0603 - a forked child is another process
    _lock = threading.Lock()
    for log in list(_logs):
        log._begin_in_child()  # noqa: SLF001 - likewise


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_begin_in_child)

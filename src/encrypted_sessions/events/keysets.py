"""The start and the end of what is done to a keyset: of a command, and of a change that a program makes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from datetime import datetime, timezone

from keyproviders import KeysetCall, observe_keysets

from .context import context_now
from .hooks import next_sequence, tell_failure_sync, tell_start_sync, tell_sync
from .listening import LISTENING
from .shapes import KeysetEvent, Phase

__all__ = ["KeysetRun", "watch_keysets"]

#: A change that a command makes is told with the command.
_in_command: ContextVar[bool] = ContextVar("encrypted_sessions_keyset_command", default=False)


class KeysetRun:
    """One of them, for those who listen when it starts."""

    def __init__(self, command: str, place: str, key: str | None, reason: str | None) -> None:
        self._command = command
        self._place = place
        self._reason = reason
        self._hooks = LISTENING.hooks
        self._sequence = next_sequence()
        self._began = time.perf_counter()
        self._token: Token[bool] = _in_command.set(True)
        self._key = key

    def start(self) -> None:
        """Tell that it starts. Raises what keeps a recorder from taking note; `end` is to be called in any case."""
        tell_start_sync(self._hooks, self._event("start", None))

    def end(self, key: str | None, error: BaseException | None, name: str | None = None) -> None:
        """Tell its end, the key that it was about, and what was raised, which may go by another name.

        Raises what keeps a recorder from taking note.
        """
        _in_command.reset(self._token)
        self._key = key
        if error is None:
            tell_sync(self._hooks, self._event("end", None))
        else:
            tell_failure_sync(self._hooks, self._event("end", name or type(error).__name__), error)

    def _event(self, phase: Phase, error: str | None) -> KeysetEvent:
        took_s = 0.0 if phase == "start" else time.perf_counter() - self._began
        at = datetime.now(timezone.utc)
        own = (self._command, phase, self._place, self._key, self._reason)
        return KeysetEvent(at, self._sequence, *own, error, took_s, context_now())


def _change_begins(call: KeysetCall) -> Callable[[str | None, BaseException | None], object] | None:
    if _in_command.get() or not LISTENING.hooks:
        return None
    run = KeysetRun(*call)
    try:
        run.start()
    except BaseException as error:
        run.end(call.key, error)
        raise
    return run.end


_once = threading.Lock()


def watch_keysets() -> None:
    """From now on what programs do by `KeysetManager` is told, too."""
    if _once.acquire(blocking=False):
        observe_keysets(_change_begins)

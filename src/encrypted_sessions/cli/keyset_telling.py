"""Have a command `keys ...` told: its start, and its end, however it ends."""

from __future__ import annotations

import time
from types import TracebackType

import typer
from typing_extensions import Self

from ..errors import AuditFailedError
from ..events.listening import LISTENING
from .errors import failed
from .exit_codes import FAILED

__all__ = ["KeysetCommand"]


class KeysetCommand:
    """For a `with` statement: one command. `begin` says which keyset it is about, once it is known.

    Attributes:
        key: The name of the key that it is about; also of one that it made.
    """

    def __init__(self, command: str, key: str | None = None, reason: str | None = None) -> None:
        self.key = key
        self._command = command
        self._reason = reason
        self._place: str | None = None
        self._error: str | None = None
        self._sequence = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def begin(self, place: str) -> None:
        """Tell the start, unless it was told. Raises what keeps a recorder from taking note."""
        if not LISTENING.hooks or self._place is not None:
            return
        from ..events.hooks import next_sequence, tell_start_sync  # noqa: PLC0415 - nobody listens mostly

        self._place, self._sequence, self._began = place, next_sequence(), time.perf_counter()
        tell_start_sync(LISTENING.hooks, self._event("start"))

    def failed(self, error: BaseException) -> None:
        """What went wrong, before it becomes words and an exit code."""
        self._error = type(error).__name__

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._place is None:
            return
        from ..events.hooks import tell_failure_sync, tell_sync  # noqa: PLC0415 - as above

        if self._error is None and error is not None:
            # What ends a command in words of its own is a refusal.
            is_refusal = isinstance(error, typer.Exit) and error.exit_code == FAILED
            self._error = "KeysetRefusedError" if is_refusal else type(error).__name__
        try:
            if error is None:
                tell_sync(LISTENING.hooks, self._event("end"))
            else:
                tell_failure_sync(LISTENING.hooks, self._event("end"), error)
        except AuditFailedError as refusal:
            problem = str(refusal)
        else:
            return
        if self._error != "AuditFailedError":  # else it was said already
            raise failed(problem)

    def _event(self, phase: str) -> object:
        from datetime import datetime, timezone  # noqa: PLC0415 - as above

        from ..events.context import context_now  # noqa: PLC0415 - as above
        from ..events.shapes import KeysetEvent  # noqa: PLC0415 - as above

        is_start = phase == "start"
        return KeysetEvent(
            datetime.now(timezone.utc),
            self._sequence,
            self._command,
            "start" if is_start else "end",
            self._place or "",
            self.key,
            self._reason,
            None if is_start else self._error,
            0.0 if is_start else time.perf_counter() - self._began,
            context_now(),
        )

"""Have a command `keys ...` told: its start, and its end, however it ends."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import typer
from typing_extensions import Self

from ..errors import AuditFailedError
from ..events.listening import LISTENING
from .errors import failed
from .exit_codes import FAILED

if TYPE_CHECKING:
    from ..events.keysets import KeysetRun

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
        self._run: KeysetRun | None = None
        self._error: str | None = None

    def __enter__(self) -> Self:
        return self

    def begin(self, place: str) -> None:
        """Tell the start, unless it was told. Raises what keeps a recorder from taking note."""
        if not LISTENING.hooks or self._run is not None:
            return
        from ..events.keysets import KeysetRun  # noqa: PLC0415 - nobody listens mostly

        self._run = KeysetRun(self._command, place, self.key, self._reason)
        self._run.start()

    def failed(self, error: BaseException) -> None:
        """What went wrong, before it becomes words and an exit code."""
        self._error = type(error).__name__

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None:
            return
        if self._error is None and error is not None:
            # What ends a command in words of its own is a refusal.
            is_refusal = isinstance(error, typer.Exit) and error.exit_code == FAILED
            self._error = "KeysetRefusedError" if is_refusal else type(error).__name__
        try:
            self._run.end(self.key, error, self._error)
        except AuditFailedError as refusal:
            problem = str(refusal)
        else:
            return
        if self._error != "AuditFailedError":  # else it was said already
            raise failed(problem)

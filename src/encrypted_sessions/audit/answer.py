"""What a caller waits for until its line is written, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress

from ..errors import AuditFailedError

__all__ = ["Answer", "audit_failure"]


def audit_failure(problem: str, *, in_doubt: bool) -> AuditFailedError:
    """What is raised for a line that could not be written."""
    effect = (
        ("The operation took place, or may have taken place")
        if in_doubt
        else "Nothing was done, and nothing is returned"
    )
    return AuditFailedError(f"the audit log cannot be written: {problem}. {effect}", in_doubt=in_doubt)


class Answer(Future[None]):
    """Ends when a line is written, or cannot be, or after so many seconds.

    With `late` a failure is the caller's as well, and `late` what is raised when it took too long. `on_late` is called
    then.
    """

    def __init__(
        self, limit_s: float, late: AuditFailedError | None = None, on_late: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        self._on_late = on_late
        self._limit_s = limit_s
        self._late = late
        with suppress(RuntimeError):  # there is no loop where nothing is awaited
            loop = asyncio.get_running_loop()
            timer = loop.call_later(limit_s, self._give_up)

            def stop(_: object) -> None:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(timer.cancel)

            self.add_done_callback(stop)

    def set_exception(self, exception: BaseException | None) -> None:
        """The line could not be written."""
        if self._late is None:
            self.set_result(None)
        else:
            super().set_exception(exception)

    def result(self, timeout: float | None = None) -> None:
        """Wait for the end, which comes in time."""
        if timeout is None:
            with suppress(FutureTimeoutError):
                self.exception(self._limit_s)
            self._give_up()
        super().result(timeout)

    def _give_up(self) -> None:
        if self.done():
            return
        if self._on_late is not None:
            self._on_late()
        with suppress(InvalidStateError):
            self.set_exception(self._late)

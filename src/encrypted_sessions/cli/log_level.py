"""`--log-level`: what keys and sessions log goes to stderr."""

# No `from __future__ import annotations`, as in `commands`.
import functools
import inspect
import logging
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .._support.terminal import escaped

__all__ = ["LEVELS", "LogLevel", "with_log_level"]

#: From the most to the least that is shown.
LEVELS = ("debug", "info", "warning", "error")

#: None of another package: what SDKs log at `debug` may hold secrets.
_LOGGERS = ("encrypted_sessions", "keyproviders")


class _Line(logging.Formatter):
    """One line of a record, in UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 - as logging calls it
        """Its time, to the second."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


class _ToStderr(logging.Handler):
    """Writes to what stderr is at that moment: while there is a progress bar, above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(escaped(self.format(record)), file=sys.stderr)  # noqa: T201 - as its name says


def _show_logs(level: str | None) -> str | None:
    """Show what is logged from that level on. Ends the command where it is none."""
    if level is None:
        return None
    name = level.lower()
    if name not in LEVELS:
        raise typer.BadParameter(f"must be one of {', '.join(LEVELS)}")
    handler = _ToStderr(name.upper())
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for logger in map(logging.getLogger, _LOGGERS):
        for other in [one for one in logger.handlers if isinstance(one, _ToStderr)]:
            logger.removeHandler(other)
        logger.addHandler(handler)
        logger.setLevel(name.upper())
    return name


LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        callback=_show_logs,
        show_default=False,
        help=f"Show log records of this level and above on stderr: {', '.join(LEVELS)}.",
    ),
]


def with_log_level(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with the option, which typer finds in its signature."""

    @functools.wraps(command)
    def run(*arguments: Any, log_level: str | None = None, **options: Any) -> Any:  # noqa: ARG001 - it is at work already
        return command(*arguments, **options)

    option = inspect.Parameter("log_level", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=LogLevel)
    signature = inspect.signature(command)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]  # as inspect reads it
    run.__annotations__ = {**command.__annotations__, "log_level": LogLevel}
    return run

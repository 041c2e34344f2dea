"""What a command writes cannot always be written: the disk is full, or nobody reads any more."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .._support.terminal import escaped
from .exit_codes import FAILED

__all__ = ["OutputError", "ended_output"]


class OutputError(Exception):
    """Stdout takes no more. Not an OSError: those are what stores and files raise, and are told as such."""


class _Stdout(io.TextIOWrapper):
    """Stdout, whose failures cannot be taken for another's."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError from error


class _Stderr(io.TextIOWrapper):
    """Stderr, whose failures nobody can be told: the command goes on, and its exit code stays."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


@contextmanager
def ended_output() -> Iterator[None]:
    """Around a command: what stdout does not take ends it with 1 and one line, or quietly where nobody reads."""
    sys.stdout, sys.stderr = _over(sys.stdout, _Stdout), _over(sys.stderr, _Stderr)
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OutputError as error:
        cause = error.__cause__
        _discard_stdout()
        if isinstance(cause, OSError) and not isinstance(cause, BrokenPipeError):
            print(f"Error: the output cannot be written: {escaped(cause.strerror or str(cause))}", file=sys.stderr)  # noqa: T201 - typer may be what is missing
        sys.exit(FAILED)


def _over(stream: object, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """The same stream of that kind. What is not Python's own stream of text, stays as it is."""
    if type(stream) is not io.TextIOWrapper:
        return stream  # type: ignore[return-value]  # None, or what somebody put there
    how = {"encoding": stream.encoding, "errors": stream.errors}
    over = kind(stream.buffer, line_buffering=stream.line_buffering, write_through=stream.write_through, **how)
    over.beneath = stream  # type: ignore[attr-defined]  # kept: who lets go of it, closes it
    return over


def _discard_stdout() -> None:
    """Python flushes what is left when it ends, and would complain once more."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)

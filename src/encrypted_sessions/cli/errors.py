"""How a command says what went wrong: one sentence on stderr, and an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from .._support.similar import did_you_mean
from .._support.terminal import escaped, is_terminal, styled, wrapped
from .exit_codes import FAILED, INTERRUPTED

__all__ = [
    "Failure",
    "add_hint",
    "checked",
    "failed",
    "interrupted",
    "print_error",
    "say",
    "silence_loggers",
    "wrong_use",
]

_T = TypeVar("_T")


class Failure(typer.Exit):
    """A command that could not do its work, and has said so on stderr. `kind` is the name of an error's class."""

    def __init__(self, exit_code: int, problem: str, kind: str | None) -> None:
        super().__init__(exit_code)
        self.problem = problem
        self.kind = kind


class _WrongUse(typer.BadParameter):
    kind: str | None = None


def say(text: str, *, err: bool = False) -> None:
    """Print sentences, each line of them in lines that fit; on stderr only a terminal's are wrapped."""
    lines = escaped(text).split("\n")
    if not err or is_terminal(sys.stderr):
        stream = sys.stderr if err else sys.stdout
        lines = [part for line in lines for part in wrapped(line, stream=stream)]
    typer.echo("\n".join(lines), err=err)


def print_error(problem: str) -> None:
    """One line on stderr, or as many as a terminal needs."""
    text = escaped(f"Error: {problem}")
    lines = wrapped(text, stream=sys.stderr) if is_terminal(sys.stderr) else [text]
    lines[0] = styled("Error:", "bad", sys.stderr) + lines[0].removeprefix("Error:")
    typer.echo("\n".join(lines), err=True)


def failed(problem: str, exit_code: int = FAILED, *, kind: str = "RuntimeError") -> Failure:
    """Say what went wrong; to be raised. `kind` is the name of an error's class, for programs."""
    print_error(problem)
    return Failure(exit_code, problem, kind)


def interrupted(sentence: str = "Interrupted.") -> Failure:
    """Say that somebody broke it off; to be raised."""
    typer.echo(sentence, err=True)
    return Failure(INTERRUPTED, sentence, "KeyboardInterrupt")


def add_hint(error: Any) -> None:
    """Have what typer raises for an option that is none say which may have been meant, as everything here does."""
    if possible := getattr(error, "possibilities", None):
        error.message = f"{error.message.rstrip('.')}.{did_you_mean(error.option_name, possible)}"
        error.possibilities = None


def wrong_use(problem: str, option: str | None = None, *, kind: str | None = None) -> typer.BadParameter:
    """To be raised outside of any `except`: an error's context holds frames, and these what was given."""
    error = _WrongUse(problem, param_hint=option)
    error.kind = kind
    return error


def checked(check: Callable[..., _T], *values: object, hint: Callable[[], str] | None = None) -> _T:
    """What `check` gives of what was given; wrong use ends the command, with a hint at what may have been meant."""
    try:
        return check(*values)
    except (TypeError, ValueError) as error:
        problem = str(error)
    meant = "" if hint is None else hint()
    raise wrong_use(f"{problem}.{meant}" if meant else problem)


def silence_loggers(*names: str) -> None:
    """Keep what these loggers say off stderr: what goes wrong is reported once, by the command."""
    for name in names:
        logging.getLogger(name).addHandler(logging.NullHandler())

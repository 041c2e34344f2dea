"""How a command says what went wrong: one sentence on stderr, and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import typer

from .exit_codes import FAILED, INTERRUPTED

__all__ = ["Failure", "checked", "failed", "interrupted", "silence_loggers", "wrong_use"]

_T = TypeVar("_T")


class Failure(typer.Exit):
    """A command that could not do its work, and has said so on stderr. `kind` is the name of an error's class."""

    def __init__(self, exit_code: int, problem: str, kind: str | None) -> None:
        super().__init__(exit_code)
        self.problem = problem
        self.kind = kind


class _WrongUse(typer.BadParameter):
    kind: str | None = None


def failed(problem: str, exit_code: int = FAILED, *, kind: str = "RuntimeError") -> Failure:
    """Say what went wrong; to be raised. `kind` is the name of an error's class, for programs."""
    typer.echo(f"Error: {problem}", err=True)
    return Failure(exit_code, problem, kind)


def interrupted(sentence: str = "Interrupted.") -> Failure:
    """Say that somebody broke it off; to be raised."""
    typer.echo(sentence, err=True)
    return Failure(INTERRUPTED, sentence, "KeyboardInterrupt")


def wrong_use(problem: str, option: str | None = None, *, kind: str | None = None) -> typer.BadParameter:
    """To be raised outside of any `except`: an error's context holds frames, and these what was given."""
    error = _WrongUse(problem, param_hint=option)
    error.kind = kind
    return error


def checked(check: Callable[..., _T], *values: object) -> _T:
    """What `check` gives of what was given; wrong use ends the command."""
    try:
        return check(*values)
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise wrong_use(problem)


def silence_loggers(*names: str) -> None:
    """Keep what these loggers say off stderr: what goes wrong is reported once, by the command."""
    for name in names:
        logging.getLogger(name).addHandler(logging.NullHandler())

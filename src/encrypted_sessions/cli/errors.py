"""How a command says what went wrong: one sentence on stderr, and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import typer

from .exit_codes import FAILED, INTERRUPTED

__all__ = ["checked", "failed", "interrupted", "silence_loggers", "wrong_use"]

_T = TypeVar("_T")


def failed(problem: str, exit_code: int = FAILED) -> typer.Exit:
    """Say what went wrong; to be raised."""
    typer.echo(f"Error: {problem}", err=True)
    return typer.Exit(exit_code)


def interrupted(sentence: str = "Interrupted.") -> typer.Exit:
    """Say that somebody broke it off; to be raised."""
    typer.echo(sentence, err=True)
    return typer.Exit(INTERRUPTED)


def wrong_use(problem: str, option: str | None = None) -> typer.BadParameter:
    """To be raised outside of any `except`: an error's context holds frames, and these what was given."""
    return typer.BadParameter(problem, param_hint=option)


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

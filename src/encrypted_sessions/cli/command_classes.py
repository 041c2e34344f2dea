"""What typer's own commands do not: help as wide as the terminal, and wrong use with what may have been meant."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from .._support.similar import did_you_mean
from .._support.terminal import styled, terminal_width, wrapped
from .errors import add_hint, print_error
from .log_level import with_log_level
from .once import OnceCommand

__all__ = ["HELP_OPTIONS", "use_classes"]

#: For the settings of the application.
HELP_OPTIONS = {"help_option_names": ["--help", "-h"]}

#: Help is easier to read when it is not too wide.
_WIDEST_HELP = 100

_HEADS = re.compile(r"^(Usage:|Arguments:|Options:|Commands:)", re.MULTILINE)

#: What newer typers add to the name of an argument: it tells an operator nothing.
_TYPE = " <str>"

# Of typer's click, whichever that is: newer typers bring their own.
_UsageError: Any = typer.BadParameter.__mro__[1]


class _Command(OnceCommand):
    def get_help(self, ctx: Any) -> str:
        """Its help, as wide as the terminal."""
        return _fitted_help(self, ctx)


class _Group(TyperGroup):
    def get_help(self, ctx: Any) -> str:
        """Its help, as wide as the terminal."""
        return _fitted_help(self, ctx)

    def make_context(self, *of: Any, **more: Any) -> Any:
        """As its class, which reads the words up to a command."""
        with _told_well():
            return super().make_context(*of, **more)

    def invoke(self, ctx: Any) -> Any:
        """As its class, which reads the words after a command and runs it."""
        with _told_well():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As its class; where there is no such command, what may have been meant."""
        if not ctx.resilient_parsing and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise _UsageError(f"No such command {args[0]!r}.{did_you_mean(args[0], self.commands)}", ctx=ctx)
        return super().resolve_command(ctx, args)


def use_classes(app: typer.Typer) -> None:
    """Have an application, and those within it, use these."""
    app.info.cls = _Group
    for command in app.registered_commands:
        assert command.callback is not None  # noqa: S101 - for the type checker: each is a function
        command.cls, command.callback = _Command, with_log_level(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use_classes(group.typer_instance)


def _fitted_help(command: Any, context: Any) -> str:
    context.terminal_width = min(terminal_width(), _WIDEST_HELP) - 2
    formatter = context.make_formatter()
    if context.terminal_width < 70:  # so that what stands beside an option is more than a word wide
        formatter.write_dl = partial(formatter.write_dl, col_max=context.terminal_width // 4)
    command.format_help(context, formatter)
    lines = (line.replace(_TYPE, " " * len(_TYPE)).rstrip() for line in formatter.getvalue().rstrip("\n").split("\n"))
    return _HEADS.sub(lambda head: styled(head[0], "head"), "\n".join(lines))


@contextmanager
def _told_well() -> Iterator[None]:
    """Have wrong use say what may have been meant, in lines that fit."""
    try:
        yield
    except _UsageError as error:
        # What only shows the help is none. What was told before, within a group in this one, is told.
        if type(error).__name__ != "NoArgsIsHelpError":
            add_hint(error)
            error.show = partial(_show, error)
        raise


def _show(error: Any, _file: object = None) -> None:
    if error.ctx is not None:
        error.ctx.terminal_width = min(terminal_width(sys.stderr), _WIDEST_HELP) - 2
        hint = wrapped(f"Try '{error.ctx.command_path} --help' for help.", stream=sys.stderr)
        typer.echo("\n".join([error.ctx.get_usage(), *hint, ""]), err=True)
    print_error(error.format_message())

"""A command that fails before it has a report says so to programs, too: in a line of JSON on stdout."""

from __future__ import annotations

import json
import re
from typing import Any

import typer
from typer.core import TyperCommand

from .errors import Failure, add_hint
from .exit_codes import WRONG_USE

__all__ = ["ReportingCommand"]

#: What typer raises for what was given: its click may be one of its own.
_UsageError: Any = typer.BadParameter.__mro__[1]

#: A user and a password within a URL: what could not be read is quoted by typer.
_CREDENTIALS = re.compile(r"(?<=://)\S*@")


class ReportingCommand(TyperCommand):
    """A command that was given `--json` prints why it could not do its work."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of its class, if the options can be read."""
        as_json = "--json" in args  # which is taken out of them
        try:
            return super().make_context(info_name, args, parent, **extra)
        except _UsageError as error:
            error.message = _CREDENTIALS.sub("...@", error.message)
            if as_json:
                names = [] if parent is None else parent.command_path.split()[1:]
                _print(" ".join([*names, info_name or ""]), WRONG_USE, error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """What the command does."""
        try:
            return super().invoke(ctx)
        except (Failure, _UsageError) as error:
            if ctx.params.get("as_json"):
                _print(" ".join(ctx.command_path.split()[1:]), error.exit_code, error)
            raise


def _print(command: str, exit_code: int, error: Any) -> None:
    add_hint(error)
    said = error.problem if isinstance(error, Failure) else error.format_message()
    line = {"event": "report", "command": command, "ok": False, "exit_code": exit_code}
    typer.echo(json.dumps({**line, "error": getattr(error, "kind", None) or "UsageError", "message": said}))

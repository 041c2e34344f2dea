"""Where the command begins: before it is known whether its packages are installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .exit_codes import INTERRUPTED
from .interruption import exit_on_signals
from .output import ended_output

if TYPE_CHECKING:
    import typer

__all__ = ["application", "main"]


def main() -> None:
    """Run the command; the entry point of the package."""
    exit_on_signals()
    try:
        with ended_output():
            application()(prog_name="encrypted-sessions")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as missing:
        package = str(missing.name).partition(".")[0]
        if package not in {"rich", "typer"}:
            raise
        sys.exit(
            f"Error: the command needs the package {package}, which is not installed."
            " Run: pip install 'encrypted-sessions[cli]'"
        )


def application() -> typer.Typer:
    """The command as a typer application. Raises ModuleNotFoundError without the extra [cli]."""
    from .app import app  # noqa: PLC0415 - loads typer, which may be missing

    return app

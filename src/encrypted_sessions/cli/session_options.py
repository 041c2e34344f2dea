"""The options that say which sessions a command is about, and what they stand for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import checked, wrong_use

__all__ = ["SESSION_OPTIONS", "which_sessions"]

#: The options, for messages.
SESSION_OPTIONS = "--session, --session-prefix, --sessions-from"


def which_sessions(sessions: Sequence[str] | None, prefix: str | None, file: str | None) -> dict[str, Any]:
    """The arguments of an operation, none where nothing was given. Ends the command where they cannot be used.

    The whole file is read before anything else is done.
    """
    if sum(one is not None for one in (sessions or None, prefix, file)) > 1:
        raise wrong_use("give one of these, not several", SESSION_OPTIONS)
    from ..maintenance.session_filter import session_filter  # noqa: PLC0415 - `--help` needs no maintenance

    if file is not None:
        return {"sessions": _read(file)}
    if prefix is not None:
        checked(session_filter, None, prefix)
        return {"session_prefix": prefix}
    if not sessions:
        return {}
    checked(session_filter, list(sessions), None)
    return {"sessions": list(sessions)}


def _read(name: str) -> object:
    from ..maintenance.session_ids import read_session_ids  # noqa: PLC0415 - as above

    if name == "-" and sys.stdin is None:
        raise wrong_use("stdin is closed", "--sessions-from")
    try:
        if name == "-":
            ids = read_session_ids(sys.stdin.buffer)
        else:
            with Path(name).open("rb") as file:
                ids = read_session_ids(file)
    except OSError as error:
        problem = f"{name} cannot be read: {error.strerror or error}"
    except ValueError as error:
        problem = f"{'stdin' if name == '-' else name}, {error}"
    else:
        if ids:
            return ids
        problem = f"{'stdin' if name == '-' else name} has no session id"
    raise wrong_use(problem, "--sessions-from")

"""A command on a terminal that is none: of a width, for all three of its streams."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping

from . import warm_programs

__all__ = ["on_a_terminal", "without_styles"]

_TIMEOUT_S = 60
_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*words: str, columns: int, env: Mapping[str, str]) -> tuple[int, str]:
    """How `encrypted-sessions WORD...` ends on a terminal of so many columns, and all that this gets to show."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    environment |= {"TERM": "xterm", **env}
    shown = b""
    try:
        program = warm_programs.Program(
            [warm_programs.COMMAND, *words], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        while piece := _read(ours):
            shown += piece
    finally:
        os.close(ours)
    return program.wait(_TIMEOUT_S), shown.decode().replace("\r\n", "\n")


def without_styles(shown: str) -> str:
    """The same without what colours it and moves the cursor."""
    return _STYLES.sub("", shown)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # nobody has the other end any more
        return b""

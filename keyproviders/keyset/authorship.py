"""Who changes a keyset: the user and the machine, as its record of changes has them."""

from __future__ import annotations

import getpass
import os
import socket

from .._support.text import single_line

__all__ = ["host_name", "user_name"]

_LONGEST = 250  # with what is put after a text that was cut it is still what the document takes


def user_name() -> str:
    """The name of this process's user, as the operating system or the environment has it."""
    try:
        name = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container's user often has no name
        name = f"uid {os.getuid()}" if hasattr(os, "getuid") else ""
    return single_line(name, _LONGEST) or "unknown"


def host_name() -> str:
    """The name of this machine."""
    return single_line(socket.gethostname(), _LONGEST) or "unknown"

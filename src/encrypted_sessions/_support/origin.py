"""Who does something, where, and with which version: for records that are kept."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from importlib import metadata

__all__ = ["host_name", "library_version", "user_name"]


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname() or "unknown"


def user_name() -> str:
    """The name of this process's user, as the operating system or the environment has it."""
    with suppress(KeyError, ImportError, OSError):  # a container's user often has no name
        return getpass.getuser()
    return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def library_version() -> str:
    """That of this library."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("encrypted-sessions")
    return "unknown"

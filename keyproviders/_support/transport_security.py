"""Connections that anybody on the way could read, and the warning where code lets them be."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from .warnings import warn_caller

__all__ = ["is_insecure", "is_loopback", "warn_insecure_transport"]


def warn_insecure_transport(problem: str) -> None:
    """Warn of what `allow_insecure=True` lets be, at the line of the caller outside of this project."""
    warn_caller(f"allow_insecure=True: {problem}", UserWarning)


def is_insecure(url: str) -> bool:
    """Whether this is plain http to another machine."""
    parts = urlsplit(url)
    return parts.scheme.lower() == "http" and not _is_loopback(parts.hostname or "")


def is_loopback(url: str) -> bool:
    """Whether this leads to this very machine."""
    return _is_loopback(urlsplit(url).hostname or "")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

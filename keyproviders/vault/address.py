"""The URLs of servers, read by one parser: those of the settings, and where an answer redirects to."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urljoin

from .._support.transport_security import is_insecure

__all__ = ["RefusedRedirectError", "ServerUrl", "redirect_target"]

# Nothing that two parsers could take for different hosts: no user, no backslash, nothing beyond ASCII.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-\[\]-~]*)?\Z",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}


class RefusedRedirectError(OSError):
    """A redirect that is not followed. Its text says why, in words without secrets."""


class ServerUrl(NamedTuple):
    """Where a server is, and what is behind that in the URL."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def read(cls, text: str) -> ServerUrl | None:
        """The one that this text is; None for any other."""
        found = _URL.match(text)
        if found is None or "#" in text:
            return None
        scheme = found["scheme"].lower()
        port = int(found["port"] or _PORTS[scheme])
        return cls(scheme, found["host"].lower(), port, found["path"] or "") if 0 < port < 65_536 else None

    @property
    def origin(self) -> str:
        """It without its path."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port != _PORTS[self.scheme] else "")


def redirect_target(asked: str, location: str, allowed: Collection[str], *, allow_insecure: bool) -> ServerUrl:
    """Where an answer sends to: only to the origins of `allowed`, since a token or a credential goes along.

    Raises RefusedRedirectError.
    """
    source = ServerUrl.read(asked)
    try:
        target = ServerUrl.read(urljoin(asked, location))
    except ValueError:
        target = None
    if source is None or target is None:
        raise RefusedRedirectError(
            "the answer redirects to something other than the http or https URL of a server; check the address and"
            " the server's api_addr"
        )
    is_worse = is_insecure(target.origin) or (source.scheme, target.scheme) == ("https", "http")
    if is_worse and not allow_insecure:
        raise RefusedRedirectError(
            f"{source.origin} redirects to plain http ({target.origin}), and the token would go there in the clear; set"
            " the server's api_addr to its https address"
        )
    if target.origin not in allowed:
        raise RefusedRedirectError(
            f"{source.origin} redirects to {target.origin}, which was not configured, and the token would go there;"
            f" if that is one of your servers, give also_address={target.origin}"
        )
    return target

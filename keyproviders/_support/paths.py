"""The path of a file, as code and as a URL give it."""

from __future__ import annotations

import os

from ..errors import ProviderConfigError

__all__ = ["path_in_url", "path_text"]


def path_text(path: object) -> str:
    """A path as a str. Raises TypeError for anything else than a str or a path of str."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
    text: object = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must give a str, not {type(text).__name__}")
    return text


def path_in_url(rest: str) -> str:
    """The path in what follows `file:`. Raises ProviderConfigError for one on another machine."""
    if not rest.startswith("//"):
        return rest
    host, slash, path = rest[2:].partition("/")
    if host not in {"", "localhost"} or not slash:
        raise ProviderConfigError(
            "a file: URL cannot name another machine; write file:/path or file:///path, with an absolute path"
        )
    return slash + path

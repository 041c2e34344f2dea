"""Keys that are on this machine: given in code, in an environment variable, or in files."""

from __future__ import annotations

from .env import EnvKeyProvider
from .file import FileKeyProvider
from .static import StaticKeyProvider

__all__ = ["EnvKeyProvider", "FileKeyProvider", "StaticKeyProvider"]

"""The command `encrypted-sessions`."""

from .app import application, main

__all__ = ["application", "main"]

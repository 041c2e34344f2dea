"""The command `encrypted-sessions`."""

from .entry_point import application, main

__all__ = ["application", "main"]

"""The command `encrypted-sessions`."""

from encrypted_sessions.cli.app import application, main

__all__ = ["application", "main"]

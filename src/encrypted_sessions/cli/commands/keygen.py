"""`encrypted-sessions keygen`."""

import typer

from keyproviders import Key

__all__ = ["HELP", "keygen"]

HELP = """Print a new key: 32 random bytes as urlsafe base64, one line, and nothing else.

Nothing is kept. Put the key where your application finds it and nobody else, never into code or a
repository; whoever loses it loses what it has sealed. In an environment variable, for instance:

\b
  export SESSION_KEYS="$(encrypted-sessions keygen)"
  KeyRing.from_url("env:SESSION_KEYS")

A variable may hold several keys, name=key, separated by commas. The first one seals; the others
still open what they sealed before. So a key is rotated by putting a new one first.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted (Ctrl-C)."""


def keygen() -> None:
    """Print a new key."""
    typer.echo(Key.generate().reveal_base64())

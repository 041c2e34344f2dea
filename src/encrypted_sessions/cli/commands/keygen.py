"""`encrypted-sessions keygen`."""

import typer

from keyproviders import Key

__all__ = ["HELP", "keygen"]

HELP = """Print a new key: 32 random bytes as urlsafe base64, one line, and nothing else.

The key is not stored anywhere. Put it where only your application finds it, never into code or a
repository. If it is lost, everything that it sealed is lost. For example, in an environment variable:

\b
  export SESSION_KEYS="$(encrypted-sessions keygen)"
  KeyRing.from_url("env:SESSION_KEYS")

A variable may hold several keys, as name=key, separated by commas. The first one seals;
the others still open what they sealed before. To rotate, put a new key first.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted (Ctrl-C)."""


def keygen() -> None:
    """Print a new key."""
    typer.echo(Key.generate().reveal_base64())

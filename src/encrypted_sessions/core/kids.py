"""What a key's public id looks like in an envelope, and which may be shown."""

from __future__ import annotations

__all__ = ["KID_CHARACTERS", "shown_kid"]

#: The characters of a kid that looks like one.
KID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"

# A kid is shown only if it looks like one: rows can be written by anybody who can write the store.
_SHOWN = frozenset(KID_CHARACTERS)
_LONGEST_SHOWN = 128


def shown_kid(kid: str | None) -> str | None:
    """A kid that may be shown: None for what does not look like one."""
    return kid if kid and len(kid) <= _LONGEST_SHOWN and _SHOWN.issuperset(kid) else None

"""What somebody else said, as it goes into messages."""

from __future__ import annotations

__all__ = ["one_line"]

_LONGEST = 400


def one_line(said: object, longest: int = _LONGEST) -> str:
    """It in one line of at most so many characters, without any that would steer a terminal."""
    text = "".join(one if one.isprintable() else "?" for one in " ".join(str(said).split()))
    return text if len(text) <= longest else text[:longest] + "..."

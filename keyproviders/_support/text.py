"""What somebody else said, as it goes into messages."""

from __future__ import annotations

__all__ = ["single_line"]

_LONGEST = 400


def single_line(text: object, longest: int = _LONGEST) -> str:
    """It in one line of at most so many characters, without any that would steer a terminal."""
    line = "".join(one if one.isprintable() else "?" for one in " ".join(str(text).split()))
    return line if len(line) <= longest else line[:longest] + "..."

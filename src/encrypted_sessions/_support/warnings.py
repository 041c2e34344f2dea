"""Warnings that name the line of the application that caused them."""

from __future__ import annotations

import sys
import warnings

_OURS = ("encrypted_sessions", "keyproviders")


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the nearest line outside of this library."""
    frame, level = sys._getframe(1), 2  # noqa: SLF001 - documented; warnings counts frames in the same way
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)

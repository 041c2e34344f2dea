"""Warnings that name the line of the application that caused them."""

from __future__ import annotations

import warnings
from inspect import currentframe

__all__ = ["warn_caller"]

_OURS = frozenset({"keyproviders", "encrypted_sessions"})


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the nearest line outside of this project."""
    frame, level = currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)

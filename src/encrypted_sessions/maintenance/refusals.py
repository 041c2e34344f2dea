"""What a run refuses to do for what it was given, or for what it saw in the store: nothing was changed."""

from __future__ import annotations

__all__ = ["RefusedUseError"]


class RefusedUseError(ValueError):
    """The arguments ask for more than they may, of these keys or of this store: wrong use."""

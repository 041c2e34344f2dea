"""What a run refuses to do once it has seen the store: wrong use, and nothing was changed."""

from __future__ import annotations

__all__ = ["RefusedUseError"]


class RefusedUseError(ValueError):
    """The arguments ask, of this store, for more than they may."""

"""A store that answers, and in which something was found that keeps a command from its work."""

from __future__ import annotations

from ..errors import StoreError

__all__ = ["UnsuitableStoreError"]


class UnsuitableStoreError(StoreError):
    """What is in the store is not what a command can work on. It is there, and nothing is wrong with the way to it."""

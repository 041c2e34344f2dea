"""What can go wrong in the demo."""

from __future__ import annotations

__all__ = ["ClaimError", "DemoError", "UnreachedError", "WrongUseError"]


class DemoError(Exception):
    """The demo could not go on, in one sentence."""


class ClaimError(DemoError):
    """The demo looked at what it claims, and it is not so."""


class UnreachedError(DemoError):
    """The store or the place of keys did not answer, or refused."""


class WrongUseError(DemoError):
    """An option that cannot be used as it is."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option

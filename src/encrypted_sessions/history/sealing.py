"""How a session seals, and which rows of those that others sealed it opens."""

from __future__ import annotations

from ..core.cipher import VERSIONS

__all__ = ["FIRST_SUITE", "Sealing"]

#: What is written where nothing else is said, and the oldest that is read.
FIRST_SUITE = min(VERSIONS)


class Sealing:
    """The suite to seal by, the oldest to open, the realm that both are bound to, and whether items are padded."""

    __slots__ = ("oldest_suite", "pad", "realm", "suite")

    def __init__(
        self, suite: int = FIRST_SUITE, oldest_suite: int = FIRST_SUITE, realm: str = "", *, pad: bool = False
    ) -> None:
        self.suite = suite
        self.oldest_suite = oldest_suite
        self.realm = realm
        self.pad = pad

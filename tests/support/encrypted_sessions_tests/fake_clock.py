"""A clock for encrypted_sessions that a test moves."""

from __future__ import annotations

NOW = 1_800_000_000


class FakeClock:
    """The clock of encrypted_sessions, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

"""What is said of a row that was not returned. Loaded where there is one."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Finding"]


class Finding(NamedTuple):
    """One row that was not returned.

    Attributes:
        position: Counted from the newest row, which is 0.
        outcome: The row's outcome, such as "unauthentic".
        kid: The key that the row names; None if it names none, or something that is not a kid.
    """

    position: int
    outcome: str
    kid: str | None

    def place(self) -> str:
        """Position, outcome and kid in one short text."""
        return f"{self.position} {self.outcome}" + (f" (kid {self.kid})" if self.kid else "")

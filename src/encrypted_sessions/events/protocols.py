"""What sessions and operations know of each other, for type checkers: nothing imports it at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Item", "Judged", "Judging", "Running", "Telling"]


class Judged(Protocol):
    """What became of one row."""

    @property
    def outcome(self) -> str:
        """What it is."""

    @property
    def kid(self) -> str | None:
        """What it names as its key."""

    @property
    def item(self) -> object | None:
        """What it holds, if that may be read."""


#: A row that was opened, and is nothing but its item.
Item = dict[str, Any]


class Judging(Protocol):
    """Takes note of the rows of one walk, as they come."""

    def __call__(self, rows: Sequence[Judged | Item], opened: Mapping[str, int] = ..., /) -> None:
        """Some rows, and by kid how many of them are nothing but items: those were plainly ok."""


class Running(Protocol):
    """An operation of a session that runs, and counts what it does: `operation.Operation`."""

    history: object
    ended: bool

    def sealed(self, kid: str, items: int) -> None:
        """Items were sealed under a key."""

    def judging(self) -> Judging:
        """What takes note of the rows of one walk, the newest first."""

    def judged(self, rows: Sequence[Judged], position: int | None = None) -> None:
        """Rows were judged, the first of them at `position` from the newest one; None where that is not known."""

    def tally(self) -> Any:
        """What was judged so far, to come back to."""

    def back_to(self, tally: Any) -> None:
        """Count from there again: what was judged since is judged anew."""

    def removing(self) -> None:
        """Rows are to be removed: until `removed` says how many, nobody knows."""

    def removed(self, rows: int) -> None:
        """So many were removed."""

    def put_back(self, rows: int) -> None:
        """Rows that had been removed are in the store again."""


class Telling(Protocol):
    """A session, and its own hook."""

    _on_event: Callable[[Any], object] | None

"""How the demo writes on stdout: chapters, dialogues, rows, and claims that were checked."""

from __future__ import annotations

import textwrap
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from .errors import ClaimError

__all__ = ["INDENT", "Page"]

INDENT = 3
_NARROWEST, _WIDEST = 40, 100


class Page:
    """What was written so far: it counts chapters and claims."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._chapters = 0
        self.claims = 0

    def waiting(self, text: str) -> AbstractContextManager[object]:
        """Show on a terminal that something is at work."""
        return self._console.status(text, spinner="line")

    def chapter(self, title: str) -> None:
        """The heading of the next chapter."""
        self._chapters += 1
        self.line()
        self.line(f"{self._chapters}. {title}", "bold")

    def dialogue(self, turn: dict[str, Any]) -> None:
        """What was said in a turn."""
        for who in ("user", "tool", "agent"):
            if turn[who]:
                self.wrapped(f"{who:<5}  {turn[who]}", "cyan", indent=INDENT, hanging=7)

    def say(self, text: str) -> None:
        """A sentence of the story."""
        self.wrapped(text, indent=INDENT)

    def quote_row(self, row: str) -> None:
        """The first two lines of a row, as it is."""
        width = self._width - INDENT - 2
        note = f"... ({len(row)} characters)"
        if len(row) > 2 * width:
            row = row[: 2 * width - len(note)] + note
        for begin in range(0, len(row), width):
            self.line(" " * (INDENT + 2) + row[begin : begin + width], "yellow")

    def claim(self, holds: bool, claim: str, otherwise: str) -> None:  # noqa: FBT001 - the condition itself
        """Say what holds; raises ClaimError, with `otherwise`, if it does not."""
        if not holds:
            raise ClaimError(
                f"the demo claims {claim!r}, but here {otherwise}. Please report this, with the output above."
            )
        self.claims += 1
        self.wrapped(f"ok  {claim}", "green", indent=INDENT, hanging=4)

    @property
    def _width(self) -> int:
        return max(_NARROWEST, min(self._console.width, _WIDEST))

    def wrapped(self, text: str, style: str | None = None, *, indent: int = 0, hanging: int = 0) -> None:
        """A text in lines that fit; those after the first are set in by `hanging`."""
        begin = " " * indent
        for line in textwrap.wrap(
            text,
            self._width,
            initial_indent=begin,
            subsequent_indent=begin + " " * hanging,
            break_on_hyphens=False,
            break_long_words=False,
        ):
            self.line(line, style)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line as it is."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)

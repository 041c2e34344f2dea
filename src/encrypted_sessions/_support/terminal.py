"""Text for a terminal: as wide as that is, coloured where that is wanted, with nothing in it that it would obey."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, TextIO

__all__ = [
    "Style",
    "escaped",
    "has_colours",
    "is_terminal",
    "printable",
    "styled",
    "table",
    "terminal_width",
    "wrapped",
]

#: What nobody has told the width of: a pipe, a file, a log.
_USUAL_WIDTH = 80

#: Sentences are hard to follow in lines that are longer. Who sets COLUMNS gets what is asked for.
_WIDEST_TEXT = 100

#: Beside a head there must be so much room, or the text goes below it.
_LEAST_TEXT = 24

#: How far what goes on in further lines is set in.
_INDENT = 4

Style = Literal["bad", "careful", "good", "head"]

_CODES: dict[Style, str] = {"bad": "1;31", "careful": "33", "good": "32", "head": "1"}


def terminal_width(stream: TextIO | None = None) -> int:
    """Columns of a stream, stdout if none is given: as COLUMNS says, else as its terminal does, else 80."""
    if (columns := _columns_wanted()) is not None:
        return columns
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or _USUAL_WIDTH
    except (AttributeError, OSError, ValueError):  # closed, no terminal, or no file at all
        return _USUAL_WIDTH


def _columns_wanted() -> int | None:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else None


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether somebody looks at a stream, stdout if none is given."""
    shown = stream or sys.stdout
    try:
        return shown is not None and shown.isatty()
    except ValueError:  # closed
        return False


def has_colours(stream: TextIO | None = None) -> bool:
    """Whether a stream, stdout if none is given, is a terminal with colours on which they are wanted."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {"dumb", "unknown"}


def styled(text: str, style: Style | None, stream: TextIO | None = None) -> str:
    """Text as a stream, stdout if none is given, shows it: in colour, or as it is."""
    if style is None or not text or not has_colours(stream):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def escaped(text: str) -> str:
    """A sentence into which others may have written: what a terminal would obey is spelled out."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def printable(text: str) -> str:
    """Text that anybody may have written: nothing that a terminal would obey."""
    return text if text.isprintable() else ascii(text)


def wrapped(text: str, head: str = "", *, stream: TextIO | None = None) -> list[str]:
    """Lines that fit, the first after `head` and the others below; no word is cut, for it may be a kid or a URL."""
    width = _columns_wanted() or min(terminal_width(stream), _WIDEST_TEXT)
    begin, lines = head, list[str]()
    if head and width - len(head) < _LEAST_TEXT:
        begin, lines = " " * _INDENT, [head.rstrip()] if head.strip() else []
    lines += textwrap.wrap(
        text,
        width,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return lines or [head.rstrip()]


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = (), *, prose: bool = False
) -> list[str]:
    """Lines with aligned columns, two spaces apart; the columns in `right` stand to the right.

    Where the terminal has no room for a row, it goes on in a line of its own; no cell is cut. With `prose` the last
    column is text, which is wrapped between words. What a terminal would obey is spelled out.
    """
    cells = [tuple(heads), *(tuple(escaped(cell).replace("\n", r"\n") for cell in row) for row in rows)]
    width, widths = terminal_width(), [max(map(len, column)) for column in zip(*cells, strict=True)]
    folds = _folded(widths, width, prose=prose)
    lines = []
    for number, row in enumerate(cells):
        for fold, places in enumerate(folds):
            indent = " " * _INDENT if fold else ""
            text = indent + "  ".join(
                f"{row[place]:>{widths[place]}}" if place in right else f"{row[place]:<{widths[place]}}"
                for place in places
            )
            if prose and places[-1] == len(row) - 1 and len(text.rstrip()) > width:
                head = len(text) - widths[-1]
                shown = wrapped(row[-1], text[:head]) or [text[:head]]
            else:
                shown = [text]
            lines += [styled(line.rstrip(), None if number else "head") for line in shown if line.strip()]
    return lines


def _folded(widths: Sequence[int], width: int, *, prose: bool) -> list[list[int]]:
    """Which columns go into each of the lines of a row."""
    folds: list[list[int]] = []
    used = 0
    for place, needed in enumerate(widths):
        needs = min(needed, _LEAST_TEXT) if prose and place == len(widths) - 1 else needed
        if folds and used + 2 + needs <= width:
            folds[-1].append(place)
            used += 2 + needs
        else:
            used = needs + (_INDENT if folds else 0)
            folds.append([place])
    return folds

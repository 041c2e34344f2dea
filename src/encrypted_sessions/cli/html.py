"""Elements of HTML and SVG. All text is escaped: only an element is taken as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable

from .._support.terminal import printable

__all__ = ["Element", "element", "joined"]


class Element(str):
    """Markup that `element` made."""

    __slots__ = ()


def element(tag: str, *content: str | None, **attributes: str | float | None) -> Element:
    """An element with its content; None is left out. `class_` is `class`, and `_` in names is a hyphen."""
    inner = "".join(map(_escaped, content))
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Element(f"<{tag}{written}>{inner}</{tag}>")


def joined(elements: Iterable[str | None]) -> Element:
    """Several, one after the other."""
    return Element("".join(map(_escaped, elements)))


def _escaped(text: str | None) -> str:
    if text is None or isinstance(text, Element):
        return text or ""
    return html.escape(printable(text))

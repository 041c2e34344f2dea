"""The project's documents taken apart: code blocks, tables, headings, links.

Only the little of Markdown that the documents use: fenced blocks, tables with leading bars, headings
with `#`, inline links and pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import encrypted_sessions
import keyproviders

ROOT = Path(__file__).resolve().parents[3]

# Where the packages lie: where wheels are tested, not in the tree.
_PACKAGES = {
    "src/encrypted_sessions/": Path(encrypted_sessions.__file__).parent,
    "keyproviders/": Path(keyproviders.__file__).parent,
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def file_of(name: str) -> Path:
    """A file of the project by its path in the tree, of the packages too when they are installed."""
    for folder, package in _PACKAGES.items():
        if name.startswith(folder):
            return package / name.removeprefix(folder)
    return ROOT / name


def documents() -> list[Path]:
    """Every document for readers: those of the root, and docs/ with its folders."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is that of its first line of content, counted from 1."""

    language: str
    text: str
    line: int
    #: What a block of the language "text" right after this one says: its output. None without one.
    output: str | None


def blocks(path: Path, language: str) -> list[Block]:
    """The fenced blocks of a language, in order."""
    source = path.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(source))
    found = []
    for place, fence in enumerate(fences):
        if fence[1] != language:
            continue
        after = fences[place + 1] if place + 1 < len(fences) else None
        follows = after is not None and after[1] == "text" and not source[fence.end() : after.start()].strip()
        line = source.count("\n", 0, fence.start(2)) + 1
        found.append(Block(language, fence[2], line, after[2] if after is not None and follows else None))
    return found


def prose(path: Path) -> str:
    """The document without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def section(path: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    source = prose(path)
    start = re.search(rf"^(#+) {re.escape(heading)}$", source, re.MULTILINE)
    assert start is not None, f"{path.name} has no heading {heading!r}"
    rest = source[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in a text, without their head rows."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if all(set(cell) <= set("-: ") for cell in cells):
            found.pop()  # what stands above the rule is the head
        else:
            found.append(cells)
    return found


def code_words(text: str) -> set[str]:
    """Everything that stands between single backquotes."""
    return set(re.findall(r"`([^`]+)`", text))


def anchors(path: Path) -> set[str]:
    """What a link to a heading of this document may name, by the rule of the usual renderers."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(path))}


def links(path: Path) -> Iterator[str]:
    """The targets of all links."""
    yield from _LINK.findall(prose(path))


def pictures(path: Path) -> Iterator[str]:
    """The targets of all pictures that say in words what they show."""
    yield from _PICTURE.findall(prose(path))

"""Each picture that a document shows is there, and says in words what is on it; and each that is there is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, documents, prose
from encrypted_sessions_tests.scripts import load_script

_SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_IN_HTML = re.compile(r'(?:src|srcset)="([^"]+\.(?:png|svg))"')

PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 800 * 1024


def pictures_of(path: Path) -> Iterator[tuple[Path, str]]:
    """The pictures of a document, and what is said of each."""
    text = prose(path)
    for words, target in _SHOWN.findall(text):
        if "://" not in target:
            yield (path.parent / target).resolve(), words
    for target in _IN_HTML.findall(text):
        if "://" not in target:
            yield (path.parent / target).resolve(), "in HTML, which has its own words"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_each_picture_that_a_document_shows_is_there_and_told_in_words(path: Path) -> None:
    for picture, words in pictures_of(path):
        assert picture.is_file(), picture
        assert len(words) > 20, picture


def test_each_picture_that_is_there_is_shown() -> None:
    shown = {picture for path in documents() for picture, _ in pictures_of(path)}
    there = {path for kind in ("png", "svg") for path in (ROOT / "docs").rglob(f"*.{kind}")}
    assert there <= shown


def test_the_pictures_of_the_page_are_those_that_the_script_makes_and_are_small() -> None:
    script = load_script(ROOT / "tests" / "release" / "screenshots.py")
    files = {path.name: path.read_bytes() for path in PICTURES.glob("inventory-*.png")}
    assert set(files) == set(script.PICTURES)
    assert sum(map(len, files.values())) < MOST_BYTES
    for name, data in files.items():
        width = int.from_bytes(data[16:20], "big")
        assert (data[:8], data[24:26], width) == (b"\x89PNG\r\n\x1a\n", b"\x08\x03", script.PICTURES[name].width), name

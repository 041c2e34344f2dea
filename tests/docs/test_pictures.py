"""The pictures of the documents: for light and dark, for ears as well as eyes, with nothing that loads or runs."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from encrypted_sessions_tests.documents import ROOT, documents, pictures

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))

# Shown at 800 pixels, no letter is smaller than this many.
SMALLEST_TYPE = 10


def test_every_picture_is_shown_by_a_document() -> None:
    shown = {(path.parent / target).resolve() for path in documents() for target in pictures(path)}
    assert set(PICTURES) <= shown
    assert PICTURES


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_says_in_words_what_it_shows(path: Path) -> None:
    image = ET.parse(path).getroot()  # noqa: S314 - the project's own file
    assert image.get("role") == "img"
    title, description = image.find(f"{SVG}title"), image.find(f"{SVG}desc")
    assert title is not None
    assert title.text
    assert description is not None
    assert description.text
    assert image.findall(f".//{SVG}text")


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_loads_and_runs_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<(script|image|use|foreignObject|iframe|a)\b|@import|@font-face|\bon\w+=", text)
    addresses = re.findall(r"""(?:https?:|url\(|href=)[^\s"'>]*""", text)
    inside = {address for address in addresses if address.startswith("url(#")}
    assert set(addresses) - inside == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_fits_a_dark_page_and_a_narrow_one(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    image = ET.parse(path).getroot()  # noqa: S314 - the project's own file
    assert "@media (prefers-color-scheme: dark)" in text
    width = float((image.get("viewBox") or "").split()[2])
    sizes = [float(size) for size in re.findall(r"font-size(?:=\"|: ?)([\d.]+)", text)]
    assert min(sizes) * min(1, 800 / width) >= SMALLEST_TYPE

"""The pages in Chinese say what their sources say: each notes which text it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, blocks, file_of, links, rows

#: Page to source.
TRANSLATIONS = {
    ROOT / "docs" / "zh" / "README.md": ROOT / "README.md",
    ROOT / "docs" / "zh" / "quick-start.md": ROOT / "docs" / "quick-start.md",
}
PAGES = pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: str(page.relative_to(ROOT)))


def test_every_page_in_chinese_has_its_source() -> None:
    assert set((ROOT / "docs" / "zh").iterdir()) == set(TRANSLATIONS)


@PAGES
def test_the_source_of_a_translation_has_not_moved_on(page: Path) -> None:
    source = TRANSLATIONS[page].relative_to(ROOT)
    note = f"<!-- {source} SHA-256: {hashlib.sha256((ROOT / source).read_bytes()).hexdigest()} -->"
    assert note in page.read_text(encoding="utf-8").splitlines(), (
        f"{source} has changed since {page.relative_to(ROOT)} was made from it. "
        f"Bring the change over, and then put this line in place of the old one:\n{note}"
    )


@PAGES
@pytest.mark.parametrize("language", ["sh", "python", "json", "text"])
def test_a_translation_has_the_code_of_its_source(page: Path, language: str) -> None:
    assert [block.text for block in blocks(page, language)] == [
        block.text for block in blocks(TRANSLATIONS[page], language)
    ]


@PAGES
def test_a_translation_has_the_tables_and_the_links_of_its_source(page: Path) -> None:
    source = TRANSLATIONS[page]
    assert [len(cells) for cells in rows(page.read_text(encoding="utf-8"))] == [
        len(cells) for cells in rows(source.read_text(encoding="utf-8"))
    ]
    pages = set(TRANSLATIONS) | set(TRANSLATIONS.values())
    assert _aims(page) - pages == _aims(source) - pages


def _aims(page: Path) -> set[Path]:
    """The files that a page links to."""
    return {
        file_of((page.parent / target.partition("#")[0]).resolve().relative_to(ROOT).as_posix())
        for target in links(page)
        if "://" not in target
    }

"""Slips of English that readers stumble over are in no document: only what is wrong wherever it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import documents, file_of

SLIPS = {
    r"(?<=[\w`)] )(?<!there )(?:is|are|was|were) no "
    r"(?!longer|more|less|fewer|later|earlier|larger|older|newer|worse|different)\w": "is not a, is not",
    r"\bbut for\b": "except",
    r"\bin silence\b": "silently",
    r"\blet go\b": "released",
    r"\bhow (?:many|much) (?:these|those)\b": "how many rows, how many keys",
    r"(?:^|[.:;] )who (?:can|has|may)\b[^.?]*\.": "anyone who can, or a question",
    r"\bso it is (?:in|for|with|where)\b": "the same applies to",
    r"\bwants? to be told\b": "must be given",
    r"\binformations\b": "information",
    r"\ballows to\b": "allows you to",
    r"\bdepends? of\b": "depends on",
    r"\bsince (?:\d+|some|many) (?:minute|hour|day|week|year)s\b": "for",
    r"\b(?!that |had )(\w+) \1\b": "a word once",
}

PAGES = [*documents(), file_of("src/encrypted_sessions/core/README.md")]


def sentences(path: Path) -> str:
    """What is read as English: no code, also none within lists, and no headings."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith(("    ", "#"))]
    return re.sub(r"`[^`\n]*`", "``", "\n".join(lines))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_english_of_a_document_has_none_of_the_usual_slips(path: Path):
    text = sentences(path)
    found = [
        f"{text[max(match.start() - 40, 0) : match.end() + 30]!r}: {better}"
        for slip, better in SLIPS.items()
        for match in re.finditer(slip, text, re.IGNORECASE | re.MULTILINE)
    ]
    assert found == []

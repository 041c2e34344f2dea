"""The messages that the two pages explain are messages that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import keyproviders
import keyproviders.errors
from documents import ROOT, rows, section

#: What both providers stand on, beside their own folders.
SHARED = ("extras.py", "fields.py", "insecurity.py", "urls.py")

#: What servers and operating systems say, which a page explains as well.
OF_OTHERS = {
    "connection refused",
    "Vault is sealed",
    "rate limit quota exceeded",
    "Throttling",
    "InvalidParameter",
    "DecryptionFailure",
    "ValidationException",
    "ProfileNotFound",
}


def said(module: Path) -> Iterator[str]:
    """Every text of a module; what is filled in at run time is three dots."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)


@pytest.mark.parametrize("page", ["vault.md", "aws-secrets-manager.md"])
def test_the_messages_that_a_page_explains_exist(page: str):
    here = Path(keyproviders.__file__).parent
    modules = [*(here / "vault").glob("*.py"), *(here / "aws").glob("*.py"), *(here / name for name in SHARED)]
    texts = [text for module in modules for text in said(module)]
    known = "\n".join([*texts, *(name for name in dir(keyproviders.errors))])
    explained = rows(section(ROOT / "docs" / page, "What messages mean, and what to do"))
    assert len(explained) > 15
    for message, error, _ in explained:
        for words in re.findall(r"`([^`]+)`", message):
            parts = [part for part in re.split(r" ?\.\.\. ?|\[|\]", words) if part]
            assert words in OF_OTHERS or all(part in known for part in parts), words
        for name in re.findall(r"`([^`]+)`", error):
            assert name in keyproviders.errors.__all__

"""The messages that the pages explain are messages that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import keyproviders
import keyproviders.errors
from encrypted_sessions_tests.documents import ROOT, rows, section

#: What the providers stand on, beside their own folders.
SHARED = (
    "_support/extras.py",
    "_support/transport_security.py",
    "_support/urls.py",
    "secret_fields.py",
    "wrapping.py",
)

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


@pytest.mark.parametrize("page", ["vault.md", "vault-transit.md", "aws-secrets-manager.md"])
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


def raised(module: Path) -> Iterator[str]:
    """The text of every error of the tree that a module makes, and what ``allow_insecure`` is about."""
    makers = {*keyproviders.errors.__all__, "RefusedAnswerError", "_only_if_allowed"}
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
            for argument in node.args:
                pieces = [one.value for one in ast.walk(argument) if isinstance(one, ast.Constant)]
                text = "...".join(one for one in pieces if isinstance(one, str))
                if len(re.findall(r"[a-z]{3,}", text)) > 2:  # else it is put together from texts of elsewhere
                    yield text


@pytest.mark.parametrize(
    ("page", "modules"),
    [
        ("vault.md", ["vault/[!t]*.py", "vault/to*.py", "vault/transport.py"]),
        ("aws-secrets-manager.md", ["aws/sdk.py", "aws/connection.py", "aws/secrets_manager.py"]),
    ],
)
def test_every_message_is_explained(page: str, modules: list[str]):
    here = Path(keyproviders.__file__).parent
    explained = rows(section(ROOT / "docs" / page, "What messages mean, and what to do"))
    phrases = [words for row in explained for words in re.findall(r"`([^`]+)`", row[0])]
    shared = ("_support/extras.py", "secret_fields.py", "_support/urls.py")
    for module in [one for pattern in (*modules, *shared) for one in here.glob(pattern)]:
        for text in raised(module):
            assert any(words in text for words in phrases), f"{module.name}: {text}"

"""Slips of English that a reader stumbles over, in messages, help texts and the docstrings of public names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT / "keyproviders", ROOT / "src" / "encrypted_sessions")

#: Wrong wherever they stand, with what to write.
SLIPS = {
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b)": "is not a",
    r"\bhow many (?:these|those) (?:are|were)\b": "how many were removed",
    r"\bof (?:a|the) wrong type\b": "has the wrong type",
    r"\bcannot be meant\b": "is invalid",
    r"\banew\b": "again",
    r"\bmend(?:s|ed)?\b": "fix, correct",
    r"\bsee to (?:it|its|the)\b": "check",
    r"\bright away\b": "at once, or: that right",
    r"(?<!users )\bothers? than (?:its|the) owner\b": "users other than the owner",
    r"\blets? (?:it|that) be\b": "allows it",
}

_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(node: ast.AST, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.Constant]]:
    """Each docstring below a node, with the dotted name of what it belongs to."""
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        yield ".".join(path), body[0].value
    for child in ast.iter_child_nodes(node):
        name = getattr(child, "name", None) if isinstance(child, _NAMED) else None
        yield from docstrings(child, path if name is None else (*path, name))


def texts(file: Path, public: set[str]) -> Iterator[tuple[int, str]]:
    """What a user may see of a module: its texts, and the docstrings of public names, with their lines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    private = {id(text) for name, text in docstrings(tree) if name not in public}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in private:
            yield node.lineno, " ".join(node.value.split())


def test_no_text_that_a_user_sees_has_one_of_these_slips():
    listed = (ROOT / "docs" / "api.txt").read_text(encoding="utf-8").splitlines()
    public = {re.split(r"[(:]", line.partition(": ")[2].removeprefix("class "))[0] for line in listed}
    found = [
        f"{file.relative_to(ROOT)}:{line}: {match.group()!r} ({instead}) in {text[:100]!r}"
        for package in PACKAGES
        for file in sorted(package.rglob("*.py"))
        for line, text in texts(file, public)
        for slip, instead in SLIPS.items()
        if (match := re.search(slip, text, re.IGNORECASE))
    ]
    assert found == []

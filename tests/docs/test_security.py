"""SECURITY.md names the test that shows each of its claims, and the files that an auditor reads: they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, code_words, file_of, rows, section

PAGE = ROOT / "SECURITY.md"

_TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")

NAMED = sorted({found.groups() for found in _TEST.finditer(PAGE.read_text(encoding="utf-8"))})


@cache
def names_in(path: Path) -> set[str]:
    """The tests of a file, which is read and not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_row_of_the_table_names_the_tests_that_show_it() -> None:
    table = rows(section(PAGE, "From whom"))
    assert len(table) > 20
    for who, gets, shown_by in table:
        assert who, gets
        assert code_words(shown_by), who
        assert all(_TEST.fullmatch(word) for word in code_words(shown_by)), who


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)


def test_the_reading_order_begins_with_all_of_the_core_in_the_order_of_its_own_page() -> None:
    named = [cells[0].strip("`") for cells in rows(section(PAGE, "Reading order"))]
    core = [name.removeprefix("core/") for name in named if name.startswith("core/")]
    assert named[: len(core)] == [f"core/{name}" for name in core]
    folder = file_of("src/encrypted_sessions/core")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")} - {"__init__.py"}
    assert set(core) == there
    page = (folder / "README.md").read_text(encoding="utf-8")
    places = [page.index(f"`{name}`") for name in core]
    assert places == sorted(places)


def test_the_files_of_the_reading_order_are_about_as_long_as_it_says() -> None:
    for file, lines, _ in rows(section(PAGE, "Reading order")):
        name = file.strip("`")
        path = name if name.startswith("keyproviders/") else f"src/encrypted_sessions/{name}"
        count = len(file_of(path).read_text(encoding="utf-8").splitlines())
        assert abs(count - int(lines)) <= max(count // 5, 10), f"{name} has {count} lines"

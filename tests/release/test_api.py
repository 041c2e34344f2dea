"""The public API is a file, and what of it changed since the last release stands in the changelog."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION, FORMER = "0.2.0", "0.1.0"


def by_name(lines: list[str]) -> dict[str, str]:
    return {re.split(r"[(:]", line.partition(": ")[2].removeprefix("class "))[0]: line for line in lines}


def test_the_file_of_the_public_api_is_what_the_source_says(api: ModuleType):
    if not (ROOT / "src").is_dir():
        pytest.skip("the source is not here: the tree's own run compares")
    assert api.API.read_text(encoding="utf-8").splitlines() == api.public_api(ROOT / "src", ROOT), "make api"


def test_the_changelog_names_each_name_that_came_went_or_changed():
    before, now = (
        by_name((ROOT / "docs" / name).read_text(encoding="utf-8").splitlines())
        for name in (f"api-{FORMER}.txt", "api.txt")
    )
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = changes[changes.index(f"## {VERSION}") : changes.index(f"## {FORMER}")]
    told = set(re.findall(r"\w+", section))
    untold = [
        f"{name}: {', '.join(sorted(missing))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
        # What is within a class that is new, or gone, comes or goes with it.
        and not ("." in name and ((name.split(".")[0] in before) != (name.split(".")[0] in now)))
        and (missing := changed_words(name, before.get(name), now.get(name)) - told)
    ]
    assert untold == []


def changed_words(name: str, before: str | None, now: str | None) -> set[str]:
    """What a reader would look for: the name itself when it came or went, else what is different within it."""
    if before is None or now is None:
        return {name.rpartition(".")[2]}
    return parameters(before) ^ parameters(now)


def parameters(line: str) -> set[str]:
    """The names of a function's parameters."""
    return set(re.findall(r"(?:\(|, )\*{0,2}([a-z]\w*)(?=[:,) ])", line))

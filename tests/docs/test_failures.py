"""What the documents say about failures is what the code knows: all of it, and nothing else."""

from __future__ import annotations

import typing

import pytest

import keyproviders
import keyproviders.keyset
import keyproviders.local
import keyproviders.testing
from encrypted_sessions import errors, maintenance
from encrypted_sessions.core.outcomes import EXPLANATIONS, PASSED_OVER, UNREADABLE, Outcome
from encrypted_sessions_tests.documents import ROOT, code_words, rows, section

README = ROOT / "README.md"
FAILURES = ROOT / "docs" / "failures.md"

OUTCOMES = set(typing.get_args(Outcome))
ERRORS = {
    found.__name__
    for module in (errors, keyproviders)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Exception)
}


#: Those of faces that only some users see: a row on the page of failures, and none in the README.
FURTHER_ERRORS = {
    name
    for face in (keyproviders.keyset, keyproviders.local, keyproviders.testing, maintenance)
    for name in face.__all__
    if isinstance(found := getattr(face, name), type) and issubclass(found, Exception) and name not in ERRORS
}


def first_words(path: typing.Any, heading: str) -> list[str]:
    """The code words of the first cell of each row under a heading."""
    return [word for cells in rows(section(path, heading)) for word in sorted(code_words(cells[0]))]


def test_the_readme_has_a_row_for_each_outcome_and_each_error() -> None:
    named = first_words(README, "When things fail")
    assert len(named) == len(set(named))
    assert set(named) >= OUTCOMES | ERRORS
    assert set(named) - OUTCOMES - ERRORS == {"TypeError", "ValueError"}


def test_the_page_of_failures_has_a_row_for_each_outcome_and_each_error() -> None:
    assert set(first_words(FAILURES, "Outcomes")) == OUTCOMES
    assert set(first_words(FAILURES, "Errors")) - {"TypeError", "ValueError"} == ERRORS | FURTHER_ERRORS


@pytest.mark.parametrize("path", [README, FAILURES], ids=lambda path: path.name)
def test_what_raises_by_default_is_told_as_raising(path: typing.Any) -> None:
    heading = "When things fail" if path == README else "Outcomes"
    told = {cells[0].strip("`"): cells[2] for cells in rows(section(path, heading)) if cells[0].strip("`") in OUTCOMES}
    assert {name for name, by_default in told.items() if "raises" in by_default} == set(UNREADABLE)
    assert {name for name, by_default in told.items() if "left out" in by_default} == {
        "expired",
        "unpaired",
        *PASSED_OVER,
    }
    assert set(EXPLANATIONS) == {*UNREADABLE, *PASSED_OVER}

"""What the documents say about failures is what the code knows: all of it, and nothing else."""

from __future__ import annotations

import typing

import keyproviders
import keyproviders.keyset
import keyproviders.local
import keyproviders.testing
from encrypted_sessions import errors, maintenance
from encrypted_sessions.core.outcomes import EXPLANATIONS, PASSED_OVER, UNREADABLE, Outcome
from encrypted_sessions_tests.documents import ROOT, code_words, rows, section

FAILURES = ROOT / "docs" / "failures.md"

OUTCOMES = set(typing.get_args(Outcome))
ERRORS = {
    found.__name__
    for module in (errors, keyproviders)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Exception)
}


#: Those of faces that only some users see: they have a row, too.
FURTHER_ERRORS = {
    name
    for face in (keyproviders.keyset, keyproviders.local, keyproviders.testing, maintenance)
    for name in face.__all__
    if isinstance(found := getattr(face, name), type) and issubclass(found, Exception) and name not in ERRORS
}


def first_words(path: typing.Any, heading: str) -> list[str]:
    """The code words of the first cell of each row under a heading."""
    return [word for cells in rows(section(path, heading)) for word in sorted(code_words(cells[0]))]


def test_the_page_of_failures_has_a_row_for_each_outcome_and_each_error() -> None:
    outcomes, errors_named = first_words(FAILURES, "Outcomes"), first_words(FAILURES, "Errors")
    assert len(outcomes) == len(set(outcomes))
    assert set(outcomes) == OUTCOMES
    assert len(errors_named) == len(set(errors_named))
    assert set(errors_named) - ERRORS - FURTHER_ERRORS == {"TypeError", "ValueError"}
    assert set(errors_named) >= ERRORS | FURTHER_ERRORS


def test_what_raises_by_default_is_told_as_raising() -> None:
    told = {cells[0].strip("`"): cells[2] for cells in rows(section(FAILURES, "Outcomes"))}
    assert {name for name, by_default in told.items() if "raises" in by_default} == set(UNREADABLE)
    assert {name for name, by_default in told.items() if "left out" in by_default} == {
        "expired",
        "unpaired",
        *PASSED_OVER,
    }
    assert set(EXPLANATIONS) == {*UNREADABLE, *PASSED_OVER}

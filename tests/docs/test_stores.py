"""docs/stores.md says of each store what the list of the tests says, and no more."""

from __future__ import annotations

import re

from encrypted_sessions_tests.documents import ROOT, rows, section
from encrypted_sessions_tests.store_matrix import CHECKS, NOTES, STORES

PAGE = ROOT / "docs" / "stores.md"
HOW = "How each was tested"


def test_the_table_of_stores_is_the_list_of_the_tests() -> None:
    found = rows(section(PAGE, "Stores").replace(section(PAGE, HOW), ""))
    assert found == [store.cells() for store in STORES if store.is_listed]


def test_the_table_of_checks_is_the_list_of_the_tests() -> None:
    assert rows(section(PAGE, HOW)) == [check.cells() for check in CHECKS.values()]


def test_each_letter_of_the_table_is_explained_and_used() -> None:
    explained = dict(re.findall(r"^- \((\w)\) (.+)\.$", section(PAGE, "Stores"), re.MULTILINE))
    assert {letter: text.lower() for letter, text in explained.items()} == {
        letter: text.lower() for letter, text in NOTES.items()
    }
    used = {
        letter
        for store in STORES
        for cell in (store.session, store.purge, store.purge_on_add, store.compaction, store.maintenance)
        for letter in cell.notes
    }
    assert used == set(NOTES)

"""Tables and sentences in a width, and what somebody may have meant."""

from __future__ import annotations

import pytest

from encrypted_sessions._support.similar import did_you_mean
from encrypted_sessions._support.terminal import escaped, table, terminal_width, wrapped

ROWS = [("2026-05~72f28e32", "3", "2026-05-01 09:00:00", "12 kB"), ("~0a1b2c3d", "12,345", "-", "3.4 MB")]
HEADS = ("kid", "rows", "newest (UTC)", "size")


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def test_a_table_with_room_has_a_line_for_each_row():
    assert table(HEADS, ROWS, right=(1, 3)) == [
        "kid                 rows  newest (UTC)           size",
        "2026-05~72f28e32       3  2026-05-01 09:00:00   12 kB",
        "~0a1b2c3d         12,345  -                    3.4 MB",
    ]


def test_a_table_without_room_goes_on_below_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "32")
    assert table(HEADS, ROWS, right=(1, 3)) == [
        "kid                 rows",
        "    newest (UTC)           size",
        "2026-05~72f28e32       3",
        "    2026-05-01 09:00:00   12 kB",
        "~0a1b2c3d         12,345",
        "    -                    3.4 MB",
    ]
    monkeypatch.setenv("COLUMNS", "5")
    assert "2026-05~72f28e32" in table(HEADS, ROWS)


def test_the_prose_of_a_table_is_wrapped_in_its_column():
    lines = table(("key", "why"), [("2026-05~72f28e32", "no place that was asked has their key")], prose=True)
    assert lines == ["key               why", "2026-05~72f28e32  no place that was asked has their key"]
    rows = [("2026-05~72f28e32", "no place that was asked has their key: add the old key")]
    assert table(("key", "why"), rows, prose=True)[1:] == [
        "2026-05~72f28e32  no place that was asked has their key: add",
        "                  the old key",
    ]


def test_a_cell_holds_no_command_and_no_second_line():
    assert table(("reason",), [("a\x1b[31m\nb",)])[1] == r"a\x1b[31m\nb"
    assert escaped("a\x1b[31mb\n\u202e\x9b") == "a\\x1b[31mb\n\\u202e\\x9b"
    assert escaped("Grüße, 鍵") == "Grüße, 鍵"


def test_a_sentence_is_wrapped_between_words_alone():
    kid = f"{'6f1ed002-ab5e-4d91-8f53-9a1a0c0a7c11' * 2}~ddac5849"
    assert kid in wrapped(f"4 rows need {kid}, the youngest 3 s old")[1]
    assert all(len(line) <= 60 for line in wrapped("word " * 50))


def test_what_stands_beside_a_long_head_goes_below():
    assert wrapped("why it is so", "x" * 50 + "  ") == ["x" * 50, "    why it is so"]


@pytest.mark.parametrize("columns", ["", "0", "-1", "many", "8e1"])
def test_columns_that_are_no_number_are_80(monkeypatch: pytest.MonkeyPatch, columns: str):
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == 80


def test_who_means_what():
    kids = ["2026-05~72f28e32", "2025-11~bb52c7f4", "~ddac5849"]
    for given in ("2026-05", "72f28e32", "2026-05~72f28e33", "2026-05~00000000", "2026-5"):
        assert did_you_mean(given, kids) == " Did you mean 2026-05~72f28e32?", given
    assert did_you_mean("ddac5849", kids, within=True) == " (did you mean ~ddac5849?)"
    assert did_you_mean("2026-05~72f28e32", ["2026-05", "2025-11"]) == " Did you mean 2026-05?"
    for given in ("tenant-9", "", "~"):
        assert did_you_mean(given, kids) == "", given
    assert did_you_mean("user-1", ["user-1\x1b[31m"]) == r" Did you mean 'user-1\x1b[31m'?"

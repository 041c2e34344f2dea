"""Keysets in a database of which somebody else has a part: what is read stays small, and what is said stays words."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from keyproviders import InvalidKeyError, KeyProviderError, KeyUnavailableError
from keyproviders.keyset import SqlKeysetStore

TABLE = "encrypted_sessions_keysets"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keysets.db"


@pytest.fixture
def store(file: Path) -> SqlKeysetStore:
    made = SqlKeysetStore(f"sqlite:///{file}")
    assert made.write("default", "one", expected=None)
    return made


def run(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("revision", ["x" * 33, "x" * 5_000_000, "", "a\x1bb", "é"])
def test_a_revision_that_this_store_never_wrote_is_damage(revision: str, store: SqlKeysetStore, file: Path) -> None:
    run(file, f"UPDATE {TABLE} SET revision = '{revision}'")  # noqa: S608 - the test's own words
    with pytest.raises(InvalidKeyError, match="restore the last good copy") as caught:
        store.read("default")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("column", ["revision", "document"])
@pytest.mark.parametrize("value", ["7", "x'00ff'", "zeroblob(5000000)"])
def test_what_is_no_text_is_damage(column: str, value: str, store: SqlKeysetStore, file: Path) -> None:
    run(file, f"UPDATE {TABLE} SET {column} = {value}")  # noqa: S608 - likewise
    with contextlib.suppress(InvalidKeyError):
        stored = store.read("default")
        # SQLite gives numbers in a column of text as text.
        assert stored is not None
        assert "7" in stored


def test_words_of_a_database_are_short_and_steer_no_terminal(store: SqlKeysetStore, file: Path) -> None:
    words = "\x1b]0;title\x07 said\r\n\u202eso" + "y" * 5_000
    run(file, f"CREATE TRIGGER t BEFORE INSERT ON {TABLE} BEGIN SELECT RAISE(ABORT, '{words}'); END")
    with pytest.raises(KeyProviderError) as caught:
        store.write("other", "one", expected=None)
    said = str(caught.value)
    assert said.isprintable()
    assert "?]0;title? said" in said
    assert len(said) < 1_000


def test_a_write_that_did_not_begin_says_nothing_else(store: SqlKeysetStore, file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(KeyUnavailableError) as caught:
            store.write("default", "two", expected="0" * 32)
    assert "anyway" not in str(caught.value)

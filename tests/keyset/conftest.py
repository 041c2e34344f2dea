"""What the tests of keysets share: places to keep one, and one with a key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from encrypted_sessions_tests.keyset_fixture import KeysetFixture
from keyproviders.keyset import FileKeysetStore, KeysetStore, SqlKeysetStore


@pytest.fixture(autouse=True)
def _files_are_for_their_owner() -> Iterator[None]:
    """As a service that keeps keys or credentials in files has it; others are warned of."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(params=["file", "sqlite"])
def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeysetStore]:
    """Each kind of store that needs no server."""
    if request.param == "file":
        yield FileKeysetStore(tmp_path / "keyset.json")
    else:
        with closing(SqlKeysetStore(f"sqlite:///{tmp_path / 'keysets.db'}")) as store:
            yield store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the keyset of `empty` and `setting` lies."""
    return tmp_path / "keyset.json"


@pytest.fixture
def empty(file: Path) -> KeysetFixture:
    """A setting in which no keyset was made yet."""
    return KeysetFixture.of(FileKeysetStore(file))


@pytest.fixture
def setting(empty: KeysetFixture) -> KeysetFixture:
    """A keyset with one key, `first`, which is active."""
    empty.manager.create(key_name="first")
    return empty

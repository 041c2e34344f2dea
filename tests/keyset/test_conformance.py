"""Every store of keysets passes the suite that is shipped, the wrapper of the tests too; the suites find faults."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders import KeyNotFoundError, KeyProviderError
from keyproviders.keyset import FileKeysetStore, KeysetStore, KeyWrapper, SqlKeysetStore, StoredKeyset, WrappedKey
from keyproviders.testing import KeysetStoreConformance, KeyWrapperConformance


class TestFile(KeysetStoreConformance):
    keeps_several = False

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "keyset.json"

    def make_store(self) -> KeysetStore:
        return FileKeysetStore(self.path)


class OnSql(KeysetStoreConformance):
    """Each test has a table of its own."""

    dsn: str

    @pytest.fixture(autouse=True)
    def _table(self, _dsn: str) -> Iterator[None]:
        self.dsn, self.table = _dsn, f"t{uuid.uuid4().hex}"
        self.made: list[SqlKeysetStore] = []
        yield
        for store in self.made:
            store.close()
        engine = sqlalchemy.create_engine(_dsn.replace("asyncpg", "psycopg"), poolclass=sqlalchemy.pool.NullPool)
        with engine.begin() as connection:
            for table in (self.table, f"{self.table}_changes"):
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")

    def make_store(self) -> KeysetStore:
        self.made.append(SqlKeysetStore(self.dsn, table=self.table))
        return self.made[-1]


class TestSqlite(OnSql):
    @pytest.fixture
    def _dsn(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/keysets.db"


class TestPostgresql(OnSql):
    @pytest.fixture
    def _dsn(self, postgres_url: str) -> str:
        return postgres_url


class TestMariadb(OnSql):
    @pytest.fixture
    def _dsn(self, mariadb_url: str) -> str:
        return mariadb_url


class TestFakeWrapper(KeyWrapperConformance):
    def make_wrapper(self) -> KeyWrapper:
        return FakeKeyWrapper("fake/first")

    def make_successor(self) -> KeyWrapper:
        return FakeKeyWrapper("fake/second", also_kek="fake/first")


# -- The suites find what is wrong ------------------------------------------------------------------


class BindsNothing(FakeKeyWrapper):
    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        return super().generate({"key": "any"})

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        return super().unwrap(wrapped, {"key": "any"})


class OneKeyForAll(FakeKeyWrapper):
    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        return bytes(n * n % 251 for n in range(32)), self._sealed(bytes(range(32)), context)


class OpensUnderAnyKek(FakeKeyWrapper):
    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        return super().unwrap(wrapped._replace(kek=self.kek), context)


class ShowsKeys(FakeKeyWrapper):
    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        secret, wrapped = super().generate(context)
        self.place = f"fake:{secret.hex()}"
        return secret, wrapped


class LosesTheContext(FakeKeyWrapper):
    def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
        return wrapped


class SpacesInText(FakeKeyWrapper):
    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        secret, wrapped = super().generate(context)
        return secret, wrapped._replace(kek="a key")


class ForeignErrors(FakeKeyWrapper):
    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        try:
            return super().unwrap(wrapped, context)
        except KeyProviderError:
            raise KeyNotFoundError("gone") from None


@pytest.mark.parametrize(
    ("kind", "found_by"),
    [
        (BindsNothing, "test_it_opens_under_no_other_context"),
        (OneKeyForAll, "test_each_key_is_another_one"),
        (OpensUnderAnyKek, "test_a_key_encryption_key_that_it_was_not_told_of_is_refused"),
        (ShowsKeys, "test_no_secret_is_shown"),
        (LosesTheContext, "test_what_it_wraps_anew_is_the_same_key"),
        (LosesTheContext, "test_what_was_altered_does_not_open"),
        (SpacesInText, "test_it_makes_a_key_and_wraps_it"),
        (ForeignErrors, "test_what_was_altered_does_not_open"),
    ],
)
def test_the_suite_of_wrappers_finds_what_is_wrong(kind: type[FakeKeyWrapper], found_by: str) -> None:
    class Suite(KeyWrapperConformance):
        def make_wrapper(self) -> KeyWrapper:
            return kind()

    with pytest.raises((AssertionError, KeyNotFoundError)):
        getattr(Suite(), found_by)()


class InMemory:
    """Right in everything, before a test spoils it."""

    place = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, StoredKeyset] = {}
        self.lock = threading.Lock()

    def key(self, name: str) -> str:
        return name

    def read(self, name: str) -> StoredKeyset | None:
        return self.kept.get(self.key(name))

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        with self.lock:
            before = self.kept.get(self.key(name))
            if not self.may_write(None if before is None else before.revision, expected):
                return False
            self.kept[self.key(name)] = StoredKeyset(self.text(text), self.revision())
            return True

    def may_write(self, revision: str | None, expected: str | None) -> bool:
        return revision == expected

    def text(self, text: str) -> str:
        return text

    def revision(self) -> str:
        return uuid.uuid4().hex


class WritesOverAnything(InMemory):
    def may_write(self, revision: str | None, expected: str | None) -> bool:
        return True


class Strips(InMemory):
    def text(self, text: str) -> str:
        return text.strip()


class CutsOff(InMemory):
    def text(self, text: str) -> str:
        return text[:65_535]


class OneRevision(InMemory):
    def revision(self) -> str:
        return "1"


class IgnoresCase(InMemory):
    def key(self, name: str) -> str:
        return name.lower()


class Forgets(InMemory):
    def after_fork(self) -> None:
        self.kept = {}


def names_of_tests(suite: type[Any]) -> list[str]:
    return [name for name in dir(suite) if name.startswith("test_")]


def suite_of(make: Callable[[], InMemory]) -> KeysetStoreConformance:
    place = make()

    class Suite(KeysetStoreConformance):
        def make_store(self) -> KeysetStore:
            return place

    return Suite()


@pytest.mark.parametrize("name", names_of_tests(KeysetStoreConformance))
def test_a_store_of_a_few_lines_passes(name: str) -> None:
    getattr(suite_of(InMemory), name)()


@pytest.mark.parametrize(
    ("kind", "found_by"),
    [
        (WritesOverAnything, "test_a_keyset_is_made_once"),
        (WritesOverAnything, "test_another_revision_cannot_be_replaced"),
        (WritesOverAnything, "test_what_is_not_there_cannot_be_replaced"),
        (WritesOverAnything, "test_of_several_that_write_at_once_one_comes_through"),
        (Strips, "test_what_was_written_is_found_whole"),
        (CutsOff, "test_the_longest_keyset_is_kept_whole"),
        (OneRevision, "test_the_revision_that_is_there_can_be_replaced"),
        (IgnoresCase, "test_keysets_are_kept_apart_by_their_names"),
        (Forgets, "test_it_goes_on_after_a_fork"),
    ],
)
def test_the_suite_of_stores_finds_what_is_wrong(kind: type[InMemory], found_by: str) -> None:
    with pytest.raises(AssertionError):
        getattr(suite_of(kind), found_by)()


def test_the_suites_say_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="say how a wrapper is made"):
        KeyWrapperConformance().make_wrapper()
    with pytest.raises(NotImplementedError, match="say how a store is made"):
        KeysetStoreConformance().make_store()

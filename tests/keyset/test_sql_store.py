"""Keysets in SQLite files, PostgreSQL and MariaDB: read, written by compare-and-swap, and everything that fails."""
# ruff: noqa: S608  # every name of a table in these statements is made here, in Place

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from encrypted_sessions_tests.cutting_proxy import proxy_to
from encrypted_sessions_tests.leaks import Sentinel, chain, our_locals
from encrypted_sessions_tests.servers import Server
from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.keyset import KeysetStore, SqlKeysetStore, StoredKeyset
from keyproviders.keyset.stores import sql_database
from keyproviders.keyset.stores.base import MOST_BYTES
from keyproviders.keyset.stores.sql_failures import classify, driver_message, failure_of

SERVERS = ("postgresql", "mariadb")
PASSWORD = "p@ss/w:rd?"


class Place:
    """A database, and a table in it that no other test uses."""

    def __init__(self, kind: str, dsn: str) -> None:
        self.kind = kind
        self.dsn = dsn
        self.table = f"t{uuid.uuid4().hex}"

    def store(self, dsn: str | None = None) -> SqlKeysetStore:
        return SqlKeysetStore(dsn or self.dsn, table=self.table)

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlalchemy.Connection]:
        """A connection of the tests' own, in a transaction that the block ends."""
        url = sqlalchemy.make_url(self.dsn.replace("asyncpg", "psycopg").replace("aiosqlite", "pysqlite"))
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as connection:
            yield connection

    def run(self, *statements: str) -> None:
        with self.connection() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()

    def rows(self, query: str) -> list[Any]:
        with self.connection() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    @property
    def tables(self) -> set[str]:
        with self.connection() as connection:
            return set(sqlalchemy.inspect(connection).get_table_names())

    def new_user(self, *rights: str) -> str:
        """The DSN of a user that has these rights on the table, and no others."""
        user = f"u{uuid.uuid4().hex[:12]}"
        if self.kind == "postgresql":
            self.run(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
            grants = [f"GRANT {right} ON {self.table} TO {user}" for right in rights]
        else:
            self.run(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
            grants = [f"GRANT {right} ON {self.table} TO {user}@'127.0.0.1'" for right in rights]
        self.run(*grants)
        return self.dsn_of(user, PASSWORD)

    def dsn_of(self, user: str, password: str) -> str:
        url = sqlalchemy.make_url(self.dsn).set(username=user, password=password)
        return url.render_as_string(hide_password=False)

    def at(self, **parts: Any) -> str:
        return sqlalchemy.make_url(self.dsn).set(**parts).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", *SERVERS])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from make_place(request.param, request)


@pytest.fixture(params=SERVERS)
def server_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from make_place(request.param, request)


@pytest.fixture
def server(server_place: Place, request: pytest.FixtureRequest) -> Server:
    """The server of `server_place`."""
    fixture = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}[server_place.kind]
    return request.getfixturevalue(fixture)


def make_place(kind: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    if kind == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path")
        yield Place(kind, f"sqlite:///{folder}/keysets.db")
        return
    place = Place(kind, request.getfixturevalue({"postgresql": "postgres_url", "mariadb": "mariadb_url"}[kind]))
    yield place
    place.run(f"DROP TABLE IF EXISTS {place.table}")


def written(place: Place, text: str = "one", name: str = "default") -> StoredKeyset:
    """The keyset after it was created."""
    store = place.store()
    assert store.write(name, text, expected=None)
    return found(store, name)


def found(store: SqlKeysetStore, name: str = "default") -> StoredKeyset:
    stored = store.read(name)
    assert stored is not None
    return stored


# -- What a store does -------------------------------------------------------------------------


def test_it_is_a_keyset_store(place: Place) -> None:
    store: KeysetStore = place.store()
    assert isinstance(store, KeysetStore)
    assert place.table in store.place


def test_reading_before_the_first_write_finds_nothing_and_makes_nothing(place: Place, tmp_path: Path) -> None:
    assert place.store().read("default") is None
    if place.kind == "sqlite":
        assert list(tmp_path.iterdir()) == []
    assert place.table not in place.tables


def test_what_is_written_is_read_by_another_store(place: Place) -> None:
    text = '{"a": "b\\u00e4", "c": [1, 2]}\n' * 3
    assert written(place, text).text == text
    assert found(place.store()).text == text


def test_a_keyset_is_created_once(place: Place) -> None:
    first = written(place)
    assert not place.store().write("default", "two", expected=None)
    assert found(place.store()) == first


def test_every_write_changes_the_revision_even_with_the_same_text(place: Place) -> None:
    first = written(place)
    assert place.store().write("default", first.text, expected=first.revision)
    second = found(place.store())
    assert (second.text, second.revision == first.revision) == (first.text, False)


def test_a_write_over_another_revision_changes_nothing(place: Place) -> None:
    first = written(place)
    store = place.store()
    assert store.write("default", "two", expected=first.revision)
    second = found(store)
    assert not store.write("default", "three", expected=first.revision)
    assert not store.write("default", "three", expected="")
    assert not store.write("default", "three", expected=second.revision.upper() + " ")
    assert found(store) == second


def test_writing_over_a_keyset_that_is_not_there_changes_nothing(place: Place) -> None:
    assert not place.store().write("default", "one", expected="0" * 32)
    assert place.store().read("default") is None
    written(place, name="other")
    assert not place.store().write("default", "one", expected="0" * 32)
    assert place.store().read("default") is None


def test_a_keyset_deleted_and_made_again_has_no_revision_of_the_old_one(place: Place) -> None:
    first = written(place)
    place.run(f"DELETE FROM {place.table}")
    again = written(place)
    assert again.revision != first.revision
    assert not place.store().write("default", "two", expected=first.revision)


def test_names_do_not_fall_together(place: Place) -> None:
    names = ["tenant-7", "Tenant-7", "TENANT-7", "e", "\u00e9", "e\u0301", "ss", "\u00df", "\U0001f511", "n" * 190]
    store = place.store()
    for name in names:
        assert store.write(name, f"text of {name!a}", expected=None)
    assert [found(store, name).text for name in names] == [f"text of {name!a}" for name in names]


def test_the_longest_text_comes_back_whole(place: Place) -> None:
    text = "0123456789abcdef" * (MOST_BYTES // 16)
    assert written(place, text).text == text


def test_quotes_and_percent_signs_are_only_text(place: Place) -> None:
    text = """'); DROP TABLE x; -- %s %(name)s :name \\ " ` $1 ?"""
    assert written(place, text, name="'%s:name\\").text == text


def test_of_twenty_threads_one_creates_and_one_changes(place: Place) -> None:
    store = place.store()
    with ThreadPoolExecutor(20) as pool:
        created = list(pool.map(lambda at: store.write("default", f"by {at}", expected=None), range(20)))
        first = found(store)
        changed = list(pool.map(lambda at: store.write("default", f"by {at}", expected=first.revision), range(20)))
    assert (created.count(True), changed.count(True)) == (1, 1)
    assert first.text == f"by {created.index(True)}"
    assert found(store).text == f"by {changed.index(True)}"


def test_several_may_make_the_table_at_once(place: Place) -> None:
    stores = [place.store() for _ in range(8)]
    for _ in range(5):
        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(lambda store: store._make_table(), stores))
        assert place.table in place.tables
        place.run(f"DROP TABLE {place.table}")


def test_a_closed_store_can_be_used_again(place: Place) -> None:
    store = place.store()
    assert store.write("default", "one", expected=None)
    store.close()
    store.close()
    assert found(store).text == "one"


def test_the_time_of_a_write_is_kept_for_people(place: Place) -> None:
    written(place)
    ((at,),) = place.rows(f"SELECT updated_at FROM {place.table}")
    assert str(at).startswith("20")


# -- DSNs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "sqlite+aiosqlite", "SQLite"])
def test_sqlite_under_every_scheme_that_people_have(scheme: str, tmp_path: Path) -> None:
    place = Place("sqlite", f"sqlite:///{tmp_path}/keysets.db")
    assert written(place).text == found(place.store(f"{scheme}:///{tmp_path}/keysets.db")).text


@pytest.mark.parametrize(
    "scheme",
    ["postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg", "postgres+asyncpg", "postgresql+psycopg2"],
)
def test_postgresql_under_every_scheme_that_people_have(scheme: str, request: pytest.FixtureRequest) -> None:
    for place in make_place("postgresql", request):
        written(place)
        options = "?sslmode=disable" if scheme == "postgresql" else ""
        assert found(place.store(scheme + place.dsn[place.dsn.index("://") :] + options)).text == "one"


@pytest.mark.parametrize(
    "scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql", "mysql+aiomysql", "mysql+asyncmy"]
)
def test_mariadb_under_every_scheme_that_people_have(scheme: str, request: pytest.FixtureRequest) -> None:
    for place in make_place("mariadb", request):
        written(place)
        dsn = scheme + place.dsn[place.dsn.index("://") :]
        assert found(place.store(dsn)).text == "one"
        assert found(place.store(f"{dsn}?charset=latin1")).text == "one"


def test_white_space_around_a_dsn_is_stripped(place: Place) -> None:
    written(place)
    assert found(place.store(f" {place.dsn}\n")).text == "one"


def test_options_of_an_asynchronous_driver_are_translated(request: pytest.FixtureRequest) -> None:
    for place in make_place("postgresql", request):
        written(place)
        dsn = f"{place.dsn}?prepared_statement_cache_size=0&command_timeout=60&ssl="
        assert found(place.store(f"{dsn}prefer")).text == "one"
        # What asks for TLS is never dropped.
        with pytest.raises(ProviderConfigError, match="SSL"):
            place.store(f"{dsn}require").read("default")


def test_an_option_that_the_driver_does_not_know_is_said(server_place: Place) -> None:
    with pytest.raises(ProviderConfigError, match="frobnicate"):
        server_place.store(f"{server_place.dsn}?frobnicate=1").read("default")


def test_a_password_in_an_option_counts_as_one(server_place: Place) -> None:
    written(server_place)
    url = sqlalchemy.make_url(server_place.dsn)
    bare = url.set(password=None).render_as_string(hide_password=False)
    store = server_place.store(f"{bare}?password={url.password}")
    assert found(store).text == "one"
    assert str(url.password) not in repr(store._database._url)


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "password",
        "hunter2://user:hunter2@hunter2/hunter2",
        "postgresql:hunter2",
        "redis://user:hunter2@host/0",
        "oracle://user:hunter2@host/db",
        "postgresql://user:hunter2@hunter2@host/db",
        "postgresql://us/er:hunter2@host/db",
        "postgresql://user:hunter2@host:hunter2/db",
        "postgresql://user:hunter2:5432/db",
        "mysql+pymysql://user:hunter2@host:99x/db",
        "://hunter2",
        "sqlite://user:hunter2@host/file.db",
    ],
)
def test_a_dsn_that_cannot_be_meant_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(ProviderConfigError) as caught:
        SqlKeysetStore(dsn)
    shown = "".join(traceback.format_exception(caught.value)) + "".join(value for *_, value in our_locals(caught.value))
    assert "hunter2" not in shown.replace(__file__, "")
    assert [str(one) for one in chain(caught.value) if "hunter2" in str(one)] == []


@pytest.mark.parametrize(
    "dsn",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite:///file:x?mode=memory&uri=true"],
)
def test_a_database_in_memory_is_refused(dsn: str) -> None:
    with pytest.raises(ProviderConfigError, match="in memory"):
        SqlKeysetStore(dsn)


@pytest.mark.parametrize(
    ("dsn", "package"),
    [
        ("postgresql://h/db", "psycopg[binary]"),
        ("postgresql+asyncpg://h/db", "psycopg[binary]"),
        ("postgresql+psycopg2://h/db", "psycopg2-binary"),
        ("mysql+aiomysql://h/db", "pymysql"),
        ("mysql+mysqldb://h/db", "mysqlclient"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(dsn: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_database, "find_spec", lambda name: None)
    with pytest.raises(ProviderConfigError) as caught:
        SqlKeysetStore(dsn)
    assert f"pip install '{package}'" in str(caught.value)
    assert ("asyncpg is not synchronous" in str(caught.value)) == ("asyncpg" in dsn)


def test_without_sqlalchemy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    with pytest.raises(ProviderConfigError, match=r"encrypted-sessions\[sql\]"):
        SqlKeysetStore("sqlite:////folder/file.db")


def test_making_a_store_does_no_io(tmp_path: Path) -> None:
    code = f"""
import json, sys
sys.dont_write_bytecode = True
import sqlalchemy, sqlalchemy.dialects.mysql
from keyproviders.keyset import SqlKeysetStore
seen = []
def watch(event, args):
    if event.startswith(("socket.", "sqlite3.")) or (event == "open" and "keysets" in str(args[0])):
        seen.append(event)
sys.addaudithook(watch)
for dsn in ("sqlite:///{tmp_path}/keysets.db", "postgresql://h/db?sslmode=require", "mysql://h/db?ssl_ca=ca"):
    SqlKeysetStore(dsn)
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# -- Arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 7, b"sqlite:////x.db", ["sqlite:////x.db"]])
def test_arguments_of_a_wrong_type_are_type_errors(wrong: Any, tmp_path: Path) -> None:
    store = SqlKeysetStore(f"sqlite:///{tmp_path}/keysets.db")
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("dsn", lambda: SqlKeysetStore(wrong)),
        ("table", lambda: SqlKeysetStore("sqlite:////x.db", table=wrong)),
        ("name", lambda: store.read(wrong)),
        ("name", lambda: store.write(wrong, "text", expected=None)),
        ("text", lambda: store.write("name", wrong, expected=None)),
    ]
    if wrong is not None:
        attempts.append(("expected", lambda: store.write("name", "text", expected=wrong)))
    for argument, attempt in attempts:
        with pytest.raises(TypeError, match=argument):
            attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", ["", "1st", "a-b", "a b", "a;b", "a.b", 'a"b', "t" * 64, "tabl\u00e9", "a\n"])
def test_a_name_that_no_table_can_have_is_refused(table: str) -> None:
    with pytest.raises(ProviderConfigError, match="table"):
        SqlKeysetStore("sqlite:////x.db", table=table)


@pytest.mark.parametrize("name", ["", " ", "a ", " a", "a b", "a\tb", "a\n", "\0", "\ud800", "n" * 191])
def test_a_name_that_no_keyset_can_have_is_refused(name: str, tmp_path: Path) -> None:
    store = SqlKeysetStore(f"sqlite:///{tmp_path}/keysets.db")
    for attempt in (lambda: store.read(name), lambda: store.write(name, "text", expected=None)):
        with pytest.raises(ValueError, match="name"):
            attempt()


@pytest.mark.parametrize("text", ["\0", "a\0b", "\u00e9", "\ud800", "x" * (MOST_BYTES + 1)])
def test_a_text_that_is_no_keyset_is_refused(text: str, tmp_path: Path) -> None:
    store = SqlKeysetStore(f"sqlite:///{tmp_path}/keysets.db")
    with pytest.raises(ValueError, match="text"):
        store.write("name", text, expected=None)


# -- Rights ------------------------------------------------------------------------------------


def test_a_service_that_may_only_select_reads_and_cannot_write(server_place: Place) -> None:
    first = written(server_place)
    service = server_place.store(server_place.new_user("SELECT"))
    assert service.read("default") == first
    assert service.read("other") is None
    with pytest.raises(KeyAccessDeniedError, match=server_place.table):
        service.write("default", "two", expected=first.revision)
    with pytest.raises(KeyAccessDeniedError, match=server_place.table):
        service.write("other", "two", expected=None)
    assert server_place.store().read("default") == first


def test_an_operator_needs_no_more_than_select_insert_and_update(server_place: Place) -> None:
    written(server_place, name="first")
    operator = server_place.store(server_place.new_user("SELECT", "INSERT", "UPDATE"))
    assert operator.write("default", "one", expected=None)
    assert operator.write("default", "two", expected=found(operator).revision)
    assert not operator.write("default", "three", expected=None)
    assert found(operator).text == "two"


def test_without_any_right_it_is_denied(server_place: Place) -> None:
    written(server_place)
    with pytest.raises(KeyAccessDeniedError):
        server_place.store(server_place.new_user()).read("default")


def test_a_wrong_password_and_a_wrong_user_are_denied(server_place: Place) -> None:
    user = sqlalchemy.make_url(server_place.dsn).username or ""
    for dsn in (server_place.dsn_of(user, "wrong"), server_place.dsn_of("nobody-of-that-name", "wrong")):
        with pytest.raises(KeyAccessDeniedError, match="password"):
            server_place.store(dsn).read("default")


def test_a_database_that_does_not_exist_is_a_wrong_setting(server_place: Place) -> None:
    store = server_place.store(server_place.at(database="no_such_database"))
    with pytest.raises(ProviderConfigError, match="no_such_database"):
        store.read("default")
    with pytest.raises(ProviderConfigError, match="no_such_database"):
        store.write("default", "one", expected=None)


def test_too_many_connections_may_pass(server_place: Place) -> None:
    written(server_place)
    dsn = server_place.new_user("SELECT")
    user = sqlalchemy.make_url(dsn).username
    if server_place.kind == "postgresql":
        server_place.run(f"ALTER ROLE {user} CONNECTION LIMIT 0")
    else:
        server_place.run(f"ALTER USER {user}@'127.0.0.1' WITH MAX_CONNECTIONS_PER_HOUR 1")
        server_place.store(dsn).read("default")
    with pytest.raises(KeyUnavailableError):
        server_place.store(dsn).read("default")


def test_a_database_that_takes_no_writes_may_take_them_later(request: pytest.FixtureRequest) -> None:
    for place in make_place("postgresql", request):
        first = written(place)
        dsn = place.new_user("SELECT", "UPDATE")
        place.run(f"ALTER ROLE {sqlalchemy.make_url(dsn).username} SET default_transaction_read_only = on")
        store = place.store(dsn)
        assert store.read("default") == first
        with pytest.raises(KeyUnavailableError, match="read-only"):
            store.write("default", "two", expected=first.revision)


def test_another_table_of_that_name_is_a_wrong_setting(place: Place) -> None:
    place.run(f"CREATE TABLE {place.table} (id INTEGER)")
    store = place.store()
    with pytest.raises(ProviderConfigError, match=place.table):
        store.read("default")
    for expected in (None, "0" * 32):
        with pytest.raises(ProviderConfigError, match=place.table):
            store.write("default", "one", expected=expected)


# -- Outages -----------------------------------------------------------------------------------


@pytest.mark.private_servers
def test_a_server_that_is_down_may_come_back_and_then_the_same_store_works(server_place: Place, server: Server) -> None:
    first = written(server_place)
    store = server_place.store()
    assert store.read("default") == first
    server.stop()
    for attempt in (lambda: store.read("default"), lambda: store.write("default", "two", expected=first.revision)):
        with pytest.raises(KeyUnavailableError):
            attempt()
    server.start()
    assert store.read("default") == first
    assert store.write("default", "two", expected=first.revision)


@pytest.mark.private_servers
def test_a_server_that_crashed_and_came_back_is_used_again(server_place: Place, server: Server) -> None:
    store = server_place.store()
    assert store.read("default") is None
    server.kill()
    with pytest.raises(KeyUnavailableError):
        store.read("default")
    server.start()
    assert store.write("default", "one", expected=None)


@pytest.mark.private_servers
def test_a_server_that_does_not_answer_is_given_up(server_place: Place, server: Server) -> None:
    store = server_place.store()
    assert store.read("default") is None
    server.pause()
    with pytest.raises(KeyUnavailableError):
        store.read("default")
    server.resume()
    assert store.read("default") is None


def test_a_host_that_is_not_there_may_come_back(server_place: Place) -> None:
    with pytest.warns(UserWarning, match="does not require TLS"):
        away = SqlKeysetStore(server_place.at(host="no-such-host.invalid"), allow_insecure=True)
    with pytest.raises(KeyUnavailableError):
        away.read("default")
    with pytest.raises(KeyUnavailableError):
        server_place.store(server_place.at(port=1)).read("default")


def test_what_waits_for_a_lock_is_given_up_and_not_written_later(place: Place) -> None:
    first = written(place)
    store = place.store()
    with place.connection() as connection:
        if place.kind == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql(f"UPDATE {place.table} SET revision = revision")
        with pytest.raises(KeyUnavailableError):
            store.write("default", "two", expected=first.revision)
        assert store.read("default") == first
        connection.rollback()
    assert store.read("default") == first
    assert store.write("default", "two", expected=first.revision)


async def test_a_connection_cut_before_the_change_has_changed_nothing(server_place: Place) -> None:
    first = await asyncio.to_thread(written, server_place)
    async with proxy_to(sqlalchemy.make_url(server_place.dsn).port or 0) as proxy:
        store = server_place.store(server_place.at(port=proxy.port))
        assert await asyncio.to_thread(store.read, "default") == first
        proxy.cut("before", b"UPDATE")
        with pytest.raises(KeyUnavailableError):
            await asyncio.to_thread(store.write, "default", "two", expected=first.revision)
        assert proxy.cuts == 1
        assert await asyncio.to_thread(store.read, "default") == first


async def test_a_connection_cut_after_the_change_raises_though_it_is_made(server_place: Place) -> None:
    first = await asyncio.to_thread(written, server_place)
    async with proxy_to(sqlalchemy.make_url(server_place.dsn).port or 0) as proxy:
        store = server_place.store(server_place.at(port=proxy.port))
        proxy.cut("after", b"COMMIT" if server_place.kind == "postgresql" else b"\x03COMMIT")
        with pytest.raises(KeyUnavailableError, match="the change may have been made anyway: check before"):
            await asyncio.to_thread(store.write, "default", "two", expected=first.revision)
        assert proxy.cuts == 1
        assert (await asyncio.to_thread(found, store)).text == "two"


def test_a_connection_that_is_hung_up_at_once_may_hold_later(server_place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(KeyUnavailableError):
            server_place.store(server_place.at(port=listener.getsockname()[1])).read("default")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("57P01", KeyUnavailableError),  # ended by an administrator
        ("57P03", KeyUnavailableError),  # starting up
        ("57014", KeyUnavailableError),  # took too long
        ("40P01", KeyUnavailableError),  # a deadlock
        ("53300", KeyUnavailableError),  # too many connections
        ("53100", KeyUnavailableError),  # the disk is full
        ("55P03", KeyUnavailableError),  # locked
        ("08006", KeyUnavailableError),  # the connection broke
        ("28P01", KeyAccessDeniedError),
        ("42501", KeyAccessDeniedError),
        ("3D000", ProviderConfigError),
        ("42703", ProviderConfigError),  # another's table
    ],
)
def test_what_postgresql_answers_is_told_apart(state: str, expected: type[Exception]) -> None:
    psycopg = pytest.importorskip("psycopg")
    assert translated(psycopg.errors.lookup(state)("what it said"), "postgresql") is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("FATAL:  the database system is shutting down", KeyUnavailableError),
        ("FATAL:  sorry, too many clients already", KeyUnavailableError),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", KeyUnavailableError),
        ("server closed the connection unexpectedly", KeyUnavailableError),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "u", database "d"', KeyAccessDeniedError),
        ('FATAL:  role "u" is not permitted to log in', KeyAccessDeniedError),
        ("fe_sendauth: no password supplied", KeyAccessDeniedError),
        ('FATAL:  permission denied for database "d"', KeyAccessDeniedError),
        ('root certificate file "/x" does not exist', ProviderConfigError),
        ("SSL error: certificate verify failed", ProviderConfigError),
    ],
)
def test_what_postgresql_says_to_a_login_is_told_apart(words: str, expected: type[Exception]) -> None:
    psycopg = pytest.importorskip("psycopg")
    assert translated(psycopg.OperationalError(f"connection failed: {words}"), "postgresql") is expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1040, KeyUnavailableError),  # too many connections
        (1053, KeyUnavailableError),  # shutting down
        (1205, KeyUnavailableError),  # locked
        (1213, KeyUnavailableError),  # a deadlock
        (1290, KeyUnavailableError),  # read-only
        (2006, KeyUnavailableError),  # gone away
        (2013, KeyUnavailableError),  # no answer
        (1045, KeyAccessDeniedError),
        (1142, KeyAccessDeniedError),
        (1049, ProviderConfigError),
        (1054, ProviderConfigError),  # another's table
        (1064, ProviderConfigError),
    ],
)
def test_what_mariadb_answers_is_told_apart(number: int, expected: type[Exception]) -> None:
    pymysql = pytest.importorskip("pymysql")
    assert translated(pymysql.err.OperationalError(number, "what it said"), "mysql") is expected


def test_a_certificate_that_mariadbs_driver_does_not_accept_is_a_wrong_setting() -> None:
    pymysql = pytest.importorskip("pymysql")
    said = "Can't connect to MySQL server on 'h' ([SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed)"
    assert translated(pymysql.err.OperationalError(2003, said), "mysql") is ProviderConfigError


@pytest.mark.parametrize("kind", ["OperationalError", "InterfaceError", "InternalError"])
def test_a_connection_that_breaks_off_without_a_number_may_come_back(kind: str) -> None:
    pymysql = pytest.importorskip("pymysql")
    for error in (getattr(pymysql.err, kind)(0, ""), getattr(pymysql.err, kind)("Packet sequence number wrong")):
        assert translated(error, "mysql") is KeyUnavailableError


def translated(error: Exception, family: str) -> type[Exception]:
    failure = failure_of(error, classify(error, family), "reading", driver_message(error))
    assert str(failure).startswith(f"reading: {type(error).__name__} (")
    return type(failure)


# -- SQLite files ------------------------------------------------------------------------------


def sqlite_store(path: object) -> SqlKeysetStore:
    return SqlKeysetStore(f"sqlite:///{path}")


def both(store: SqlKeysetStore) -> Iterator[Callable[[], object]]:
    yield lambda: store.read("default")
    yield lambda: store.write("default", "one", expected=None)


def test_no_folder_for_the_file_is_a_wrong_setting(tmp_path: Path) -> None:
    for attempt in both(sqlite_store(tmp_path / "missing" / "keysets.db")):
        with pytest.raises(ProviderConfigError, match=r"the folder .* does not exist"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_a_wrong_setting(tmp_path: Path) -> None:
    for attempt in both(sqlite_store(tmp_path)):
        with pytest.raises(ProviderConfigError, match="is not a file"):
            attempt()


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "keysets.db"
    file.write_bytes(b"a letter to somebody else " * 100)
    before = file.read_bytes()
    for attempt in both(sqlite_store(file)):
        with pytest.raises(ProviderConfigError, match="not a database"):
            attempt()
    assert file.read_bytes() == before


def test_an_empty_file_is_a_database_without_keysets(tmp_path: Path) -> None:
    (tmp_path / "keysets.db").touch()
    store = sqlite_store(tmp_path / "keysets.db")
    assert store.read("default") is None
    assert store.write("default", "one", expected=None)


def test_a_file_that_is_opened_to_read_only_is_read_and_not_written(tmp_path: Path) -> None:
    assert sqlite_store(tmp_path / "keysets.db").write("default", "one", expected=None)
    service = SqlKeysetStore(f"sqlite:///file:{tmp_path}/keysets.db?mode=ro&uri=true")
    first = found(service)
    with pytest.raises(KeyAccessDeniedError, match="readonly"):
        service.write("default", "two", expected=first.revision)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "keysets.db")
    assert store.write("default", "one", expected=None)
    (tmp_path / "keysets.db").chmod(0)
    with pytest.raises(KeyAccessDeniedError):
        store.read("default")


def test_the_journal_mode_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "keysets.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    store = sqlite_store(file)
    assert store.write("default", "one", expected=None)
    assert found(store).text == "one"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_relative_path_keeps_its_meaning_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = sqlite_store("keysets.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.write("default", "one", expected=None)
    assert (tmp_path / "keysets.db").is_file()


@pytest.mark.parametrize("bad", ["x'00ff'", "CAST(x'ff' AS TEXT)"], ids=["a blob", "no UTF-8"])
def test_a_row_that_is_no_text_is_said_to_be_damaged(bad: str, tmp_path: Path) -> None:
    place = Place("sqlite", f"sqlite:///{tmp_path}/keysets.db")
    written(place)
    place.run(f"UPDATE {place.table} SET document = {bad}")
    with pytest.raises(InvalidKeyError, match=place.table):
        place.store().read("default")


def test_of_a_text_that_is_far_too_long_only_a_part_is_fetched(place: Place) -> None:
    written(place)
    place.run(f"UPDATE {place.table} SET document = '{'x' * (2 * MOST_BYTES)}'")
    assert len(found(place.store()).text) == MOST_BYTES + 1


# -- Processes ---------------------------------------------------------------------------------


def test_parent_and_child_of_a_fork_use_the_store(place: Place) -> None:
    first = written(place)
    store = place.store()
    assert store.read("default") == first
    child = os.fork()
    if not child:
        status = 1
        try:
            store.after_fork()
            status = 0 if store.write("default", "two", expected=first.revision) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert found(store).text == "two"


def test_a_child_is_not_held_up_by_a_lock_of_the_parents_thread(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "keysets.db")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._database._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        store.after_fork()
        os._exit(0 if store.read("default") is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    thread.join()


# -- Secrets -----------------------------------------------------------------------------------


def test_no_password_comes_out_of_anything(server_place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = Sentinel(40)
    written(server_place)
    good = sqlalchemy.make_url(server_place.dsn)
    wrong = server_place.store(server_place.dsn_of(good.username or "", secret.text))
    nowhere = server_place.store(server_place.at(password=secret.text, port=1))
    strange = server_place.store(server_place.at(password=secret.text) + "?frobnicate=1")
    shown: list[str] = []
    for store in (wrong, nowhere, strange):
        shown += [repr(store), str(store), store.place, repr(vars(store)), repr(store._database)]
        for attempt in both(store):
            with pytest.raises(KeyProviderError) as caught:
                attempt()
            for one in chain(caught.value):
                shown += [str(one), repr(one.args), repr(vars(one))]
            shown += traceback.format_exception(caught.value)
            shown += [value for *_, value in our_locals(caught.value)]
            frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
            inside = [frame for frame in frames if frame.f_globals.get("__name__") != __name__]
            shown += [repr(frame.f_locals) for frame in inside]
        for attempt in (lambda store=store: pickle.dumps(store), lambda store=store: pickle.dumps(store._database)):
            with pytest.raises(TypeError):
                attempt()
    shown += [record.getMessage() for record in caplog.records]
    assert secret.found_in("\n".join(shown)) is None

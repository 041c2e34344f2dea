"""How a store is named: URLs that are taken, and words for those that are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from encrypted_sessions.errors import StoreConfigError, StoreError
from encrypted_sessions.stores.urls import open_store
from encrypted_sessions_tests.stores import new_place
from encrypted_sessions_tests.whole_stores import make_tables

SECRET = "hunter2-do-not-show"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:///relative.db", "the SQLite file relative.db"),
        ("sqlite:////absolute/path with space.db", "the SQLite file /absolute/path with space.db"),
        ("sqlite+aiosqlite:///a.db?timeout=20", "the SQLite file a.db"),
        ("sqlite+pysqlite:///50%.db", "the SQLite file 50%.db"),
        ("postgresql://user@db.example.com/agents", "the PostgreSQL database db.example.com/agents"),
        ("postgres://db.example.com:6432/agents", "the PostgreSQL database db.example.com:6432/agents"),
        ("postgresql+asyncpg://user@h/d?ssl=require", "the PostgreSQL database h/d"),
        ("postgresql+psycopg://user@h/d?sslmode=require", "the PostgreSQL database h/d"),
        ("postgresql+psycopg2://user@h/d?sslmode=require", "the PostgreSQL database h/d"),
        ("POSTGRESQL://user@[::1]:5432/d", "the PostgreSQL database ::1:5432/d"),
        ("redis://h:6380/3", "the Redis database h:6380/3"),
        ("rediss://user@h", "the Redis database h:6379/0"),
        ("unix:///run/redis.sock?db=2", "the Redis database /run/redis.sock/2"),
    ],
)
def test_a_store_is_named_by_its_url(url: str, place: str):
    assert open_store(url).location == place


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://h/d", "asyncpg"),
        ("postgresql+asyncpg://h/d", "asyncpg"),
        ("postgresql+psycopg://h/d", "psycopg"),
        ("postgresql+psycopg2://h/d", "asyncpg"),
        ("postgresql://h/d?sslmode=require&application_name=x", "psycopg"),
    ],
)
def test_the_driver_is_the_one_named_else_one_that_is_installed(url: str, driver: str):
    from encrypted_sessions.stores.sql.whole import PostgreSQLStore

    store = open_store(url)
    assert isinstance(store, PostgreSQLStore)
    assert store._connections.url.get_driver_name() == driver


def test_asyncpg_gets_the_options_of_libpq_that_it_knows(monkeypatch: pytest.MonkeyPatch):
    from encrypted_sessions.stores.sql import drivers as postgresql_drivers

    real = postgresql_drivers.find_spec
    monkeypatch.setattr(postgresql_drivers, "find_spec", lambda name: None if name == "psycopg" else real(name))
    assert postgresql_drivers.async_url("postgresql://h/d?sslmode=require", "").query == {"ssl": "require"}
    with pytest.raises(StoreConfigError, match="asyncpg does not accept application_name in a URL"):
        postgresql_drivers.async_url("postgresql://h/d?application_name=x", "psycopg2")
    with pytest.raises(StoreConfigError, match="pip install psycopg"):
        postgresql_drivers.async_url("postgresql+psycopg://h/d", "psycopg")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@host/db",
        f"postgresql+asyncpg://user:{SECRET}/?#@host/db",
        f"postgresql://user:a?{SECRET}@host/db",
        f"postgresql://user@host/db?password={SECRET}",
        f"postgresql://user@host/db?sslpassword={SECRET}",
        f"redis://:{SECRET}@host:6379/0",
        f"rediss://user:{SECRET}@host",
        f"unix:///run/redis.sock?password={SECRET}",
    ],
)
def test_a_password_comes_by_the_environment_alone(url: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(StoreConfigError, match="give env:NAME") as caught:
        open_store(url)
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("STORE", f"  {url}\n")
    if "#" not in url and "a?" not in url:  # these would have to be percent-encoded
        assert SECRET not in open_store("env:STORE").location


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "sqlite:///relative/path.db"),
        ("agents.db", "write sqlite:///agents.db"),
        ("/var/lib/agents.db", "write sqlite:////var/lib/agents.db"),
        ("sqlite:agents.db", "a URL: sqlite:///relative"),
        ("sqlite://agents.db", "three slashes"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite+aiosqlite:///:memory:", "in memory"),
        ("sqlite:///file::memory:?cache=shared", "in memory"),
        ("sqlite:///file:x.db?uri=true", "plain path"),
        ("sqlite:///x.db?vfs=unix-none", "does not accept vfs"),
        ("sqlite+pysqlcipher:///x.db", "pysqlcipher"),
        ("sqlite:///x\0.db", "NUL"),
        ("mysql://h/d", "mysql:// are not supported"),
        ("https://h/d", "https:// are not supported"),
        ("redis+sentinel://h/d", "are not supported"),
        ("postgresql://h:port/d", "not a PostgreSQL URL"),
        ("redis://h:port/0", "not a Redis URL"),
        ("env:", "name of a variable"),
        ("env:A B", "name of a variable"),
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_what_is_no_store_is_refused_with_the_right_form(url: str, words: str):
    with pytest.raises(StoreConfigError) as caught:
        open_store(url)
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, StoreError)


@pytest.mark.parametrize(
    "value", [f"{SECRET}", f"user:{SECRET}@host", f"mysql://u:{SECRET}@h/d", f"postgresql://u:{SECRET}@h:port/d"]
)
def test_what_a_variable_holds_is_never_shown(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STORE", value)
    with pytest.raises(StoreConfigError) as caught:
        open_store("env:STORE")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__context__)


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        (None, {}, TypeError),
        (Path("x.db"), {}, TypeError),
        (b"sqlite:///x.db", {}, TypeError),
        ("sqlite:///x.db", {"messages_table": None}, TypeError),
        ("sqlite:///x.db", {"sessions_table": 7}, TypeError),
        ("sqlite:///x.db", {"messages_table": ""}, ValueError),
        ("sqlite:///x.db", {"sessions_table": "a\0b"}, ValueError),
        ("redis://h", {"key_prefix": None}, TypeError),
    ],
)
def test_arguments_of_another_kind_are_refused(url: object, options: dict[str, object], kind: type[Exception]):
    with pytest.raises(kind):
        open_store(url, **options)  # type: ignore[arg-type]


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path):
    path = tmp_path / "missing.db"
    with pytest.raises(StoreError, match=r"the file .*missing\.db does not exist; nothing was created"):
        async with open_store(f"sqlite:///{path}"):
            pass
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - no event loop is held up by a look


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, just notes" * 100)
    for url in (f"sqlite:///{path}", f"sqlite:///{tmp_path}"):
        with pytest.raises(StoreError):
            async with open_store(url):
                pass
    assert path.read_bytes() == b"not a database, just notes" * 100


async def test_an_empty_file_has_no_tables(tmp_path: Path):
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(StoreError, match="its tables of this form are none"):
        async with open_store(f"sqlite:///{path}"):
            pass


@pytest.mark.parametrize("name", ["a b.db", "q?a#b%41.db", "ü.db"])
async def test_any_name_of_a_file_will_do(name: str, request: pytest.FixtureRequest, tmp_path: Path):
    place = new_place("sqlite", request)
    await make_tables(place)
    path = tmp_path / name
    shutil.copy(place.where, path)
    if "?" in name:  # in SQLAlchemy's URLs too, a question mark begins the options
        with pytest.raises(StoreConfigError, match="does not accept"):
            open_store(f"sqlite:///{path}")
        return
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.count() == 0


def test_opening_nothing_loads_no_sdk_but_the_one_that_is_needed():
    code = (
        "import sys; from encrypted_sessions.stores.urls import open_store; open_store('sqlite:///x.db');"
        " print(sorted(name for name in ('sqlalchemy', 'redis', 'asyncpg', 'agents', 'rich') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_place_can_have_a_prefix_of_any_kind():
    assert open_store("redis://h", key_prefix="").location == open_store("redis://h", key_prefix="ü*[").location

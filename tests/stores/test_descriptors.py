"""What the built-in stores say of themselves is true, and is what users are shown."""

from __future__ import annotations

from collections import Counter

import pytest
from typer.testing import CliRunner

from encrypted_sessions import StoreConfigError
from encrypted_sessions.cli import application
from encrypted_sessions.stores import RowStore, StoreDescriptor
from encrypted_sessions.stores.addresses import StoreUrl
from encrypted_sessions.stores.descriptor import load
from encrypted_sessions.stores.registry import BUILT_IN, store_of_class, store_of_scheme, url_examples, url_forms
from encrypted_sessions.stores.urls import open_store


def test_exactly_four_session_classes_have_rows():
    assert sorted(name.rpartition(".")[2] for store in BUILT_IN for name in store.rows) == [
        "AsyncSQLiteSession",
        "RedisSession",
        "SQLAlchemySession",
        "SQLiteSession",
    ]


def test_no_class_and_no_scheme_belongs_to_two_stores():
    names = Counter(name for store in BUILT_IN for name in [store.name, *store.rows, *store.schemes])
    assert {name for name, times in names.items() if times > 1} <= {store.name for store in BUILT_IN}


@pytest.mark.parametrize("store", BUILT_IN, ids=lambda store: store.name)
def test_what_a_descriptor_names_is_there(store: StoreDescriptor):
    for session_class, rows in store.rows.items():
        found = load(rows)
        assert isinstance(found, type)
        assert issubclass(found, RowStore)
        assert store_of_class(load(session_class[::-1].replace(".", ":", 1)[::-1])) is store  # type: ignore[arg-type]
    assert store.whole is not None
    assert callable(load(store.whole))
    assert all(store_of_scheme(scheme) is store for scheme in store.schemes)
    assert open_store(store.url_example).location


def test_users_are_shown_the_urls_of_the_table():
    with pytest.raises(StoreConfigError) as caught:
        open_store("nothing")
    assert url_forms() in str(caught.value)
    shown = CliRunner().invoke(application(), ["inventory", "--help"], env={"COLUMNS": "400"}).output
    assert url_examples() in " ".join(shown.split())


def test_a_url_taken_apart_shows_nothing_of_itself():
    assert "secret" not in repr(StoreUrl("redis://:secret@host", "redis", "", ":secret@host"))

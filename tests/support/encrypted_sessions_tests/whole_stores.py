"""A place's whole store, as maintenance opens it, and rows of many sessions in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final
from unittest import mock

from encrypted_sessions.stores.urls import open_store
from encrypted_sessions.stores.whole import StoredRow, WholeStore
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.stores import ROW_ADDRESSABLE, StoreLocation
from encrypted_sessions_tests.stores import open_store as open_session

#: Every kind of place that can be worked on as a whole.
WHOLE: Final = (*ROW_ADDRESSABLE, "advanced-sqlite")

#: One of each kind of store.
MAINTAINED: Final = ("sqlite", "sqlalchemy-postgres", "redis")


def url_of(place: StoreLocation) -> str:
    """The place as a URL; a server's may hold a password."""
    return f"sqlite:///{place.where}" if place.in_sqlite else place.where


def names_of(place: StoreLocation) -> dict[str, Any]:
    """The options that say where in the store the place's rows are."""
    if place.kind == "redis":
        return {"key_prefix": place.prefix}
    return {"sessions_table": place.sessions_table, "messages_table": place.messages_table}


def whole(place: StoreLocation, **names: str) -> WholeStore:
    """The whole store of a place, to be entered. Its tables must be there then."""
    # A URL with a password is taken from the environment alone.
    with mock.patch.dict(os.environ, {"URL_OF_THE_STORE": url_of(place)}):
        return open_store("env:URL_OF_THE_STORE", **{**names_of(place), **names})


async def make_tables(place: StoreLocation) -> None:
    async with open_session(place, "who makes the tables"):
        pass


async def fill(place: StoreLocation, rows: Mapping[str, Sequence[str]]) -> None:
    """Make the store, and append each session's rows, the oldest first."""
    await make_tables(place)
    for session_id, texts in rows.items():
        await write_rows(place, session_id, texts)


async def all_rows(store: WholeStore, count: int = 500) -> list[StoredRow]:
    """Every row of the store, in the order of its walk."""
    found: list[StoredRow] = []
    async for block in store.blocks():
        after = None
        while rows := await store.rows(block, after, count):
            assert len(rows) <= count
            found += rows
            after = rows[-1]
    return found


async def rows_of(store: WholeStore, session_id: str, count: int = 500) -> list[StoredRow]:
    """Every row of one session, the oldest first."""
    found: list[StoredRow] = []
    while rows := await store.session_rows(session_id, found[-1] if found else None, count):
        found += rows
    return found


def as_text(row: StoredRow) -> str:
    """The stored data as text, where it is text."""
    return row.data if isinstance(row.data, str) else row.data.decode()

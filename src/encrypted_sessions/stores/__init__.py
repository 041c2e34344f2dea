"""Stores: one folder each, found through the table in `registry`.

A store has up to two sides. `rows` is one session's history, for the wrapper: read backwards, single
rows changed only if nobody else changed them. `whole` is every row of every session, for maintenance.

Four session classes of the Agents SDK keep their rows where single rows can be read, removed and
replaced only if unchanged: SQLiteSession and AsyncSQLiteSession on a file, SQLAlchemySession,
RedisSession (exactly these: a subclass may keep indexes of its own). They have no public way to a
row, so each `rows` module uses what its class has; tests/test_rows_of_the_sdk.py pins that against
the installed SDK. Any other session is used through its own methods (`plain`), with the weaker
promise that SECURITY.md describes, unless another package brings a store for its class.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .access import Cursor, has_rows, rows_to_purge, store_beneath
    from .addresses import StoreNames, StoreUrl
    from .descriptor import StoreDescriptor
    from .plain import PlainStore
    from .replicas import Replica, Replication
    from .rows import TOO_LARGE, CutPage, HistoryMovedError, Problem, Row, RowStore
    from .sizes import MAX_ROW_BYTES, PAGE
    from .whole import Block, StoredRow, WholeStore

__all__ = [
    "MAX_ROW_BYTES",
    "PAGE",
    "TOO_LARGE",
    "Block",
    "Cursor",
    "CutPage",
    "HistoryMovedError",
    "PlainStore",
    "Problem",
    "Replica",
    "Replication",
    "Row",
    "RowStore",
    "StoreDescriptor",
    "StoreNames",
    "StoreUrl",
    "StoredRow",
    "WholeStore",
    "has_rows",
    "rows_to_purge",
    "store_beneath",
]

# Loaded when first asked for (PEP 562): a session needs one side of a store, maintenance the other.
_HOMES = {
    "MAX_ROW_BYTES": "sizes",
    "PAGE": "sizes",
    "TOO_LARGE": "rows",
    "Block": "whole",
    "Cursor": "access",
    "CutPage": "rows",
    "HistoryMovedError": "rows",
    "PlainStore": "plain",
    "Problem": "rows",
    "Replica": "replicas",
    "Replication": "replicas",
    "Row": "rows",
    "RowStore": "rows",
    "StoreDescriptor": "descriptor",
    "StoreNames": "addresses",
    "StoreUrl": "addresses",
    "StoredRow": "whole",
    "WholeStore": "whole",
    "has_rows": "access",
    "rows_to_purge": "access",
    "store_beneath": "access",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

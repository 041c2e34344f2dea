"""From a session to the access to its rows: row by row where a store knows its class, else as a whole."""

from __future__ import annotations

from typing import Any

from .._support.warnings import warn_caller
from ..errors import StoreConfigError
from .descriptor import load
from .plain import PlainCursor, PlainStore
from .registry import qualified_name, store_of_class
from .rows import RowCursor, RowStore

__all__ = ["Cursor", "has_rows", "missing_of", "rows_to_purge", "store_beneath"]

#: A walk from the newest row to the oldest.
Cursor = RowCursor | PlainCursor


def store_beneath(session: Any) -> RowStore | PlainStore:
    """The access to `session`'s rows: row by row where its class allows it, else as a whole."""
    rows = _row_class(session)
    if rows is None or rows.only_to_purge(session):
        return PlainStore(session)
    missing = missing_of(rows, session)
    if missing:
        warn_caller(
            f"the installed Agents SDK's {type(session).__name__} has no {', '.join(missing)}, which this"
            " release uses to remove single rows: pop_item and compaction have only the weaker"
            " guarantee for stores without addressable rows (see SECURITY.md), and expired rows cannot"
            " be purged. Upgrade encrypted-sessions.",
            RuntimeWarning,
        )
        return PlainStore(session)
    return rows(session)


def has_rows(session: Any) -> bool:
    """Whether `session` is of a class whose single rows can be removed, be it in memory."""
    return store_of_class(type(session)) is not None


def rows_to_purge(session: Any) -> RowStore | None:
    """The access for removing old rows, also of a SQLite database in memory; None where there is none."""
    rows = _row_class(session)
    return None if rows is None or missing_of(rows, session) else rows(session)


def _row_class(session: Any) -> type[RowStore] | None:
    store = store_of_class(type(session))
    if store is None:
        return None
    rows = load(store.rows[qualified_name(type(session))])
    if not (isinstance(rows, type) and issubclass(rows, RowStore)):
        raise StoreConfigError(f"the store {store.name} names {rows!r} for its rows, which is not a RowStore")
    return rows


def missing_of(rows: type[RowStore], session: Any) -> list[str]:
    """What a store's rows need of a session, and the installed SDK does not have."""
    return [needed for needed in rows.NEEDS if not hasattr(session, needed)]

"""From a URL of PostgreSQL to its store."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...errors import StoreConfigError
from ..addresses import StoreNames, StoreUrl
from ..tables import Tables

if TYPE_CHECKING:
    from .whole import PostgreSQLStore

__all__ = ["open_postgresql"]


def open_postgresql(url: StoreUrl, names: StoreNames) -> PostgreSQLStore:
    """The store of a PostgreSQL database."""
    if find_spec("sqlalchemy") is None:
        raise StoreConfigError("PostgreSQL needs sqlalchemy; pip install 'encrypted-sessions[sql]'")
    from .whole import PostgreSQLStore  # noqa: PLC0415 - once the SDK is known to be there

    tables = Tables(names.sessions_table, names.messages_table)
    return PostgreSQLStore(f"postgresql://{url.rest}", url.driver, tables)

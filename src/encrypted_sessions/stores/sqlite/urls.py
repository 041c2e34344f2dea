"""From a URL of SQLite to the file that it names."""

from __future__ import annotations

from urllib.parse import parse_qsl

from ...errors import StoreConfigError
from ..addresses import StoreNames, StoreUrl
from ..tables import Tables
from .whole import SQLiteStore

__all__ = ["open_sqlite"]

_FORM = "write sqlite:///relative/path.db or sqlite:////absolute/path.db"

#: Options of SQLite's drivers that change nothing here.
_OPTIONS = {"timeout", "check_same_thread", "cached_statements", "isolation_level"}


def open_sqlite(url: StoreUrl, names: StoreNames) -> SQLiteStore:
    """The store of a file."""
    return SQLiteStore(_path(url), Tables(names.sessions_table, names.messages_table))


def _path(url: StoreUrl) -> str:
    if url.driver not in ("", "pysqlite", "aiosqlite"):
        raise StoreConfigError(f"sqlite+{url.driver}: files of that driver cannot be read here; {_FORM}")
    address, _, query = url.rest.partition("?")
    path = address.removeprefix("/")
    if not address.startswith("/"):
        if address:
            raise StoreConfigError(f"a sqlite: URL has three slashes before its path, four if it is absolute; {_FORM}")
        path = ":memory:"
    if not path or path == ":memory:" or "mode=memory" in query or path.startswith("file::memory:"):
        raise StoreConfigError(
            f"a store in memory is lost when its process ends, and no other process can open it; {_FORM}"
        )
    if path.startswith("file:"):
        raise StoreConfigError(f"a sqlite: URL must hold a plain path here, not a 'file:' URI; {_FORM}")
    if "\0" in path:
        raise StoreConfigError(f"the path of the SQLite file contains a NUL character; {_FORM}")
    unknown = sorted({name for name, _ in parse_qsl(query, keep_blank_values=True)} - _OPTIONS)
    if unknown:
        raise StoreConfigError(f"a sqlite: URL does not accept {', '.join(unknown)} here; {_FORM}")
    return path

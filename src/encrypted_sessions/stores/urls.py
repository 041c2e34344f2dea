"""Where a store is, as a URL. A password comes only by the environment, never on a command line."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from keyproviders import redact_frames

from ..errors import StoreConfigError
from .tables import Tables, table_name
from .whole import WholeStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMS = (
    "sqlite:///relative/path.db or sqlite:////absolute/path.db, postgresql://user@host/database,"
    " redis://host:6379/0, or env:NAME, the variable that holds such a URL"
)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)\Z", re.DOTALL)
_REDIS = ("redis", "rediss", "unix")

#: Options of SQLite's drivers that change nothing here.
_SQLITE_OPTIONS = {"timeout", "check_same_thread", "cached_statements", "isolation_level"}


@redact_frames
def open_store(
    url: str,
    *,
    sessions_table: str = "agent_sessions",
    messages_table: str = "agent_messages",
    key_prefix: str = "agents:session",
) -> WholeStore:
    """The whole store at a URL, to be entered with `async with`. Nothing is opened before.

    `url` is an SQLAlchemy URL of SQLite or PostgreSQL, with or without a driver, sync or async; a Redis
    URL; or `env:NAME`, the environment variable that holds the URL: where it has a password, it is
    taken only so. The tables are named as the sessions' were (SQL), or the prefix of their keys (Redis).

    Raises TypeError and StoreConfigError (a ValueError): a bad URL, a variable or an extra that is missing.
    """
    tables = Tables(table_name(sessions_table, "sessions_table"), table_name(messages_table, "messages_table"))
    if not isinstance(key_prefix, str):
        raise TypeError(f"key_prefix must be a str, not {type(key_prefix).__name__}")
    if not isinstance(url, str):
        raise TypeError(f"the store must be a URL as a str, not {type(url).__name__}")
    text = _from_environment(url) if url.startswith("env:") else _without_password(url)
    scheme, rest = _split(text, given=url)
    kind, _, driver = scheme.partition("+")
    if kind == "sqlite":
        from .sqlite.whole import SQLiteStore  # noqa: PLC0415 - when it is used

        return SQLiteStore(_sqlite_path(driver, rest), tables)
    if kind in ("postgresql", "postgres"):
        from .sql.whole import PostgreSQLStore  # noqa: PLC0415 - as above

        return PostgreSQLStore(f"postgresql://{rest}", driver, tables)
    if kind in _REDIS and not driver:
        from .redis.whole import RedisStore  # noqa: PLC0415 - as above

        return RedisStore(text, key_prefix)
    raise StoreConfigError(f"stores of the kind {scheme}:// cannot be worked on as a whole; give {_FORMS}")


def _from_environment(url: str) -> str:
    name = url.removeprefix("env:")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise StoreConfigError("env: is followed by the name of a variable alone, as in env:SESSIONS_URL")
    text = os.environ.get(name, "").strip()
    if not text:
        raise StoreConfigError(f"the environment variable {name} is not set, or empty; it should hold the store's URL")
    return text


def _without_password(url: str) -> str:
    if any(_passwords(url)):
        raise StoreConfigError(
            "the store's URL holds a password, which others on this machine can read from a command line and from"
            " history. Put the URL into an environment variable, and give env:NAME, the variable's name"
        )
    return url


def _passwords(url: str) -> Iterator[bool]:
    """Whether a password is in any of the places where one can be."""
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    if not scheme.lower().startswith("sqlite"):
        # Up to the last '@': a password that is not percent-encoded may hold any of '/?#@'.
        yield ":" in url.partition("://")[2].rpartition("@")[0] or ":" in rest.rpartition("@")[0]
    yield from ("password" in name.lower() for name, _ in parse_qsl(query, keep_blank_values=True))


def _split(text: str, *, given: str) -> tuple[str, str]:
    """The scheme in small letters, and what comes after the slashes. Shows a URL only if it was no variable's."""
    found = _URL.match(text)
    if found:
        return found[1].lower(), found[2]
    if given != text:
        raise StoreConfigError(f"the variable {given.removeprefix('env:')} holds no URL; it should hold {_FORMS}")
    if re.fullmatch(r"[^:@?\s]+", text):  # the path of a file, most likely
        slashes = "sqlite:///" + text
        raise StoreConfigError(f"{text!r} is no URL; for a file of SQLite write {slashes}. A store is {_FORMS}")
    raise StoreConfigError(f"the store is given as a URL: {_FORMS}")


def _sqlite_path(driver: str, rest: str) -> str:
    form = "write sqlite:///relative/path.db or sqlite:////absolute/path.db"
    if driver not in ("", "pysqlite", "aiosqlite"):
        raise StoreConfigError(f"sqlite+{driver}: that driver's files cannot be read here; {form}")
    address, _, query = rest.partition("?")
    path = address.removeprefix("/")
    if not address.startswith("/"):
        if address:
            raise StoreConfigError(f"a sqlite: URL has three slashes before its path, four if it is absolute; {form}")
        path = ":memory:"
    if not path or path == ":memory:" or "mode=memory" in query or path.startswith("file::memory:"):
        raise StoreConfigError(f"a store in memory ends with its process, and nobody else can open it; {form}")
    if path.startswith("file:"):
        raise StoreConfigError(f"a sqlite: URL holds a plain path here, no 'file:' URI; {form}")
    if "\0" in path:
        raise StoreConfigError(f"the path of the SQLite file holds a NUL character; {form}")
    unknown = sorted({name for name, _ in parse_qsl(query, keep_blank_values=True)} - _SQLITE_OPTIONS)
    if unknown:
        raise StoreConfigError(f"a sqlite: URL takes no {', '.join(unknown)} here; {form}")
    return path

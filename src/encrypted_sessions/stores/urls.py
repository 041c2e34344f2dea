"""Where a store is, as a URL. A password comes only by the environment, never on a command line."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from keyproviders import redact_frames

from ..errors import StoreConfigError
from .addresses import StoreNames, StoreUrl
from .descriptor import load
from .registry import names_a_path, store_of_scheme, url_forms
from .tables import table_name
from .whole import WholeStore

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["open_store"]

_FORMS = f"{url_forms()}, or env:NAME, the variable that holds such a URL"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)\Z", re.DOTALL)


@redact_frames
def open_store(
    url: str,
    *,
    sessions_table: str = "agent_sessions",
    messages_table: str = "agent_messages",
    key_prefix: str = "agents:session",
) -> WholeStore:
    """The whole store at a URL, to be entered with `async with`. Nothing is opened before that.

    Args:
        url: An SQLAlchemy URL of SQLite or PostgreSQL, with or without a driver, sync or async; a Redis URL; a URL of
            a store that another package adds; or `env:NAME`, an environment variable that holds the URL. A URL with a
            password must be given that way.
        sessions_table: The name of the sessions' table of sessions (SQL).
        messages_table: The name of their table of messages (SQL).
        key_prefix: The prefix of the sessions' keys (Redis).

    Returns:
        The store, for one `async with`. Entering it raises StoreError if the store there does not fit the arguments.

    Raises:
        TypeError: An argument has the wrong type.
        StoreConfigError: The URL is wrong, or a variable or an extra is missing. It is a ValueError.
    """
    table_name(sessions_table, "sessions_table")
    table_name(messages_table, "messages_table")
    if not isinstance(key_prefix, str):
        raise TypeError(f"key_prefix must be a str, not {type(key_prefix).__name__}")
    if not isinstance(url, str):
        raise TypeError(f"the store must be a URL as a str, not {type(url).__name__}")
    text = _from_environment(url) if url.startswith("env:") else _without_password(url)
    parsed = _parsed(text, given=url)
    store = store_of_scheme(parsed.scheme, driver=parsed.driver)
    if store is None or store.whole is None:
        kind = "+".join(filter(None, (parsed.scheme, parsed.driver)))
        raise StoreConfigError(f"whole stores of the kind {kind}:// are not supported; give {_FORMS}")
    opener: Any = load(store.whole)
    opened: object = opener(parsed, StoreNames(sessions_table, messages_table, key_prefix))
    if not isinstance(opened, WholeStore):
        raise StoreConfigError(
            f"the store {store.name} returned a {type(opened).__name__} for a URL, which is not a WholeStore"
        )
    return opened


def _from_environment(url: str) -> str:
    name = url.removeprefix("env:")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise StoreConfigError("env: must be followed by the name of a variable only, as in env:SESSIONS_URL")
    text = os.environ.get(name, "").strip()
    if not text:
        raise StoreConfigError(
            f"the environment variable {name} is not set or is empty; it should hold the store's URL"
        )
    return text


def _without_password(url: str) -> str:
    if any(_passwords(url)):
        raise StoreConfigError(
            "the store's URL holds a password, which other users of this machine can read from the command line and"
            " the shell's history. Put the URL into an environment variable, and give env:NAME with the variable's name"
        )
    return url


def _passwords(url: str) -> Iterator[bool]:
    """Whether a password is in any of the places where one can be."""
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    if not names_a_path(scheme.lower().partition("+")[0]):
        # Up to the last '@': a password that is not percent-encoded may hold any of '/?#@'.
        yield ":" in url.partition("://")[2].rpartition("@")[0] or ":" in rest.rpartition("@")[0]
    yield from ("password" in name.lower() for name, _ in parse_qsl(query, keep_blank_values=True))


def _parsed(text: str, *, given: str) -> StoreUrl:
    """The URL taken apart. Shows a URL only if it was no variable's."""
    found = _URL.match(text)
    if found:
        scheme, _, driver = found[1].lower().partition("+")
        return StoreUrl(text, scheme, driver, found[2])
    if given != text:
        raise StoreConfigError(
            f"the variable {given.removeprefix('env:')} does not hold a URL; it should hold {_FORMS}"
        )
    if re.fullmatch(r"[^:@?\s]+", text):  # the path of a file, most likely
        slashes = "sqlite:///" + text
        raise StoreConfigError(f"{text!r} is not a URL; for an SQLite file write {slashes}. A store is {_FORMS}")
    raise StoreConfigError(f"the store must be given as a URL: {_FORMS}")

"""Where keysets are kept: a module for each kind, found by what `keyset=` says in a URL."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ProviderConfigError
from .base import KeysetStore
from .file import FileKeysetStore
from .sql import SqlKeysetStore

__all__ = ["EXAMPLES", "URL_OPTIONS", "open_store"]

#: By the first word of `keyset=`, with the colon where something follows it.
_STORES: Mapping[str, type[FileKeysetStore | SqlKeysetStore]] = {
    "file:": FileKeysetStore,
    "sql": SqlKeysetStore,
}

#: The options that stores have in a URL, beside `keyset`.
URL_OPTIONS: frozenset[str] = frozenset().union(*(store.URL_OPTIONS for store in _STORES.values()))
#: How a URL names a store, for messages.
EXAMPLES = "keyset=file:/etc/agents/keyset.json, or keyset=sql&dsn_env=DATABASE_URL"


def open_store(place: str, options: Mapping[str, str], scheme: str, *, allow_insecure: bool = False) -> KeysetStore:
    """The store that `keyset=place` names in a URL of that scheme, with the options of stores. No I/O happens yet.

    Raises ProviderConfigError.
    """
    kind, colon, rest = place.partition(":")
    store = _STORES.get(kind + colon)
    if store is None:
        raise ProviderConfigError(
            f"the keyset of a {scheme}: URL is neither in a file nor in an SQL database; write {EXAMPLES}"
        )
    for option in options:
        if option not in store.URL_OPTIONS:
            raise ProviderConfigError(
                f"{option} has no effect for a keyset in {store.KIND}; leave it out of the {scheme}: URL"
            )
    return store.from_options(rest, options, scheme, allow_insecure=allow_insecure)

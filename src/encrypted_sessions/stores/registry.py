"""The one table of stores: from a session's class to its rows, from a URL's scheme to the whole store.

Other packages add a store by the entry-point group `encrypted_sessions.stores`. An entry point is named
like what it is asked for, a URL scheme or the qualified name of a session class, and its value is the
`StoreDescriptor`. Built-in stores come first, so that nothing that is installed takes one over or costs
anything where a built-in one is used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import StoreConfigError
from .descriptor import StoreDescriptor
from .redis import REDIS
from .sql import SQL
from .sqlite import SQLITE

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "BUILT_IN",
    "names_a_path",
    "other_purge_of_class",
    "qualified_name",
    "store_of_class",
    "store_of_scheme",
    "url_examples",
    "url_forms",
    "wrapper_of_class",
]

#: In the order of the documentation.
BUILT_IN: tuple[StoreDescriptor, ...] = (SQLITE, SQL, REDIS)

_GROUP = "encrypted_sessions.stores"

_BY_CLASS = {name: store for store in BUILT_IN for name in store.rows}
_OTHER_PURGES = {name: how for store in BUILT_IN for name, how in store.purged_otherwise.items()}
_OTHER_WRAPPERS = {name: wrapper for store in BUILT_IN for name, wrapper in store.wrapped_by.items()}
_BY_SCHEME = {scheme: store for store in BUILT_IN for scheme in store.schemes}


def store_of_class(session_class: type) -> StoreDescriptor | None:
    """The store whose rows a session of exactly this class has; None where no store knows the class.

    Raises StoreConfigError when several packages claim the class, or the one that does is wrong.
    """
    name = qualified_name(session_class)
    return _BY_CLASS.get(name) or _installed(name, "sessions of the class {name}", "rows")


def store_of_scheme(scheme: str, *, driver: str = "") -> StoreDescriptor | None:
    """The store that opens URLs with this scheme (and driver); None where there is none.

    Raises StoreConfigError as `store_of_class` does.
    """
    built_in = _BY_SCHEME.get(scheme)
    if built_in is not None and (built_in.takes_drivers or not driver):
        return built_in
    if built_in is not None or driver:
        return None
    return _installed(scheme, "URLs that begin with {name}:", "schemes")


def names_a_path(scheme: str) -> bool:
    """Whether URLs of this built-in scheme name a path of this machine, and no password can be in them."""
    return scheme in _BY_SCHEME and _BY_SCHEME[scheme].is_path


def other_purge_of_class(session_class: type) -> str | None:
    """How expired rows of such a session are removed, where not one by one; None where no built-in store knows."""
    return _OTHER_PURGES.get(qualified_name(session_class))


def wrapper_of_class(session_class: type) -> str | None:
    """The wrapper that was made for such a session, where EncryptedSession loses what it does; else None.

    A class made from such a one does the same, and more.
    """
    wrappers = (_OTHER_WRAPPERS.get(qualified_name(one)) for one in session_class.__mro__)
    return next((wrapper for wrapper in wrappers if wrapper is not None), None)


def qualified_name(session_class: type) -> str:
    """The module and name by which a class is known."""
    return f"{session_class.__module__}.{session_class.__qualname__}"


def url_forms() -> str:
    """How the URLs of the built-in stores are written, for error messages."""
    return ", ".join(store.url_form for store in BUILT_IN)


def url_examples() -> str:
    """A URL of each built-in store, for the help of the command line."""
    *others, last = (store.url_example for store in BUILT_IN)
    return f"{', '.join(others)} or {last}"


@lru_cache(maxsize=256)  # a session of a class that no store knows may be made for each request
def _installed(name: str, what: str, field: str) -> StoreDescriptor | None:
    """The store of another package whose entry point has this name. No other entry point is loaded."""
    found = _entry_points(name)
    if not found:
        return None
    what = what.format(name=name)
    if len(found) > 1:
        owners = ", ".join(sorted(f"{one.dist.name if one.dist else '?'} ({one.value})" for one in found))
        raise StoreConfigError(f"several packages offer a store for {what}: {owners}; uninstall all but one")
    store = found[0].load()
    if not isinstance(store, StoreDescriptor) or name not in getattr(store, field):
        raise StoreConfigError(
            f"{found[0].value}, which is installed as the store for {what}, is not a StoreDescriptor with that name"
            f" in its {field}; fix or uninstall its package"
        )
    return store


def _entry_points(name: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - only what no built-in store knows is looked for

    return list(entry_points(group=_GROUP, name=name))

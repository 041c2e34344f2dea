"""What a store says of itself, so that it is found without being imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["StoreDescriptor", "load"]


class StoreDescriptor(NamedTuple):
    """One kind of store. What imports an SDK is named as `package.module:name`, and loaded when it is used."""

    #: What the store is called, such as `redis`.
    name: str

    #: The rows of one session: from the qualified name of a session class to its `RowStore`. Exactly these classes are
    #: meant: a subclass may keep indexes of its own.
    rows: Mapping[str, str] = MappingProxyType({})

    #: Session classes whose single rows cannot be changed, and yet expired ones can be removed: from the qualified name
    #: to how, as the end of an error message.
    purged_otherwise: Mapping[str, str] = MappingProxyType({})

    #: Session classes that do more than EncryptedSession keeps: from the qualified name to the wrapper made for them.
    wrapped_by: Mapping[str, str] = MappingProxyType({})

    #: The URL schemes under which the whole store can be opened, in small letters.
    schemes: tuple[str, ...] = ()

    #: Whether a scheme may name a driver behind a plus sign, as the URLs of SQLAlchemy do.
    takes_drivers: bool = False

    #: Whether its URLs name a path of this machine, where `:` and `@` are letters like others and no password can be.
    is_path: bool = False

    #: What opens the whole store: `opener(url: StoreUrl, names: StoreNames) -> WholeStore`. It does no I/O; entering
    #: the store does. It raises StoreConfigError for a URL that it does not understand.
    whole: str | None = None

    #: How its URLs are written, for error messages.
    url_form: str = ""

    #: One URL of it, for the help of the command line.
    url_example: str = ""


def load(reference: str) -> object:
    """The object behind `package.module:name`."""
    module, _, name = reference.partition(":")
    found: object = getattr(import_module(module), name)
    return found

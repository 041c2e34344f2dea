"""What a store says of itself, so that it is found without being imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

__all__ = ["StoreDescriptor", "load"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


class StoreDescriptor:
    """One kind of store. What imports an SDK is named as `package.module:name`, and loaded when it is used."""

    def __init__(
        self,
        name: str,
        *,
        rows: Mapping[str, str] = _NOTHING,
        purged_otherwise: Mapping[str, str] = _NOTHING,
        wrapped_by: Mapping[str, str] = _NOTHING,
        schemes: tuple[str, ...] = (),
        takes_drivers: bool = False,
        is_path: bool = False,
        whole: str | None = None,
        url_form: str = "",
        url_example: str = "",
    ) -> None:
        #: What the store is called, such as `redis`.
        self.name = name

        #: The rows of one session: from the qualified name of a session class to its `RowStore`. Exactly these classes
        #: are meant: a subclass may keep indexes of its own.
        self.rows = rows

        #: Session classes whose single rows cannot be changed, and yet expired ones can be removed: from the qualified
        #: name to how, as the end of an error message.
        self.purged_otherwise = purged_otherwise

        #: Session classes that do more than EncryptedSession keeps: from the qualified name to the wrapper made for
        #: them.
        self.wrapped_by = wrapped_by

        #: The URL schemes under which the whole store can be opened, in small letters.
        self.schemes = schemes

        #: Whether a scheme may name a driver behind a plus sign, as the URLs of SQLAlchemy do.
        self.takes_drivers = takes_drivers

        #: Whether its URLs name a path of this machine, where `:` and `@` are letters like others and no password can
        #: be.
        self.is_path = is_path

        #: What opens the whole store: `opener(url: StoreUrl, names: StoreNames) -> WholeStore`. It does no I/O;
        #: entering the store does. It raises StoreConfigError for a URL that it does not understand.
        self.whole = whole

        #: How its URLs are written, for error messages.
        self.url_form = url_form

        #: One URL of it, for the help of the command line.
        self.url_example = url_example

    def __repr__(self) -> str:
        return f"<StoreDescriptor {self.name}>"


def load(reference: str) -> object:
    """The object behind `package.module:name`."""
    module, _, name = reference.partition(":")
    found: object = getattr(import_module(module), name)
    return found

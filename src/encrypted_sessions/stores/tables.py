"""The two tables of a store: their names, and whether they are what the SDK's classes make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from ..errors import StoreConfigError, StoreError

__all__ = ["Tables", "quoted", "table_name"]

_COLUMNS = {
    "sessions_table": {"session_id"},
    "messages_table": {"id", "session_id", "message_data", "created_at"},
}
_SHOWN = 20


class Tables(NamedTuple):
    """Names as the database has them: no quotes around them, no schema before them."""

    sessions: str
    messages: str

    def check(
        self, found: Mapping[str, Collection[str]], location: str, *, fold: Callable[[str], str] = lambda name: name
    ) -> None:
        """See that both are among the tables found, with the columns that are needed; else StoreError.

        `found` has the columns of each table; `fold` says how the database compares names.
        """
        columns = {fold(name): {fold(column) for column in found[name]} for name in found}
        for argument, name in zip(_COLUMNS, self, strict=True):
            if fold(name) not in columns:
                fit = [other for other in found if _COLUMNS[argument] <= columns[fold(other)]]
                raise StoreError(
                    f"{location} has no table {name!r}: its tables of this form are {_shown(fit)}."
                    f" Give the names that the sessions use ({argument}, on the command line"
                    f" --{argument.replace('_', '-')})"
                )
            missing = _COLUMNS[argument] - columns[fold(name)]
            if missing:
                raise StoreError(
                    f"{argument} {name!r} of {location} has no column {', '.join(sorted(missing))}: the Agents SDK's"
                    " sessions did not create it. Check that sessions_table and messages_table are not swapped"
                )


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def table_name(value: object, argument: str) -> str:
    """A non-empty str that a database can take as a name."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if not value or "\0" in value or not value.isprintable():
        raise StoreConfigError(f"{argument} must be the name of a table, not {value!r}")
    return value


def _shown(names: Collection[str]) -> str:
    if not names:
        return "none"
    more = len(names) - _SHOWN
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

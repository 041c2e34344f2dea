"""What leads to a whole store: its URL, taken apart, and the names within it. No session needs these."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["StoreNames", "StoreUrl"]


class StoreUrl(NamedTuple):
    """A store's URL taken apart. It may hold a password, so no message shows a part of it unasked."""

    #: The URL as it was given, or as the environment variable holds it.
    text: str
    #: In small letters, without a driver.
    scheme: str
    #: In small letters; empty if the URL names none.
    driver: str
    #: What comes after the slashes.
    rest: str

    def __repr__(self) -> str:
        return f"StoreUrl(scheme={self.scheme!r})"


class StoreNames(NamedTuple):
    """How the sessions' rows are named within a store; each store takes what it knows."""

    sessions_table: str
    messages_table: str
    key_prefix: str

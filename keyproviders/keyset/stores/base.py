"""What a place that keeps keysets must be able to do: a file, an SQL database, or one of your own."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["MOST_BYTES", "KeysetStore", "StoredKeyset"]

#: So long a keyset may be, in bytes. It is ASCII, and one with a thousand keys stays below.
MOST_BYTES = 1 << 20


class StoredKeyset(NamedTuple):
    """A keyset as it lies there: its text, and a ``revision`` that is another one after every write."""

    text: str
    revision: str


@runtime_checkable
class KeysetStore(Protocol):
    """A place that keeps keysets, each under a name. Synchronous, and safe for 4 threads at once.

    ``place`` names it in messages, without a password. Raises KeyUnavailableError when it cannot
    answer now, KeyAccessDeniedError when it may not, ProviderConfigError when it cannot be as it is
    set up. It does not look into the text.

    It may also have ``close()``, and ``after_fork()``, called in a forked child before its first call
    there.
    """

    place: str

    def read(self, name: str) -> StoredKeyset | None:
        """The keyset of that name, or None when there is none."""
        ...

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        """Put ``text`` in the place of the revision ``expected``; None: there must be none yet.

        False when another revision is there, and then nothing is changed. Whatever happens meanwhile,
        the old text is there or the new one, whole.
        """
        ...

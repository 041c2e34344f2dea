"""What a place that keeps keysets must be able to do: a file, an SQL database, or one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["MOST_BYTES", "KeepsNotes", "KeysetStore", "Note", "StoredKeyset"]

#: So long a keyset may be, in bytes. It is ASCII, and one with a thousand keys stays below.
MOST_BYTES = 1 << 20


class StoredKeyset(NamedTuple):
    """A keyset as it is stored.

    Args:
        text: Its text, in ASCII.
        revision: An identifier of this state, different whenever the text is different.
    """

    text: str
    revision: str


class Note(NamedTuple):
    """What is kept of one change of a keyset, for good. No two have the same id and revision.

    Args:
        keyset_id: The keyset's id.
        revision: Its revision from that change on.
        text: The change, as one line of ASCII.
    """

    keyset_id: str
    revision: int
    text: str


@runtime_checkable
class KeepsNotes(Protocol):
    """What a store may have beside: a place for the notes of all changes, of which the keyset has the last ones only.

    Both raise what `KeysetStore` names.
    """

    def note(self, name: str, notes: Sequence[Note]) -> None:
        """Keep those of the notes that are not kept yet, in this order."""
        ...

    def notes(self, name: str) -> Sequence[Note]:
        """All notes of the keysets of that name, in the order in which they came."""
        ...


@runtime_checkable
class KeysetStore(Protocol):
    """Stores keysets, each under a name. Synchronous, and safe for 4 threads at once.

    `place` describes it in messages, without a password. It raises KeyUnavailableError if it cannot answer now,
    KeyAccessDeniedError if access is denied, ProviderConfigError if it cannot work with its settings. It does not
    interpret the text.

    It may also have `close()`, and `after_fork()`, called in a forked child before its first call
    there; and `note()` and `notes()`, as `KeepsNotes` says.
    """

    place: str

    def read(self, name: str) -> StoredKeyset | None:
        """The keyset as it is now.

        Args:
            name: Its name.

        Returns:
            The keyset, or None if there is none.

        Raises:
            KeyProviderError: One of the errors that the class names.
        """
        ...

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        """Replace one revision of a keyset. Whatever happens, either the old or the new text is stored, complete.

        Args:
            name: The name of the keyset.
            text: Its new text.
            expected: The revision that it replaces; None if there must be none yet.

        Returns:
            Whether it was written. False if another revision is stored; then nothing is changed.

        Raises:
            KeyUnavailableError: Either text may be stored now.
            KeyProviderError: Another of the errors that the class names.
        """
        ...

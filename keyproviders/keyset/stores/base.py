"""What a place that keeps keysets must be able to do: a file, an SQL database, or one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["MOST_BYTES", "KeepsNotes", "KeysetStore", "Note", "StoredKeyset"]

#: So long a keyset may be, in bytes. It is ASCII, and one with a thousand keys stays below.
MOST_BYTES = 1 << 20


class StoredKeyset(NamedTuple):
    """A keyset as it lies there.

    Args:
        text: Its text, which is ASCII.
        revision: A name of this state, another one whenever the text is.
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
    """A place that keeps keysets, each under a name. Synchronous, and safe for 4 threads at once.

    `place` names it in messages, without a password. Raises KeyUnavailableError when it cannot
    answer now, KeyAccessDeniedError when it may not, ProviderConfigError when it cannot be as it is
    set up. It does not look into the text.

    It may also have `close()`, and `after_fork()`, called in a forked child before its first call
    there; and `note()` and `notes()`, as `KeepsNotes` says.
    """

    place: str

    def read(self, name: str) -> StoredKeyset | None:
        """The keyset as it is now.

        Args:
            name: Its name.

        Returns:
            The keyset, or None when there is none.

        Raises:
            KeyProviderError: One of the errors that the class names.
        """
        ...

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        """Replace one revision of a keyset. Whatever happens meanwhile, the old text is there or the new one, whole.

        Args:
            name: The name of the keyset.
            text: Its new text.
            expected: The revision that it replaces; None where there must be none yet.

        Returns:
            Whether it was written. False when another revision is there, and then nothing is changed.

        Raises:
            KeyUnavailableError: Either text may be there.
            KeyProviderError: Another of the errors that the class names.
        """
        ...

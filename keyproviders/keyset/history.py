"""All changes of a keyset: those that it has on record itself, and those before, which its store keeps beside it."""

from __future__ import annotations

from ..errors import KeyProviderError
from .access import KeysetAccess
from .document import change_of, text_of_change
from .model import Change, Keyset
from .stores.base import KeepsNotes, Note

__all__ = ["all_changes", "note_changes"]


def note_changes(access: KeysetAccess, keyset: Keyset) -> str | None:
    """Have the store keep what a keyset has on record, also what it missed before. Why it cannot, or None.

    The change itself is made by then, so that nothing is raised.
    """
    store = access.store
    if not isinstance(store, KeepsNotes) or keyset.id is None:
        return None
    try:
        store.note(access.name, list(_notes(keyset).values()))
    except KeyProviderError as error:
        return str(error)
    return None


def all_changes(access: KeysetAccess) -> list[Change]:
    """The oldest first. What the store keeps beside the keyset and is no change is passed over."""
    keyset, store = access.existing().keyset, access.store
    notes = {} if keyset.id is None else _notes(keyset)
    if isinstance(store, KeepsNotes):
        kept = {(note.keyset_id, note.revision): note for note in store.notes(access.name)}
        notes = {**kept, **notes}
    found = [change_of(note.text) for note in notes.values()]
    return [change for change in found if change is not None]


def _notes(keyset: Keyset) -> dict[tuple[str, int], Note]:
    assert keyset.id is not None  # noqa: S101 - one of format 1 has no changes
    first = keyset.revision - len(keyset.changes) + 1
    return {
        (keyset.id, revision): Note(keyset.id, revision, text_of_change(change))
        for revision, change in enumerate(keyset.changes, first)
    }

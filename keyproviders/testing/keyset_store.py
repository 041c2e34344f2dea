"""What every store of keysets should pass."""

from __future__ import annotations

from functools import partial

from ..keyset.stores.base import MOST_BYTES, KeepsNotes, KeysetStore, Note, StoredKeyset
from .checks import at_once, expect, expect_closes_twice, expect_no_new_threads, is_text, renew

__all__ = ["KeysetStoreConformance"]

_NAME = "conformance"


class KeysetStoreConformance:
    """Tests that every store of keysets should pass. For pytest: inherit from it, and say how to make one.

        class TestMyStore(KeysetStoreConformance):
            def make_store(self):
                return MyStore(...)   # each time of the same place, which is empty when a test begins

    `keeps_several` is False for a store that keeps only one keyset, whatever its name.
    """

    keeps_several = True

    def make_store(self) -> KeysetStore:
        """A store used by this test only: the same one at every call, and empty at first."""
        raise NotImplementedError("inherit KeysetStoreConformance and say how a store is made")

    def test_it_has_what_a_store_must_have(self) -> None:
        """A keyset can be kept there."""
        store = self.make_store()
        expect(isinstance(store, KeysetStore), "it lacks read(), write() or place")
        expect(is_text(store.place), "its place is not a str")

    def test_nothing_is_found_before_the_first_write(self) -> None:
        """And reading does not change that."""
        for _ in range(2):
            expect(self.make_store().read(_NAME) is None, "it found a keyset that was never written")

    def test_what_was_written_is_found_whole(self) -> None:
        """Character by character, also by another process."""
        text = '{"a": "b", "c": [1, 2]}\n \t"\\\\u00e4" %s %(x)s {} ; -- \'\n\n'
        expect(self.make_store().write(_NAME, text, expected=None), "the first write was refused")
        expect(self._found().text == text, "what was read is not what was written")

    def test_the_longest_keyset_is_kept_whole(self) -> None:
        """A keyset may have 1 MiB."""
        text = "{" + "x" * (MOST_BYTES - 2) + "}"
        expect(self.make_store().write(_NAME, text, expected=None), "the first write was refused")
        expect(self._found().text == text, "what was read is not what was written")

    def test_a_keyset_is_made_once(self) -> None:
        """A second first write is refused, and changes nothing."""
        first = self._written("one")
        expect(not self.make_store().write(_NAME, "two", expected=None), "a new keyset replaced an existing one")
        expect(self._found() == first, "a write that was refused changed the keyset")

    def test_the_revision_that_is_there_can_be_replaced(self) -> None:
        """And what takes its place has another revision."""
        store = self.make_store()
        first = self._written("one")
        expect(store.write(_NAME, "two", expected=first.revision), "a write over the newest revision was refused")
        second = self._found()
        expect(second.text == "two", "a write that was accepted changed nothing")
        expect(second.revision != first.revision, "another text has the same revision")

    def test_another_revision_cannot_be_replaced(self) -> None:
        """Somebody else was first: nothing is changed."""
        store = self.make_store()
        first = self._written("one")
        expect(store.write(_NAME, "two", expected=first.revision), "a write over the newest revision was refused")
        second = self._found()
        expect(not store.write(_NAME, "three", expected=first.revision), "a write over an old revision was accepted")
        expect(self._found() == second, "a write that was refused changed the keyset")

    def test_what_is_not_there_cannot_be_replaced(self) -> None:
        """And is not made by that."""
        store = self.make_store()
        expect(not store.write(_NAME, "one", expected="0" * 32), "a write over nothing was accepted")
        expect(store.read(_NAME) is None, "a write that was refused made a keyset")

    def test_keysets_are_kept_apart_by_their_names(self) -> None:
        """Also by names that differ in their case alone."""
        if not self.keeps_several:
            return
        store = self.make_store()
        names = (_NAME, _NAME.upper(), f"{_NAME}.2")
        for name in names:
            expect(store.write(name, f"the keyset {name}", expected=None), f"the keyset {name} was refused")
        for name in names:
            stored = store.read(name)
            expect(stored is not None and stored.text == f"the keyset {name}", f"the keyset {name} was mixed up")

    def test_of_several_that_write_at_once_one_comes_through(self) -> None:
        """Making a keyset, and replacing it."""
        store = self.make_store()
        won = at_once(lambda: store.write(_NAME, "one", expected=None))
        expect(sorted(map(str, won)) == ["False", "False", "False", "True"], f"four that made it at once got {won}")
        first = self._found()
        won = at_once(lambda: store.write(_NAME, "two", expected=first.revision))
        expect(sorted(map(str, won)) == ["False", "False", "False", "True"], f"four that replaced it at once got {won}")

    def test_several_threads_may_read_at_once(self) -> None:
        """At most 4, as a ring does."""
        store = self.make_store()
        first = self._written("one")
        found = at_once(lambda: store.read(_NAME))
        expect(found == [first] * 4, f"four threads got {found!r}")

    def test_notes_of_changes_are_kept_once_and_in_order(self) -> None:
        """`note()` and `notes()`, if it has them: also of two keysets of one name, and by several at once."""
        store, another = self.make_store(), self.make_store()
        if not isinstance(store, KeepsNotes) or not isinstance(another, KeepsNotes):
            return
        expect(list(store.notes(_NAME)) == [], "it has notes that were never written to it")
        first = [Note("0" * 32, revision, f"change {revision}: \\u00e4 ' %s") for revision in (1, 2, 10)]
        store.note(_NAME, first[:2])
        store.note(_NAME, first)
        second = Note("f" * 32, 1, "made again")
        at_once(partial(another.note, _NAME, [second]))
        found = list(another.notes(_NAME))
        expect(
            [one for one in found if one != second] == first and found.count(second) == 1, f"of {first} came {found}"
        )

    def test_it_starts_no_threads(self) -> None:
        """Waiting and repeating are not its task."""
        expect_no_new_threads(lambda: self.make_store().read(_NAME))

    def test_it_goes_on_after_a_fork(self) -> None:
        """`after_fork()`, if it has one, leaves it able to answer."""
        store = self.make_store()
        first = self._written("one")
        expect(store.read(_NAME) == first, "two stores of one place differ")
        renew(store)
        expect(store.read(_NAME) == first, "after_fork() changed its answer")

    def test_it_can_be_closed_twice(self) -> None:
        """`close()`, if it has one."""
        store = self.make_store()
        store.read(_NAME)
        expect_closes_twice(store)

    def _written(self, text: str) -> StoredKeyset:
        expect(self.make_store().write(_NAME, text, expected=None), "the first write was refused")
        return self._found()

    def _found(self) -> StoredKeyset:
        stored = self.make_store().read(_NAME)
        if stored is None:
            raise AssertionError("what was written is not there")
        expect(isinstance(stored, StoredKeyset), f"it gave a {type(stored).__name__}, not a StoredKeyset")
        expect(all(isinstance(part, str) for part in stored), "its text or its revision is not a str")
        return stored

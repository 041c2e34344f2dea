"""The suite for the rows of one session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from ..stores.access import store_beneath
from ..stores.rows import HistoryMovedError, Row, RowStore
from .support import expect, in_an_event_loop

__all__ = ["RowStoreConformance"]

_MINE, _OTHER = "conformance-1", "conformance-2"


class RowStoreConformance:
    """Tests that every `RowStore` should pass. For pytest: inherit from it, and say how a session is opened.

        class TestMyRows(RowStoreConformance):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            @asynccontextmanager
            async def open_session(self, session_id):
                yield MySession(session_id, self.folder)

            async def change_item(self, session_id, position, item):
                ...   # as another program would do it

    Each test begins with an empty store, and runs in an event loop of its own.
    """

    def open_session(self, session_id: str) -> AbstractAsyncContextManager[Any]:
        """A session of the class that the store is for; at the end it is closed with everything that it opened.

        If called again, it returns another object over the same rows, as another process has.
        """
        raise NotImplementedError("inherit RowStoreConformance and say how a session is opened")

    async def change_item(self, session_id: str, position: int, item: Any) -> None:
        """Put other data into the row at this position (0 is the oldest), as another program would."""
        raise NotImplementedError("say how a stored row is changed past the store")

    async def write_items(self, session_id: str, items: Sequence[Any]) -> None:
        """Append rows as another process does: through a separate session, unless there is another way."""
        async with self.open_session(session_id) as session:
            await session.add_items(list(items))

    async def read_items(self, session_id: str) -> list[Any]:
        """The stored items, the oldest first: through a separate session, unless there is another way."""
        async with self.open_session(session_id) as session:
            return list(await session.get_items())

    def rows_of(self, session: Any) -> RowStore:
        """The rows of a session, found as `EncryptedSession` finds them."""
        rows = store_beneath(session)
        if not isinstance(rows, RowStore):
            raise AssertionError(  # noqa: TRY004 - a test that fails, not a wrong argument
                f"no store gives row access to {type(session)}; check its descriptor and entry point"
            )
        return rows

    # -- Reading ------------------------------------------------------------------------------

    @in_an_event_loop
    async def test_pages_go_from_the_newest_row_back(self) -> None:
        """In the order in which the session reads, and each page begins with the row that it is asked from."""
        async with self.open_session(_MINE) as session:
            for number in range(4):
                await session.add_items([_item(f"{number}a"), _item(f"{number}b")])
            rows = self.rows_of(session)
            page = await rows.page(None, 100)
            expect(_items(page[::-1]), await session.get_items(), "the rows are not what the session reads")
            expect(_items(page[2::-1]), await session.get_items(3), "the newest rows are not what the session reads")
            expect(await rows.page(None, 3), page[:3], "a page of 3")
            expect(await rows.page(page[2], 3), page[2:5], "a page from the third row on")
            expect(await rows.page(page[-1], 3), page[-1:], "a page from the oldest row on")

    @in_an_event_loop
    async def test_the_oldest_rows_come_oldest_first(self) -> None:
        """As the pages have them, with the same ids and data."""
        async with self.open_session(_MINE) as session:
            rows, everything = await self._written(session, "1", "2", "3")
            expect(await rows.oldest(2), everything[:2], "the two oldest")
            expect(await rows.oldest(100), everything, "all of them")

    @in_an_event_loop
    async def test_an_empty_history_has_no_rows(self) -> None:
        """And that is not an error."""
        async with self.open_session(_MINE) as session:
            rows = self.rows_of(session)
            expect(await rows.page(None, 10), [], "a page of nothing")
            expect(await rows.oldest(10), [], "the oldest of nothing")
            expect(await rows.cursor().fetch(10), [], "a walk through nothing")

    @in_an_event_loop
    async def test_a_walk_meets_every_row_once_while_others_add(self) -> None:
        """What is added meanwhile is newer than where the walk began, and does not shift it."""
        async with self.open_session(_MINE) as session:
            rows, everything = await self._written(session, *map(str, range(10)))
            cursor, found = rows.cursor(), list[Row]()
            while not cursor.exhausted:
                found += await cursor.fetch(3)
                await self.write_items(_MINE, [_item("new")])
            expect(_items(found[::-1]), _items(everything), "a walk by threes")

    @in_an_event_loop
    async def test_a_walk_ends_where_its_row_has_gone(self) -> None:
        """The history was compacted or popped beneath it: it raises HistoryMovedError."""
        async with self.open_session(_MINE) as session:
            rows, everything = await self._written(session, "1", "2", "3", "4")
            cursor = rows.cursor()
            await cursor.fetch(2)
            await rows.replace_tail(everything, [_item("summary")])
            try:
                await cursor.fetch(2)
            except HistoryMovedError:
                return
            raise AssertionError("a walk went on, though the row where it stood was gone")

    @in_an_event_loop
    async def test_rows_of_other_sessions_are_out_of_reach(self) -> None:
        """Neither read nor replaced."""
        async with self.open_session(_MINE) as session, self.open_session(_OTHER) as other:
            await other.add_items([_item("theirs")])
            rows, everything = await self._written(session, "1", "2")
            expect(_texts(_items(everything)), ["1", "2"], "the rows of one session")
            expect(await rows.replace_tail(everything, []), wanted=True, what="replacing a whole history")
            expect(_texts(await other.get_items()), ["theirs"], "the other session's rows")

    # -- Removing -----------------------------------------------------------------------------

    @in_an_event_loop
    async def test_rows_are_removed_together_whether_or_not_they_are_the_newest(self) -> None:
        """The others stay as they are."""
        async with self.open_session(_MINE) as session:
            rows, (one, two, three, four) = await self._written(session, "1", "2", "3", "4")
            expect(await rows.remove([three, one], four), wanted=True, what="removing two rows")
            await self._expect_left("2", "4")
            left = (await rows.page(None, 100))[::-1]
            expect([row.data for row in left], [two.data, four.data], "the data of the others")

    @in_an_event_loop
    async def test_nothing_is_removed_when_a_newer_row_has_come(self) -> None:
        """Whoever removes has not seen it."""
        async with self.open_session(_MINE) as session:
            rows, (one, two) = await self._written(session, "1", "2")
            await self.write_items(_MINE, [_item("3")])
            expect(await rows.remove([two], two), wanted=False, what="removing what was the newest")
            expect(await rows.remove([one], two), wanted=False, what="removing an older row")
            await self._expect_left("1", "2", "3")

    @in_an_event_loop
    async def test_nothing_is_removed_when_one_of_the_rows_has_changed(self) -> None:
        """All or nothing."""
        async with self.open_session(_MINE) as session:
            rows, (one, two, three) = await self._written(session, "1", "2", "3")
            await self.change_item(_MINE, 1, _item("x"))
            expect(
                await rows.remove([three, two, one], three),
                wanted=False,
                what="removing three rows, one of them changed",
            )
            await self._expect_left("1", "x", "3")
            expect(await rows.remove([three, one], three), wanted=True, what="removing the two others")
            await self._expect_left("x")

    @in_an_event_loop
    async def test_nothing_is_removed_twice(self) -> None:
        """The second time it is not there."""
        async with self.open_session(_MINE) as session:
            rows, (_, two) = await self._written(session, "1", "2")
            expect(await rows.remove([two], two), wanted=True, what="the first time")
            expect(await rows.remove([two], two), wanted=False, what="the second time")
            await self._expect_left("1")

    @in_an_event_loop
    async def test_of_equal_rows_only_the_one_that_is_meant_is_removed(self) -> None:
        """Data alone does not tell rows apart."""
        async with self.open_session(_MINE) as session:
            rows, (_, _, last) = await self._written(session, "same", "other", "same")
            expect(await rows.remove([last], last), wanted=True, what="removing the last")
            await self._expect_left("same", "other")

    @in_an_event_loop
    async def test_old_rows_are_removed_whatever_came_after_them(self) -> None:
        """Each by itself, and only if it is unchanged."""
        async with self.open_session(_MINE) as session:
            rows, (one, two, three, _) = await self._written(session, "1", "2", "3", "4")
            await self.change_item(_MINE, 1, _item("x"))
            await self.write_items(_MINE, [_item("5")])
            expect(await rows.remove_any([one, two, three]), 2, "removing three rows, one of them changed")
            await self._expect_left("x", "4", "5")
            expect(await rows.remove_any([]), 0, "removing no rows")

    # -- Replacing ----------------------------------------------------------------------------

    @in_an_event_loop
    async def test_a_tail_is_replaced_and_what_comes_later_is_newer(self) -> None:
        """By more rows or fewer."""
        async with self.open_session(_MINE) as session:
            rows, (_, two, three) = await self._written(session, "1", "2", "3")
            new = [_item("x"), _item("y"), _item("z")]
            expect(await rows.replace_tail([two, three], new), wanted=True, what="replacing two rows by three")
            await session.add_items([_item("4")])
            expect(_texts(await session.get_items()), ["1", "x", "y", "z", "4"], "what the session reads")

    @in_an_event_loop
    async def test_a_whole_history_is_replaced_also_by_nothing(self) -> None:
        """And the session goes on after it."""
        for number, new in enumerate(([], [_item("x")])):
            async with self.open_session(f"{_MINE}-{number}") as session:
                await session.add_items([_item("1"), _item("2"), _item("3")])
                rows = self.rows_of(session)
                everything = (await rows.page(None, 100))[::-1]
                expect(await rows.replace_tail(everything, new), wanted=True, what="replacing the whole history")
                expect(await session.get_items(), new, "what the session reads")
                await session.add_items([_item("next")])
                expect(await session.get_items(), [*new, _item("next")], "what the session reads after the next item")

    @in_an_event_loop
    async def test_an_empty_history_is_replaced_only_while_it_is_empty(self) -> None:
        """Nothing is expected, and nothing must be there."""
        async with self.open_session(_MINE) as session:
            rows = self.rows_of(session)
            expect(await rows.replace_tail([], [_item("x"), _item("y")]), wanted=True, what="filling an empty history")
            expect(_texts(await session.get_items()), ["x", "y"], "what the session reads")
            expect(await rows.replace_tail([], [_item("z")]), wanted=False, what="filling it again")
            expect(_texts(await session.get_items()), ["x", "y"], "what the session reads then")

    @in_an_event_loop
    async def test_nothing_is_replaced_when_a_newer_row_has_come(self) -> None:
        """It would be lost, or come before what it answers."""
        async with self.open_session(_MINE) as session:
            rows, (_, two) = await self._written(session, "1", "2")
            await self.write_items(_MINE, [_item("3")])
            expect(await rows.replace_tail([two], [_item("x")]), wanted=False, what="replacing what was the newest")
            await self._expect_left("1", "2", "3")

    @in_an_event_loop
    async def test_nothing_is_replaced_when_a_row_has_changed_or_gone(self) -> None:
        """Exactly what is expected must be there."""
        async with self.open_session(_MINE) as session:
            rows, (one, two, three) = await self._written(session, "1", "2", "3")
            await self.change_item(_MINE, 1, _item("x"))
            expect(
                await rows.replace_tail([two, three], [_item("y")]),
                wanted=False,
                what="replacing rows, one of them changed",
            )
            expect(await rows.remove([three], three), wanted=True, what="removing the newest")
            expect(await rows.replace_tail([three], [_item("y")]), wanted=False, what="replacing a row that is gone")
            expect(await rows.replace_tail([one, two, three], [_item("y")]), wanted=False, what="replacing them all")
            await self._expect_left("1", "x")

    async def _written(self, session: Any, *texts: str) -> tuple[RowStore, list[Row]]:
        """The access to rows that another process wrote, and these rows, the oldest first."""
        for text in texts:
            await self.write_items(_MINE, [_item(text)])
        rows = self.rows_of(session)
        return rows, (await rows.page(None, 100))[::-1]

    async def _expect_left(self, *texts: str) -> None:
        expect(_texts(await self.read_items(_MINE)), list(texts), "what is left in the store")


def _item(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _items(rows: Sequence[Row]) -> list[Any]:
    return [json.loads(row.data) if isinstance(row.data, (str, bytes)) else row.data for row in rows]


def _texts(items: Sequence[Any]) -> list[str]:
    return [str(item["content"]) for item in items]

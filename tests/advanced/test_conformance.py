"""The rows of a branch, and those of all branches, pass the suite that the package ships for rows of its stores."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.stores import RowStore
from encrypted_sessions.stores.sqlite.branch_rows import AllBranches, BranchRows
from encrypted_sessions.testing import RowStoreConformance
from encrypted_sessions_tests.branching import bare, question, select, statement


class _Branches(RowStoreConformance):
    rows: type[RowStore]

    @pytest.fixture(autouse=True)
    def _file(self, file: Path) -> None:
        self.file = file

    @asynccontextmanager
    async def open_session(self, session_id: str) -> AsyncIterator[Any]:
        with bare(self.file, session_id) as session:
            yield session

    async def change_item(self, session_id: str, position: int, item: Any) -> None:
        ids = select(self.file, "SELECT id FROM agent_messages WHERE session_id = ? ORDER BY id", session_id)
        changed = json.dumps(item)
        statement(self.file, "UPDATE agent_messages SET message_data = ? WHERE id = ?", changed, *ids[position])

    def rows_of(self, session: Any) -> RowStore:
        return self.rows(session)


class TestOneBranch(_Branches):
    rows = BranchRows


class TestAllBranches(_Branches):
    rows = AllBranches

    #: They are only read and purged: what is added, popped and replaced is of one branch.
    test_a_walk_ends_where_its_row_has_gone = None
    test_a_whole_history_is_replaced_also_by_nothing = None
    test_an_empty_history_is_replaced_only_while_it_is_empty = None
    test_a_tail_is_replaced_and_what_comes_later_is_newer = None
    test_rows_of_other_sessions_are_out_of_reach = None
    test_nothing_is_replaced_when_a_row_has_changed_or_gone = None
    test_nothing_is_replaced_when_a_newer_row_has_come = None


class TestOneBranchBesideAnother(_Branches):
    """Whose rows are as good as those of another session."""

    rows = BranchRows

    @asynccontextmanager
    async def open_session(self, session_id: str) -> AsyncIterator[Any]:
        async with super().open_session(session_id) as session:
            if not select(self.file, "SELECT 1 FROM branch_reservations WHERE session_id = ?", session_id):
                await session.add_items([question("on main")])
                await session.create_branch_from_turn(1, "side")
            session._branch_state = ("side", 0)
            yield session
            assert await session.get_items(branch_id="main") == [question("on main")]

    async def change_item(self, session_id: str, position: int, item: Any) -> None:
        await super().change_item(session_id, position + 1, item)


async def test_pages_end_by_size_and_what_is_too_large_is_not_fetched(file: Path):
    from encrypted_sessions.stores import TOO_LARGE, CutPage

    with bare(file) as session:
        await session.add_items([question("x" * size) for size in (10, 3_000_000, 3_000_000, 9_000_000, 10)])
        rows = BranchRows(session)
        rows.max_row_bytes = 5_000_000
        page = await rows.page(None, 10)
        assert isinstance(page, CutPage)
        assert [row.data is TOO_LARGE for row in page] == [False, True, False, False]
        assert len(await rows.page(page[-1], 10)) == 2
        messages = await rows.user_messages(None, 10)
        assert [message.data is TOO_LARGE for message in messages] == [False, False, False]
        messages = await rows.user_messages(messages[-1], 10)
        assert [message.data is TOO_LARGE for message in messages] == [True, False]
        assert await rows.user_messages(messages[-1], 10) == []
        times = await rows.added_at([*page, page[0]._replace(id=99)])
        assert times[0] is not None
        assert times[-1] is None


async def test_rows_of_equal_places_are_met_once_each(file: Path):
    """As an old release of the SDK may have left them: no order is lost, and no row between two pages."""
    with bare(file) as session:
        await session.add_items([question(str(number)) for number in range(5)])
        statement(file, "UPDATE message_structure SET sequence_number = 1")
        rows = BranchRows(session)
        last, found = None, []
        while page := await rows.user_messages(last, 2):
            found += page
            last = page[-1]
        expected = [row.id for row in await rows.oldest(10)]
        assert [message.id for message in found] == expected == [1, 2, 3, 4, 5]
        cursor = rows.cursor()
        walked: Sequence[Any] = []
        while not cursor.exhausted:
            walked = [*walked, *await cursor.fetch(2)]
        assert [row.id for row in walked] == expected[::-1]

"""Every store of this package passes the suites that it ships, and the suites find what is wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from encrypted_sessions.errors import StoreError
from encrypted_sessions.stores import Row, RowStore, StoredRow, WholeStore
from encrypted_sessions.stores.whole import Place
from encrypted_sessions.testing import RowStoreConformance, WholeStoreConformance
from encrypted_sessions_tests.bulk_rows import as_json
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.stores import (
    MARIADB,
    REDIS_WITHOUT_EVAL,
    ROW_ADDRESSABLE,
    new_place,
    open_store,
    raw_rows,
    replace_raw_row,
    write_raw_row,
)
from encrypted_sessions_tests.whole_stores import WHOLE, fill, whole


class TestRows(RowStoreConformance):
    """Written, changed and read past the store, as an attacker or another program would."""

    @pytest.fixture(params=[*ROW_ADDRESSABLE, REDIS_WITHOUT_EVAL, *MARIADB], autouse=True)
    def _place(self, request: pytest.FixtureRequest) -> None:
        self.place = new_place(request.param, request)

    def open_session(self, session_id: str) -> AbstractAsyncContextManager[Any]:
        return open_store(self.place, session_id)

    async def change_item(self, session_id: str, position: int, item: Any) -> None:
        await replace_raw_row(self.place, session_id, position, json.dumps(item))

    async def write_items(self, session_id: str, items: Sequence[Any]) -> None:
        for item in items:
            await write_raw_row(self.place, session_id, json.dumps(item))

    async def read_items(self, session_id: str) -> list[Any]:
        return as_json(await raw_rows(self.place, session_id))


class TestRowsThroughSessions(TestRows):
    """With the ways that an author need not write: through sessions alone."""

    write_items = RowStoreConformance.write_items
    read_items = RowStoreConformance.read_items


class TestWhole(WholeStoreConformance):
    @pytest.fixture(params=[*WHOLE, REDIS_WITHOUT_EVAL], autouse=True)
    def _place(self, request: pytest.FixtureRequest) -> None:
        self.place = new_place(request.param, request)

    def open_store(self) -> WholeStore:
        return whole(self.place)

    async def write_rows(self, rows: Mapping[str, Sequence[str]]) -> None:
        await fill(self.place, rows)

    async def change_row(self, session_id: str, position: int, text: str) -> None:
        await replace_raw_row(self.place, session_id, position, text)

    async def read_rows(self, session_id: str) -> list[str]:
        return [row if isinstance(row, str) else row.decode() for row in await raw_rows(self.place, session_id)]


class TestWholeInMemory(WholeStoreConformance):
    """The fake of the other tests behaves as a store does."""

    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.rows = MemoryStore("nobody", [])

    def open_store(self) -> WholeStore:
        return self.rows.again()

    async def write_rows(self, rows: Mapping[str, Sequence[str]]) -> None:
        for session_id, texts in rows.items():
            self.rows.append(session_id, texts)

    async def change_row(self, session_id: str, position: int, text: str) -> None:
        numbers = [number for number in self.rows.data if self.rows.session_of(number) == session_id]
        self.rows.data[numbers[position]] = text.encode()


# -- The suites find what is wrong ----------------------------------------------------------------


def passes(suite: Any, test: str) -> bool:
    """Whether one test of a suite passes, over a store of its own."""
    try:
        getattr(suite(), test)()
    except Exception:  # noqa: BLE001 - whichever way it fails
        return False
    return True


def failures_of(suite: Any) -> set[str]:
    """The tests of a suite that fail."""
    return {name for name in dir(suite) if name.startswith("test_") and not passes(suite, name)}


class InMemory(WholeStoreConformance):
    store_class: type[MemoryStore] = MemoryStore

    def __init__(self) -> None:
        self.rows = self.store_class("nobody", [])

    open_store = TestWholeInMemory.open_store
    write_rows = TestWholeInMemory.write_rows
    change_row = TestWholeInMemory.change_row


class ReplacesUnseen(MemoryStore):
    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        self.data.update({row.id: new.encode() for row, new in changes})
        return [True] * len(changes)


class RemovesUnseen(MemoryStore):
    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        return [self.data.pop(row.id, None) is not None for row in rows]


class ForgetsADryRun(MemoryStore):
    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        return await super().erase(session_ids)


class ForgetsSessions(MemoryStore):
    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        return (await super().session_rows(session_id, after, count))[: count - 1]


class HasFreePlaces(MemoryStore):
    """With what a store in memory need not do: rows go back to their numbers."""

    async def put_back(self, rows: Sequence[StoredRow], *, dry_run: bool = False) -> list[Place]:
        return [self._put(row, dry_run=dry_run) for row in rows]

    def _put(self, row: StoredRow, *, dry_run: bool) -> Place:
        if row.id in self.data:
            same = (self.data[row.id], self.session_of(row.id)) == (row.data, row.session_id)
            return "already" if same else "taken"
        if not dry_run:
            self._insert(row)
        return "free"

    def _insert(self, row: StoredRow) -> None:
        assert isinstance(row.data, bytes)
        rows = sorted({**self.data, row.id: row.data}.items())
        self.data.clear()
        self.data.update(rows)


class PutsBackADryRun(HasFreePlaces):
    async def put_back(self, rows: Sequence[StoredRow], *, dry_run: bool = False) -> list[Place]:
        return await super().put_back(rows)


class PutsOverOthers(HasFreePlaces):
    def _put(self, row: StoredRow, *, dry_run: bool) -> Place:
        place = super()._put(row, dry_run=dry_run)
        if place == "taken":
            self._insert(row)
        return place


class PutsBackAtTheEnd(HasFreePlaces):
    def _insert(self, row: StoredRow) -> None:
        assert isinstance(row.data, bytes)
        self.append(row.session_id, [row.data.decode()])


class RefusesTooLate(MemoryStore):
    async def put_back(self, rows: Sequence[StoredRow], *, dry_run: bool = False) -> list[Place]:
        if not rows:
            raise StoreError("it has no free places")
        return ["free"] * len(rows)


@pytest.mark.parametrize(
    ("store", "test"),
    [
        (PutsBackADryRun, "test_rows_are_put_back_in_their_places"),
        (PutsBackAtTheEnd, "test_rows_are_put_back_in_their_places"),
        (PutsOverOthers, "test_nothing_is_put_over_what_lies_there"),
        (RefusesTooLate, "test_rows_are_put_back_in_their_places"),
        (ReplacesUnseen, "test_a_row_is_replaced_only_if_it_is_as_it_was_read"),
        (RemovesUnseen, "test_a_row_is_removed_only_if_it_is_as_it_was_read"),
        (ForgetsADryRun, "test_a_session_is_erased_and_no_other"),
        (ForgetsSessions, "test_the_rows_of_a_session_come_oldest_first"),
    ],
)
def test_what_is_wrong_with_a_whole_store_is_found(store: type[MemoryStore], test: str):
    assert not passes(type("Suite", (InMemory,), {"store_class": store}), test)


@pytest.mark.parametrize("store", [MemoryStore, HasFreePlaces])
def test_nothing_is_wrong_with_a_whole_store_that_is_right(store: type[MemoryStore]):
    assert failures_of(type("Suite", (InMemory,), {"store_class": store})) == set()


class ListSession:
    """A session over rows in memory that have numbers."""

    def __init__(self, session_id: str, rows: dict[str, dict[int, str]]) -> None:
        self.session_id = session_id
        self.rows = rows.setdefault(session_id, {})

    numbers = itertools.count()

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return as_json(list(self.rows.values())[-limit if limit else 0 :])

    async def add_items(self, items: list[Any]) -> None:
        self.rows.update({next(self.numbers): json.dumps(item) for item in items})


class ListRows(RowStore):
    def __init__(self, session: Any) -> None:
        self.session = session

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        return [Row(*row) for row in self.session.rows.items() if upto is None or row[0] <= upto.id][::-1][:count]

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        same = [row.id for row in await self.page(None, 1)] == [newest.id] and self._all_there(rows)
        return same and await self.remove_any(rows) == len(rows)

    async def oldest(self, count: int) -> list[Row]:
        return (await self.page(None, 10**9))[::-1][:count]

    async def remove_any(self, rows: Sequence[Row]) -> int:
        return sum(self._all_there([row]) and self.session.rows.pop(row.id, None) is not None for row in rows)

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        if (await self.page(None, max(len(expected), 1)))[::-1] != list(expected):
            return False
        await self.remove_any(expected)
        await self.session.add_items(envelopes)
        return True

    def _all_there(self, rows: Sequence[Row]) -> bool:
        return all(self.session.rows.get(row.id) == row.data for row in rows)


class InAList(RowStoreConformance):
    rows_class: type[ListRows] = ListRows

    def __init__(self) -> None:
        self.lists: dict[str, dict[int, str]] = {}

    def open_session(self, session_id: str) -> Any:
        lists = self.lists

        class Opened:
            async def __aenter__(self) -> ListSession:
                return ListSession(session_id, lists)

            async def __aexit__(self, *_: object) -> None: ...

        return Opened()

    async def change_item(self, session_id: str, position: int, item: Any) -> None:
        rows = self.lists[session_id]
        rows[list(rows)[position]] = json.dumps(item)

    def rows_of(self, session: Any) -> RowStore:
        return self.rows_class(session)


class IgnoresTheNewest(ListRows):
    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        return self._all_there(rows) and await self.remove_any(rows) == len(rows)


class RemovesInParts(ListRows):
    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        return await self.remove_any(rows) == len(rows)


class IgnoresData(ListRows):
    def _all_there(self, rows: Sequence[Row]) -> bool:
        return all(row.id in self.session.rows for row in rows)


class ReplacesUnasked(ListRows):
    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        return await super().replace_tail((await self.page(None, len(expected)))[::-1], envelopes)


class LeavesOutTheFirst(ListRows):
    async def page(self, upto: Row | None, count: int) -> list[Row]:
        return [row for row in await super().page(upto, count) if upto is None or row.id != upto.id]


@pytest.mark.parametrize(
    ("rows", "test"),
    [
        (IgnoresTheNewest, "test_nothing_is_removed_when_a_newer_row_has_come"),
        (RemovesInParts, "test_nothing_is_removed_when_one_of_the_rows_has_changed"),
        (IgnoresData, "test_old_rows_are_removed_whatever_came_after_them"),
        (ReplacesUnasked, "test_nothing_is_replaced_when_a_newer_row_has_come"),
        (LeavesOutTheFirst, "test_pages_go_from_the_newest_row_back"),
    ],
)
def test_what_is_wrong_with_row_access_is_found(rows: type[ListRows], test: str):
    assert not passes(type("Suite", (InAList,), {"rows_class": rows}), test)


def test_nothing_is_wrong_with_row_access_that_is_right():
    assert failures_of(InAList) == set()


def test_a_session_that_no_store_knows_is_told_of():
    class Unknown(InAList):
        rows_of = RowStoreConformance.rows_of

    with pytest.raises(AssertionError, match="no store gives row access"):
        Unknown().test_pages_go_from_the_newest_row_back()


@pytest.mark.parametrize("suite", [RowStoreConformance, WholeStoreConformance])
def test_an_author_who_forgot_a_hook_is_told_which(suite: Any):
    for name in dir(suite):
        if name.startswith("test_"):
            with pytest.raises(NotImplementedError, match="say how"):
                getattr(suite(), name)()

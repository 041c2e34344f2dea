"""The one door to a session's store: whatever is asked of it passes here.

    reading, popping, purging, compaction, the session itself
        GuardedRows (single rows), GuardedSession (the session's own methods)
            StoreCalls: in its time, and in words of ours when it fails
                the store

A read ends within `store_timeout_s`. A change is timed here and waited for in `ShieldedChanges`, where it goes on
when it takes longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

from .._support.bounded import OverdueError, bounded, bounded_in_place
from ..errors import StoreTimeoutError
from ..events.listening import LISTENING
from ..stores.plain import call
from ..stores.rows import Problem, RemovedRow, Row, RowStore
from .session_log import SessionLog
from .shielded import ShieldedChanges
from .store_change import StoreChange
from .turns import Along

__all__ = ["GuardedRows", "GuardedSession", "StoreCalls"]

_REMOVE = "remove the newest rows"

_T = TypeVar("_T")


class StoreCalls:
    """Makes the calls of one session into its store."""

    def __init__(self, session_id: str, changes: ShieldedChanges, log: SessionLog) -> None:
        self._session_id = session_id
        self._changes = changes
        self._log = log

    async def read(
        self, asked: str, statement: Callable[..., Awaitable[_T]], *arguments: Any, in_place: bool = False
    ) -> _T:
        """What a statement gives that changes nothing. Raises StoreTimeoutError when it takes too long."""
        if LISTENING.left:
            LISTENING.do_what_is_left()
        limits, within = self._changes, bounded_in_place if in_place else bounded
        try:
            return await within(limits.timeout_s, limits.shield_s, statement, *arguments)
        except OverdueError:
            failure: Exception = StoreTimeoutError(
                f"{self._log.store} has not answered for {limits.timeout_s:g} s; it was asked to {asked}. Nothing"
                " was changed: try again when it answers"
            )
        except Exception as error:
            failure = self._failure(error, asked, changes=False)
            if failure is error:
                raise
        raise failure  # outside, so that a driver's error that quotes rows is not its context

    def change(
        self,
        asked: str,
        statement: Callable[..., Awaitable[_T]],
        *arguments: Any,
        removed: Callable[[_T], int | None] | None = None,
    ) -> StoreChange[_T]:
        """The call of a statement that changes something, and `removed` so many rows."""

        def failure(error: Exception) -> Exception:
            return self._failure(error, asked, changes=True)

        return StoreChange(failure, statement, *arguments, removed=removed)

    def _failure(self, error: Exception, asked: str, *, changes: bool) -> Exception:
        from .store_failures import failure_of  # noqa: PLC0415 - most stores never fail, and it knows many drivers

        return failure_of(error, store=self._log.store, asked=asked, changes=changes, session_id=self._session_id)


class GuardedRows(RowStore):
    """A store's rows, through `StoreCalls`."""

    def __init__(self, rows: RowStore, calls: StoreCalls, max_row_bytes: int) -> None:
        rows.max_row_bytes = max_row_bytes
        self.max_row_bytes = max_row_bytes
        self.IDS_ARE_POSITIONS = rows.IDS_ARE_POSITIONS  # type: ignore[misc]  # as it is with those rows
        self._rows = rows
        self._calls = calls

    def is_unexamined(self) -> bool:
        """As `RowStore.is_unexamined`."""
        return self._rows.is_unexamined()

    async def examine(self) -> Sequence[Problem]:
        """As `RowStore.examine`."""
        return await self._read("examine its setup", self._rows.examine)

    def page(self, upto: Row | None, count: int) -> Awaitable[list[Row]]:
        """As `RowStore.page`."""
        rows = self._rows
        in_place = rows.reads_end_when_cancelled()
        return self._calls.read("read rows", rows.page, upto, count, in_place=in_place)

    def oldest(self, count: int) -> Awaitable[list[Row]]:
        """As `RowStore.oldest`."""
        return self._read("read the oldest rows", self._rows.oldest, count)

    async def added_at(self, rows: Sequence[Row]) -> Sequence[float | None]:
        """As `RowStore.added_at`."""
        return await self._read("read the times of rows", self._rows.added_at, rows)

    def _read(self, asked: str, statement: Callable[..., Awaitable[_T]], *arguments: Any) -> Awaitable[_T]:
        return self._calls.read(asked, statement, *arguments, in_place=self._rows.reads_end_when_cancelled())

    def remove(self, rows: Sequence[Row], newest: Row) -> Awaitable[bool]:
        """As `RowStore.remove`."""
        return self._calls.change(
            _REMOVE, self._rows.remove, rows, newest, removed=lambda done: len(rows) if done else 0
        )

    def remove_together(self, rows: Sequence[Row], newest: Row, along: Sequence[Along]) -> Awaitable[bool]:
        """The same, with the rows of those who go along: they learn how it ended."""

        def remove() -> Awaitable[bool]:
            begun = asyncio.ensure_future(self._remove([*rows, *(one.row for one in along)], newest))
            begun.add_done_callback(partial(_tell, along))
            return begun

        return self._calls.change(_REMOVE, remove, removed=lambda done: len(rows) if done else 0)

    async def _remove(self, rows: Sequence[Row], newest: Row) -> bool:
        return await self._rows.remove(rows, newest)

    def removes_one_of(self) -> bool:
        """As `RowStore.removes_one_of`."""
        return self._rows.removes_one_of()

    def remove_one_of(self, rows: Sequence[Row], tells: int) -> Awaitable[RemovedRow]:
        """As `RowStore.remove_one_of`."""
        return self._calls.change(
            _REMOVE, self._rows.remove_one_of, rows, tells, removed=lambda removed: int(removed.row is not None)
        )

    def removed_along(self, along: Along) -> Awaitable[bool]:
        """Whether the removal in which one takes part has removed its row."""
        return self._calls.change(_REMOVE, lambda: along.ended, removed=int)

    def remove_any(self, rows: Sequence[Row]) -> Awaitable[int]:
        """As `RowStore.remove_any`."""
        return self._calls.change("remove expired rows", self._rows.remove_any, rows, removed=lambda count: count)

    def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> Awaitable[bool]:
        """As `RowStore.replace_tail`."""
        return self._calls.change(
            "replace rows",
            self._rows.replace_tail,
            expected,
            envelopes,
            removed=lambda done: len(expected) if done else 0,
        )

    def stored_as(self, envelopes: list[dict[str, Any]], items: Sequence[Any]) -> list[dict[str, Any]]:
        """As `RowStore.stored_as`."""
        return self._rows.stored_as(envelopes, items)

    def place(self) -> Hashable:
        """As `RowStore.place`."""
        return self._rows.place()

    def foreseen(self) -> Row | None:
        """As `RowStore.foreseen`."""
        return self._rows.foreseen()


def _tell(along: Sequence[Along], ended: asyncio.Future[bool]) -> None:
    """Let those who went along know how their removal ended."""
    for one in along:
        if ended.cancelled():
            one.ended.cancel()
        elif error := ended.exception():
            one.ended.set_exception(error)
        else:
            one.ended.set_result(ended.result())


class GuardedSession:
    """The methods of a session, through `StoreCalls`."""

    def __init__(self, session: Any, calls: StoreCalls) -> None:
        self._session = session
        self._calls = calls
        # A method of ours gives what can be awaited.
        self._call: Callable[..., Awaitable[Any]] = _call_ours if isinstance(session, RowStore) else call

    @property
    def session_settings(self) -> Any:
        """The session's own settings, None where it has none."""
        return getattr(self._session, "session_settings", None)

    async def get_items(self, *arguments: Any, **keywords: Any) -> Any:
        """The session's items."""
        return await self._calls.read("get items", lambda: call(self._session.get_items, *arguments, **keywords))

    def add_items(self, items: list[Any], **keywords: Any) -> Awaitable[None]:
        """Add items as they are."""
        return self._calls.change("add items", lambda: self._call(self._session.add_items, items, **keywords))

    def pop_item(self, **keywords: Any) -> Awaitable[Any]:
        """The session's newest item, removed."""
        return self._calls.change(
            "pop an item",
            lambda: self._call(self._session.pop_item, **keywords),
            removed=lambda popped: 0 if popped is None else 1,
        )

    def clear_session(self, **keywords: Any) -> Awaitable[None]:
        """Remove all that the session has. How much that was nobody knows."""
        return self._calls.change(
            "clear the session", lambda: self._call(self._session.clear_session, **keywords), removed=_unknown
        )

    async def replace_items(self, items: list[Any]) -> bool:
        """Put items in place of all that the session has, if it can do so in one step; whether it did."""
        replace = getattr(type(self._session), "_atomic_replace_items", None)
        if replace is None:
            return False
        return bool(await self._calls.change("replace items", replace, self._session, items, removed=_unknown))


def _call_ours(method: Callable[..., Awaitable[Any]], *arguments: Any, **keywords: Any) -> Awaitable[Any]:
    return method(*arguments, **keywords)


def _unknown(_: object) -> None:
    """How many rows were removed, where nobody can tell."""

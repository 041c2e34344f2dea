"""Rows, and the operations on them that the four addressable stores share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Sequence
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

from .sizes import MAX_ROW_BYTES, PAGE, PAGE_BYTES

__all__ = [
    "TOO_LARGE",
    "CutPage",
    "HistoryMovedError",
    "Problem",
    "RemovedRow",
    "Row",
    "RowCursor",
    "RowStore",
    "TooLarge",
    "bytes_of_page",
    "cut_by_size",
    "mark_too_large",
]

#: A page of rows that are no larger may be fetched without knowing what they have together.
_SMALL = 64 * 2**10

_DATA = itemgetter(1)


class HistoryMovedError(Exception):
    """Rows vanished under a walk through them: whoever walks starts again from the newest."""


class TooLarge:
    """Stands for the data of a row that is larger than it may be, and so was not fetched."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "TOO_LARGE"


TOO_LARGE = TooLarge()


class Row(NamedTuple):
    """One stored row: where it is, and what is there.

    `data` is the row's JSON text as stored, or the object itself where the store gives no text.
    """

    id: Any
    data: object


class RemovedRow(NamedTuple):
    """The row that was removed, None where none was; and the newest ones after that, as far as is known."""

    row: Row | None
    newest: Sequence[Row]


class Problem:
    """What is wrong with how a store was set up, and what mends it: warned of once, and refused where all is strict."""

    __slots__ = ("is_told", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_told = False


class CutPage(list[Row]):
    """Rows that end before as many as were asked for, since these have PAGE_BYTES together: more may follow."""


class RowStore(ABC):
    """One session's rows in a store that can address them.

    What a method gives is awaited. Where that is a future, such as a worker thread's, no task is made to wait for it.
    """

    #: Attributes of the SDK's class that the store's module uses, and that are not public.
    NEEDS: ClassVar[tuple[str, ...]] = ()

    #: Whether a row's id is its position, so that another row can come to have it.
    IDS_ARE_POSITIONS: ClassVar[bool] = False

    #: The session's `max_row_bytes`: a store that can tell before it fetches gives `TOO_LARGE` for the data of a
    #: larger row. What it fetches all the same is judged afterwards.
    max_row_bytes: int = MAX_ROW_BYTES

    @abstractmethod
    def __init__(self, session: Any) -> None: ...

    @classmethod
    def only_to_purge(cls, session: Any) -> bool:  # noqa: ARG003 - for those that look
        """Whether this session's rows can be removed one by one, and yet are read through its own methods."""
        return False

    def is_unexamined(self) -> bool:
        """Whether the store may have been set up wrongly, and nobody has looked yet, or did and found something."""
        return False

    async def examine(self) -> Sequence[Problem]:
        """What is wrong with how the store was set up. Asked before its first use, where `is_unexamined`."""
        return ()

    def writer(self, session: Any) -> Any:
        """What `add_items` and `clear_session` are called on: the session, unless the store does these otherwise."""
        return session

    def stored_as(
        self,
        envelopes: list[dict[str, Any]],
        items: Sequence[Any],  # noqa: ARG002 - for those that note some of it
    ) -> list[dict[str, Any]]:
        """What is stored for items that were sealed: the envelopes, unless the store notes something in the clear."""
        return envelopes

    def reads_end_when_cancelled(self) -> bool:
        """Whether reading ends at once when it is cancelled, whatever the server does, which spares a task a page."""
        return False

    @abstractmethod
    def page(self, upto: Row | None, count: int) -> Awaitable[list[Row]]:
        """Up to `count` rows, newest first: from the newest, or from `upto` on, itself included.

        A store that can tell sizes ends a page once its rows have PAGE_BYTES, `upto` not counted, and gives a
        `CutPage` then.
        """

    @abstractmethod
    def remove(self, rows: Sequence[Row], newest: Row) -> Awaitable[bool]:
        """Remove `rows` if each is unchanged and `newest` is still the newest; all or nothing."""

    @abstractmethod
    def oldest(self, count: int) -> Awaitable[list[Row]]:
        """Up to `count` rows from the oldest on, oldest first. Fewer where they have PAGE_BYTES, as in `page`."""

    @abstractmethod
    def remove_any(self, rows: Sequence[Row]) -> Awaitable[int]:
        """Remove those of `rows` that are unchanged, whatever came after them; how many these were."""

    @abstractmethod
    def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> Awaitable[bool]:
        """Put `envelopes` in place of the newest rows if these are exactly `expected`.

        Both are oldest first; an empty `expected` stands for an empty history. All or nothing.
        """

    def place(self) -> Hashable:
        """What two objects over the same rows have in common, where that is known: they then pop in turn."""
        return id(self)

    def removes_one_of(self) -> bool:
        """Whether it has `remove_one_of`: then those who pop at the same time as others hinder each other less."""
        return False

    def remove_one_of(self, rows: Sequence[Row], tells: int) -> Awaitable[RemovedRow]:
        """Remove the newest row if it is one of these, and unchanged; and tell up to so many of those that are left.

        `rows` are of bytes, and the newest first, as are those that are told.
        """
        raise NotImplementedError

    def foreseen(self) -> Row | None:
        """The newest row, where the last removal's answer told it and it may still be true; told once.

        For whoever is about to remove it only if it is: that saves a look.
        """
        return None

    async def added_at(self, rows: Sequence[Row]) -> Sequence[float | None]:
        """When each of `rows` was added, in seconds since 1970; None where the store does not say."""
        return [None] * len(rows)

    def cursor(self) -> RowCursor:
        """A walk from the newest row."""
        return RowCursor(self)


class RowCursor:
    """Walks by pages.

    Each page begins with the row that the last one ended with. If that is gone, the history was
    compacted or popped beneath the walk, and what was read is no history.
    """

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._last: Row | None = None
        self._most = PAGE
        self.fetched = 0
        self.exhausted = False

    async def fetch(self, count: int | None, *, at_most: int | None = None) -> list[Row]:
        """The next rows, newest first: up to `count`, or as many as suits the store.

        Adds no more than `at_most` to `fetched`; nothing comes back where that does not suffice to
        get on. `exhausted` is set with the rows after which there are no more. Raises
        HistoryMovedError when the row where the walk stood is no longer there.
        """
        count = min(PAGE if count is None else count, PAGE if at_most is None else at_most, self._most)
        if count <= 0:
            return []
        last = self._last
        if last is None:
            rows = page = await self._store.page(None, count)
        else:
            page = await self._store.page(last, count + 1)
            if not page or not self._is_same(page[0], last):
                raise HistoryMovedError
            rows = page[1:]
        is_cut = bool(rows) and isinstance(page, CutPage)
        self.exhausted = len(rows) < count and not is_cut
        # Where rows are large, a store need not measure many for the few that make a page.
        self._most = 2 * len(rows) if is_cut else min(PAGE, 2 * self._most)
        self.fetched += len(rows)
        if rows:
            self._last = rows[-1]
        return rows

    def _is_same(self, row: Row, last: Row) -> bool:
        # The same row may hold new bytes (sealed again under another key).
        same = bool(row.id == last.id)
        return same and (not self._store.IDS_ARE_POSITIONS or row.data == last.data)


def bytes_of_page(upto: Row | None) -> int:
    """After how many bytes a page ends that begins with `upto`, which does not count."""
    return PAGE_BYTES + (len(upto.data) if upto is not None and isinstance(upto.data, (bytes, str)) else 0)


async def cut_by_size(
    fetch: Callable[[int, int], Awaitable[list[Row]]], upto: Row | None, count: int, max_row_bytes: int
) -> list[Row]:
    """A page for stores that fetch all of it at once, and so have to know first how much that is.

    `fetch(count, most)` gives so many rows; of a row larger than `most` bytes it gives the size as its data.
    """
    rows = await fetch(count, min(_SMALL, max_row_bytes))
    if int not in map(type, map(_DATA, rows)):
        return rows
    left, fit = bytes_of_page(upto), 0
    for _, data in rows:
        if left <= 0:
            break
        fit += 1
        size = data if isinstance(data, int) else len(data or b"")  # type: ignore[arg-type]  # bytes, text, None for NULL
        left -= 0 if size > max_row_bytes else size
    if fit == len(rows):
        # Not only so many: somebody may have added some meanwhile.
        return mark_too_large(await fetch(count, max_row_bytes))
    return CutPage(mark_too_large(await fetch(fit, max_row_bytes)))


def mark_too_large(rows: list[Row]) -> list[Row]:
    """Rows whose size was given as their data, because it is too large, with TOO_LARGE instead."""
    if int in map(type, map(_DATA, rows)):
        return [row._replace(data=TOO_LARGE) if type(row.data) is int else row for row in rows]
    return rows

"""What a session asks of its list, in whichever way: by scripts, or in transactions where none may be run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from ..rows import Row

__all__ = ["MOST_FORESEEN", "ListAccess", "ListPage", "Removal", "RemovedElement"]

#: The newest elements that have no more bytes together come with the reply to a removal.
MOST_FORESEEN = 2**16


class ListPage(NamedTuple):
    """Elements newest first, None for one that is too large; how many there would have been without a limit of bytes.

    `newest` is the position of the first.
    """

    newest: int
    elements: Sequence[bytes | None]
    wanted: int


class Removal(NamedTuple):
    """Whether rows were removed, and the newest one after that: None where there is none, or it is not known."""

    done: bool
    newest: Row | None


class RemovedElement(NamedTuple):
    """The position of the element that was removed, -1 for none; and the newest ones after that, newest first."""

    position: int
    newest: Sequence[Row]


class ListAccess(ABC):
    """One list. Each change has a number: whoever asks twice under one number changes once."""

    @abstractmethod
    async def page(self, upto: int | None, count: int, page_bytes: int, most: int) -> ListPage:
        """Up to `count` elements from the newest, or from the position `upto` on; none where that is gone.

        Fewer, once they have `page_bytes`. None for an element of more than `most` bytes.
        """

    @abstractmethod
    async def oldest(self, count: int, page_bytes: int, most: int) -> Sequence[bytes | None]:
        """Elements from the oldest on, likewise."""

    @abstractmethod
    async def remove(self, number: str, newest: bytes, rows: Sequence[Row]) -> Removal:
        """Remove rows if each is unchanged and `newest` is the newest; all or nothing."""

    @abstractmethod
    async def remove_one_of(self, number: str, rows: Sequence[Row], tells: int) -> RemovedElement:
        """Remove the newest element if it is one of these rows; tell up to so many of the newest that are left."""

    @abstractmethod
    async def remove_any(self, number: str, rows: Sequence[Row]) -> int:
        """Remove those that are unchanged; how many these were."""

    @abstractmethod
    async def replace_tail(self, number: str, old: Sequence[bytes], new: Sequence[str]) -> bool:
        """Put `new` in place of the newest elements if these are `old`; both are oldest first.

        No `old` stands for an empty list. A time to live of the list stays what it was.
        """

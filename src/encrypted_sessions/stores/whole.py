"""What maintenance needs of a store: every row of every session, and changes that only meet what was read.

The sessions of the Agents SDK show one history at a time. Here a whole store is walked, block by
block, while agents read and write it: nothing is locked between two calls, no call takes long, and a
row that somebody changed meanwhile is left as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ..errors import StoreError, StoreUnavailableError
from .replicas import Replication
from .sizes import MAX_ROW_BYTES, PAGE_BYTES
from .unsuitable import UnsuitableStoreError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["HAS_NULL", "PAGE_BYTES", "Block", "Place", "SideEffect", "StoredRow", "WholeStore", "is_utf8"]

#: In `StoredRow.unread`: the row's session id or its data is NULL.
HAS_NULL = -1

#: Rows read at once where sessions are looked for among all rows.
_WALKED = 500


def is_utf8(stored: bytes) -> bool:
    """Whether bytes of a store are text."""
    try:
        stored.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


#: What there is under the primary key of a row that is to be put back: nothing; the same session and bytes; something
#: else; or nothing as yet, for the database has not given this key and may give it any time.
Place = Literal["free", "already", "taken", "ahead"]


class StoredRow(NamedTuple):
    """One stored row, as it was when it was read."""

    #: The primary key; in Redis the key of the list, and the position in it. No two rows share one, and those of a
    #: session compare in the order of its history.
    id: Any
    #: With lone surrogates for bytes that are no UTF-8: such a row belongs to no session.
    session_id: str
    #: What is stored: bytes (SQLite, Redis) or text (PostgreSQL). Empty where it was not fetched, and for NULL.
    data: str | bytes
    #: Seconds since 1970 in UTC, by the store's own reckoning; None where it keeps no time.
    created_at: float | None
    #: None for a row that was fetched; the size of data that is larger than `max_row_bytes`; or HAS_NULL.
    unread: int | None = None

    @property
    def size(self) -> int:
        """The stored bytes."""
        if self.unread is not None:
            return max(self.unread, 0)
        data = self.data
        return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))


class Block(NamedTuple):
    """A part of a store, of some hundred rows. What is in it means something to its store only."""

    first: Any
    last: Any


class SideEffect(NamedTuple):
    """Something in a store that may do more, or other, than a change says: a trigger, say."""

    #: What it is, such as "trigger".
    kind: str
    name: str
    #: Where it is.
    table: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.name}" + ("" if self.name == self.table else f" of {self.table}")


class WholeStore(ABC):
    """Every row of a store. Entered before use; one task at a time.

    Every call may raise StoreUnavailableError, and StoreError for what waiting does not mend.
    """

    #: Where the store is, in words for messages: no password, no option.
    location: str

    #: What kind of store it is, in one word: what was taken out of one kind is not put back into another.
    kind: ClassVar[str] = "other"

    #: Larger data is not fetched, where the store can tell before. Whoever works with the store sets it.
    max_row_bytes: int = MAX_ROW_BYTES

    #: Whether a call goes on while its caller works on something else. Where a thread of this process does the
    #: work, the two would mostly wait for each other.
    overlaps: ClassVar[bool] = True

    async def __aenter__(self) -> Self:
        """Connect, and see that what is there is what was named."""
        try:
            await self.open()
        except BaseException:  # when it is cancelled, too, no connection stays open
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def open(self) -> None:
        """Connect, and see that what is there is what was named. `async with` does so."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of every connection, once what is under way has ended. May be called again."""

    async def clock(self) -> float | None:
        """The store's own clock, in seconds since 1970; None where it has none but this machine's."""
        return None

    async def notices(self) -> Sequence[str]:
        """What one should know of how the store keeps its rows and answers, in sentences without full stops."""
        return ()

    async def side_effects(self) -> Sequence[SideEffect]:
        """What there is in the store that may do more, or other, than `replace`, `remove` and `erase` say."""
        return ()

    async def replication(self) -> Replication | None:
        """Which servers follow this one, and how far each is; None where no server can, or none is known of.

        It changes nothing. What the user may not see is said in `Replication.unseen`, and raises nothing.
        """
        return None

    def interrupt(self) -> None:  # noqa: B027 - a store that has nothing to break off
        """Break off the call under way, which then raises. What it changed is undone.

        It is called where a run is told to stop and a call does not end; what still goes on then is cancelled.
        """

    @abstractmethod
    async def count(self) -> int:
        """How many rows there are, roughly: for a measure of progress."""

    @abstractmethod
    def blocks(self) -> AsyncIterator[Block]:
        """The whole store in blocks, each time in another order, so that two runs at once share the work.

        Tables end with a block of the rows that came in meanwhile. In Redis a list that came in
        meanwhile may be missing, and one may come twice if Redis shrinks its table of keys meanwhile.
        """

    @abstractmethod
    async def rows(self, block: Block, after: StoredRow | None, count: int) -> list[StoredRow]:
        """The next rows of a block, up to `count`, after the last one of the call before; [] at its end.

        A store that can tell sizes before it fetches gives fewer where they are large, so that a page has not many
        more bytes than PAGE_BYTES, and a row above `max_row_bytes` without its data, as `unread`.

        The order is the store's own: by primary key; in Redis list by list, each from its newest
        element to its oldest, so that what is removed meanwhile makes no element be passed over
        (some may come twice).
        """

    async def rows_unless(
        self,
        block: Block,
        openings: Sequence[str],  # noqa: ARG002 - for those that gain by it
        count: int,
    ) -> list[StoredRow] | int:
        """The first rows of a block, up to `count`, unless the text of every one begins with one of `openings`.

        Then how many rows the block has. A store may give the rows all the same.
        """
        return await self.rows(block, None, count)

    @abstractmethod
    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """The next rows of one session, up to `count`, the oldest first; [] at its end."""

    async def session_ids(self, prefix: str, after: str | None, count: int) -> list[str]:
        """The next ids of sessions that begin with `prefix`, up to `count`, in the order of their bytes; [] at the end.

        `after` is the last one of the call before. A prefix is compared byte for byte, and nothing in it stands for
        anything else. A session may have no rows. Ids that are no UTF-8 are no session's. A store that has no index of
        its sessions goes through all of its rows for each call.
        """
        first, met = prefix.encode("utf-8"), set[bytes]()
        last = None if after is None else after.encode("utf-8")
        async for block in self.blocks():
            row: StoredRow | None = None
            while rows := await self.rows(block, row, _WALKED):
                row = rows[-1]
                ids = {one.session_id.encode("utf-8", "surrogateescape") for one in rows if one.unread != HAS_NULL}
                met |= {one for one in ids if one.startswith(first) and (last is None or one > last) and is_utf8(one)}
                if len(met) > 2 * count:
                    met = set(nsmallest(count, met))
        return [one.decode("utf-8") for one in nsmallest(count, met)]

    async def present(self, session_ids: Sequence[str]) -> set[str]:
        """Those of these sessions of which there is any trace."""
        there = set()
        for session_id in session_ids:
            try:
                found = any((await self.erase([session_id], dry_run=True)).values())
            except StoreUnavailableError:
                raise
            except StoreError:  # what it refuses to erase is there
                found = True
            if found:
                there.add(session_id)
        return there

    async def rows_of_sessions(
        self, session_ids: Sequence[str], after: StoredRow | None, count: int
    ) -> list[StoredRow]:
        """The next rows of these sessions, up to `count`, after the last one of the call before; [] at the end.

        As `rows`, in an order in which what is removed meanwhile makes no row be passed over. `session_ids` is the
        same object for every page, and the last page of one comes before the first of another.
        """
        start = 0 if after is None else session_ids.index(after.session_id)
        for session_id in session_ids[start:]:
            if rows := await self.session_rows(session_id, after, count):
                return rows
            after = None
        return []

    def beyond_reach(self) -> Sequence[str]:
        """Where else there may be copies of what is removed, which no command reaches, in words."""
        return ("backups and copies of the store, until they are deleted",)

    async def later_rows(self, row: StoredRow, last: StoredRow | None, count: int) -> list[StoredRow]:
        """The next rows of a row's session that may have come after it, up to `count`; [] when there are no more.

        In an order of the store's own, in which what is removed meanwhile makes none be passed over.
        `last` is the last one of the call before.
        """
        return await self.session_rows(row.session_id, last or row, count)

    @abstractmethod
    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        """Put new data in place of what was read, where it still is there; for each whether it was.

        A row keeps its id, its position and its times.
        """

    @abstractmethod
    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        """Remove rows that are still as they were read, with what the SDK notes about them elsewhere.

        Says for each whether it was.
        """

    async def put_back(self, rows: Sequence[StoredRow], *, dry_run: bool = False) -> list[Place]:  # noqa: ARG002
        """Insert rows that were taken out, with the primary keys and the times that they have, where nothing lies.

        Says for each what there was: it was inserted where that is "free". With `dry_run` it is only looked. Raises
        StoreError, also for no rows, where rows of this store cannot be put back.
        """
        raise UnsuitableStoreError(
            f"{self.location} has no free positions: removed rows cannot be put back where they were, in the"
            " order of their session. The file remains as a copy to read"
        )

    @abstractmethod
    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        """Remove every trace of these sessions that the SDK's classes leave; rows by table or kind of key.

        With `dry_run` they are only counted.
        """

    @abstractmethod
    async def checkpoint(self) -> Sequence[str]:
        """Make gone what was removed or replaced, as far as the store can; in words what it could not do."""

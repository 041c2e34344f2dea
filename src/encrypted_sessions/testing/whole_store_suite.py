"""What the parts of the suite for whole stores share: how a store is opened, written and looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..stores.whole import StoredRow, WholeStore
from .support import expect

__all__ = ["WholeStoreSuite", "everything", "expect_not_open", "rows_of", "rows_of_some", "text_of"]


class WholeStoreSuite:
    """What its author says of a store."""

    def open_store(self) -> WholeStore:
        """The whole store, not entered yet. Called again, it gives another object over the same rows."""
        raise NotImplementedError("inherit WholeStoreConformance and say how a store is opened")

    async def write_rows(self, rows: Mapping[str, Sequence[str]]) -> None:
        """Make the store if it is not there, and append each session's rows, the oldest first."""
        raise NotImplementedError("say how rows are written into the store")

    async def change_row(self, session_id: str, position: int, text: str) -> None:
        """Put other data into the row at this position (0 is the oldest) of a session, as another program would."""
        raise NotImplementedError("say how a stored row is changed past the store")

    async def read_rows(self, session_id: str) -> list[str]:
        """What lies there, the oldest first: through a store of its own, unless there is a way past it."""
        async with self.open_store() as store:
            return [text_of(row) for row in await rows_of(store, session_id)]


async def everything(store: WholeStore, count: int = 500) -> list[StoredRow]:
    """All rows of a store, by way of its blocks."""
    found: list[StoredRow] = []
    async for block in store.blocks():
        after = None
        while rows := await store.rows(block, after, count):
            expect(
                len(rows) <= count,
                wanted=True,
                what=f"a page of {len(rows)} rows is no longer than the {count} asked for",
            )
            found += rows
            after = rows[-1]
    return found


async def rows_of_some(store: WholeStore, session_ids: Sequence[str], count: int) -> list[StoredRow]:
    """The rows of some sessions."""
    found: list[StoredRow] = []
    while rows := await store.rows_of_sessions(session_ids, found[-1] if found else None, count):
        expect(len(rows) <= count, wanted=True, what=f"a page of {len(rows)} rows is within {count}")
        found += rows
    return found


async def rows_of(store: WholeStore, session_id: str, count: int = 500) -> list[StoredRow]:
    """The rows of one session, the oldest first."""
    found: list[StoredRow] = []
    while rows := await store.session_rows(session_id, found[-1] if found else None, count):
        found += rows
    return found


def text_of(row: StoredRow) -> str:
    """What is stored, as text."""
    return row.data if isinstance(row.data, str) else row.data.decode()


async def expect_not_open(store: WholeStore) -> None:
    """See that a store that is not entered is of no use."""
    try:
        await store.count()
    except RuntimeError:
        return
    raise AssertionError("a store that is not entered, or not any more, was used without a RuntimeError")

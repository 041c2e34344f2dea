"""What must hold where rows that were taken out of a whole store are put back."""

from __future__ import annotations

import asyncio
from collections import Counter

from ..errors import StoreError
from ..stores.whole import StoredRow, WholeStore
from .support import expect, in_an_event_loop
from .whole_store_suite import WholeStoreSuite, rows_of, text_of

__all__ = ["WholeStorePuttingBack"]


class WholeStorePuttingBack(WholeStoreSuite):
    """Tests of putting rows back. A store that has no free places refuses, and changes nothing."""

    @in_an_event_loop
    async def test_rows_are_put_back_in_their_places(self) -> None:
        """With their ids and times, and once: what lies there with the same bytes is `already` there."""
        await self.write_rows({"mine": ["0", "1", "2", "3"], "other": ["x"]})
        async with self.open_store() as store:
            before = await rows_of(store, "mine")
            gone = before[1:3]
            await store.remove(gone)
            if not await _can_put_back(store, gone):
                expect(await self.read_rows("mine"), ["0", "3"], "what lies there after a refusal")
                return
            expect(await store.put_back([]), [], "putting nothing back")
            dry = await store.put_back(before, dry_run=True)
            expect(dry, ["already", "free", "free", "already"], "what a dry run says")
            expect(await self.read_rows("mine"), ["0", "3"], "what lies there after a dry run")
            expect(await store.put_back(before), dry, "putting four rows back, two of which are there")
            expect(_shown(await rows_of(store, "mine")), _shown(before), "ids, times and bytes of the session")
            expect(await store.put_back(before), ["already"] * 4, "putting them back again")
            expect(await self.read_rows("other"), ["x"], "the other session's row")

    @in_an_event_loop
    async def test_nothing_is_put_over_what_lies_there(self) -> None:
        """Neither over other bytes, nor over the same bytes of another session."""
        await self.write_rows({"mine": ["0", "1"], "other": ["x"]})
        async with self.open_store() as store:
            rows = await rows_of(store, "mine")
            if not await _can_put_back(store, rows):
                return
            await self.change_row("mine", 1, "changed")
            theirs = rows[0]._replace(session_id="other")
            for dry_run in (True, False):
                found = await store.put_back([theirs, rows[1]], dry_run=dry_run)
                expect(found, ["taken", "taken"], f"putting them over others (dry_run={dry_run})")
            expect(await self.read_rows("mine"), ["0", "changed"], "what lies there")
            expect(await self.read_rows("other"), ["x"], "the other session's row")

    @in_an_event_loop
    async def test_an_erased_session_is_put_back_as_it_was(self) -> None:
        """So that it is among the sessions again, by two at once, too: each row is put back by one of them."""
        await self.write_rows({"mine": [f"row {number}" for number in range(40)]})
        async with self.open_store() as store, self.open_store() as another:
            before = await rows_of(store, "mine")
            await store.erase(["mine"])
            if not await _can_put_back(store, before):
                return
            both = await asyncio.gather(store.put_back(before), another.put_back(before))
            counts = Counter(both[0] + both[1])
            expect(counts, Counter(free=len(before), already=len(before)), "what both say of the places")
            expect(_shown(await rows_of(store, "mine")), _shown(before), "ids, times and bytes of the session")
            expect(await store.session_ids("m", None, 10), ["mine"], "the sessions that are there")


async def _can_put_back(store: WholeStore, rows: list[StoredRow]) -> bool:
    """Whether rows of this store can be put back. It says so for no rows, too, so that a run learns it at once."""
    try:
        await store.put_back([])
    except StoreError:
        try:
            await store.put_back(rows)
        except StoreError:
            return False
        raise AssertionError("a store that refused to put no rows back has put some back") from None
    return True


def _shown(rows: list[StoredRow]) -> list[tuple[object, str, str, float | None]]:
    return [(row.id, row.session_id, text_of(row), row.created_at) for row in rows]

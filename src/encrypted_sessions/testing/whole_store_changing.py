"""What must hold where a whole store is changed."""

from __future__ import annotations

import asyncio

from .support import expect, in_an_event_loop
from .whole_store_suite import WholeStoreSuite, everything, rows_of

__all__ = ["WholeStoreChanging"]


class WholeStoreChanging(WholeStoreSuite):
    """Tests of replacing, removing and erasing."""

    @in_an_event_loop
    async def test_a_row_is_replaced_only_if_it_is_as_it_was_read(self) -> None:
        """And keeps its id, its position and its time."""
        await self.write_rows({"mine": ["0", "1", "2", "3"]})
        async with self.open_store() as store:
            rows = await rows_of(store, "mine")
            await self.change_row("mine", 1, "changed")
            done = await store.replace([(row, f"new {number}") for number, row in enumerate(rows)])
            expect(done, [True, False, True, True], "replacing four rows, the second of them changed")
            after = await rows_of(store, "mine")
            expect([row.id for row in after], [row.id for row in rows], "their ids")
            expect([row.created_at for row in after], [row.created_at for row in rows], "their times")
            expect(await self.read_rows("mine"), ["new 0", "changed", "new 2", "new 3"], "what lies there")
            expect(await store.replace([(row, "again") for row in rows]), [False] * 4, "replacing them as they were")

    @in_an_event_loop
    async def test_a_row_is_removed_only_if_it_is_as_it_was_read(self) -> None:
        """Once, and of no other session."""
        await self.write_rows({"mine": ["0", "1", "2", "3"], "other": ["0"]})
        async with self.open_store() as store:
            rows = await rows_of(store, "mine")
            await self.change_row("mine", 1, "changed")
            expect(await store.remove(rows[:3]), [True, False, True], "removing three rows, the second changed")
            expect(await self.read_rows("mine"), ["changed", "3"], "what lies there")
            expect(await store.remove(rows[:3]), [False, False, False], "removing them again")
            expect(await self.read_rows("other"), ["0"], "the other session's row")
            expect(await store.remove(await rows_of(store, "mine")), [True, True], "removing the rest")
            expect(await self.read_rows("mine"), [], "what lies there at last")

    @in_an_event_loop
    async def test_rows_with_the_same_bytes_are_told_apart(self) -> None:
        """Data alone does not name a row."""
        await self.write_rows({"mine": ["same", "same", "other", "same", "same"]})
        async with self.open_store() as store:
            rows = await rows_of(store, "mine")
            changes = [(rows[1], "second"), (rows[3], "fourth")]
            expect(await store.replace(changes), [True, True], "replacing two of them")
            expect(await self.read_rows("mine"), ["same", "second", "other", "fourth", "same"], "what lies there")
            rows = await rows_of(store, "mine")
            expect(await store.remove([rows[4]]), [True], "removing the last")
            expect(await self.read_rows("mine"), ["same", "second", "other", "fourth"], "what lies there then")

    @in_an_event_loop
    async def test_two_removers_at_once_remove_every_row_once(self) -> None:
        """Each counts what it removed itself."""
        await self.write_rows({f"session-{number}": [f"{row}" for row in range(200)] for number in range(5)})

        async def remove_all() -> int:
            removed = 0
            async with self.open_store() as store:
                async for block in store.blocks():
                    after = None
                    while rows := await store.rows(block, after, 50):
                        after = rows[-1]
                        removed += sum(await store.remove(rows))
            return removed

        expect(sum(await asyncio.gather(remove_all(), remove_all())), 1_000, "what both removed")
        async with self.open_store() as store:
            expect(await everything(store), [], "what is left")

    @in_an_event_loop
    async def test_a_session_is_erased_and_no_other(self) -> None:
        """With `dry_run` it is counted alone, and the counts are the same."""
        await self.write_rows({"mine": ["one", "two"], "my": ["three"]})
        async with self.open_store() as store:
            expected = dict(await store.erase(["mine", "nobody"], dry_run=True))
            expect(
                sum(expected.values()) >= 2, wanted=True, what=f"the counts {expected!r} are at least those of its rows"
            )
            expect(len(await everything(store)), 3, "rows after a dry run")
            expect(dict(await store.erase(["mine", "nobody"])), expected, "the counts of erasing")
            expect(set((await store.erase(["mine"], dry_run=True)).values()), {0}, "what is left of the session")
            expect({row.session_id for row in await everything(store)}, {"my"}, "the sessions that are left")

    @in_an_event_loop
    async def test_many_long_sessions_are_erased(self) -> None:
        """At once, and all that was asked for."""
        written = {f"session-{number}": ["row"] * (6_000 if number == 3 else 3) for number in range(90)}
        await self.write_rows({**written, "kept": ["kept"]})
        async with self.open_store() as store:
            counts = await store.erase(list(written))
            total = sum(len(rows) for rows in written.values())
            expect(total in counts.values(), wanted=True, what=f"{total} rows are among the counts {dict(counts)!r}")
            expect({row.session_id for row in await everything(store)}, {"kept"}, "the sessions that are left")

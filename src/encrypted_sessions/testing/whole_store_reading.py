"""What must hold where a whole store is read."""

from __future__ import annotations

import time

from ..stores.whole import StoredRow
from .support import expect, in_an_event_loop
from .whole_store_suite import WholeStoreSuite, everything, expect_not_open, rows_of, rows_of_some, text_of

__all__ = ["WholeStoreReading"]

_ODD_SESSION_IDS = (
    "plain",
    "with space",
    "a:b",
    "a:messages:b",
    "[*]?\\-{}",
    "../up",
    "\u00fc\u200b\U0001f600",
    "%41",
    "'\"; --",
    "\n\t",
    "x" * 200,
)


class WholeStoreReading(WholeStoreSuite):
    """Tests of opening, and of reading."""

    # -- Opening ------------------------------------------------------------------------------

    @in_an_event_loop
    async def test_it_is_closed_twice_and_not_used_afterwards(self) -> None:
        """Nor before it is entered: RuntimeError."""
        await self.write_rows({})
        store = self.open_store()
        await expect_not_open(store)
        async with store:
            await store.count()
        await store.aclose()
        await expect_not_open(store)

    @in_an_event_loop
    async def test_it_says_where_it_is(self) -> None:
        """In words for a message; and its clock, if it has one, is about right."""
        await self.write_rows({})
        async with self.open_store() as store:
            expect(bool(store.location), wanted=True, what="its location is a str")
            clock = await store.clock()
            expect(
                clock is None or abs(clock - time.time()) < 600,
                wanted=True,
                what="its clock is within ten minutes of ours",
            )

    @in_an_event_loop
    async def test_an_empty_store_has_no_rows(self) -> None:
        """And nothing to do is no error."""
        await self.write_rows({})
        async with self.open_store() as store:
            expect(await store.count(), 0, "the count of nothing")
            expect(await everything(store), [], "a walk through nothing")
            expect(await rows_of(store, "nobody"), [], "the rows of nobody")
            expect(await store.replace([]), [], "replacing nothing")
            expect(await store.remove([]), [], "removing nothing")
            expect(set((await store.erase([])).values()) <= {0}, wanted=True, what="erasing no session counts nothing")
            expect(set((await store.erase(["nobody"])).values()), {0}, "erasing nobody")
            expect(list(await store.checkpoint()), [], "the notices of a checkpoint")

    # -- Reading ------------------------------------------------------------------------------

    @in_an_event_loop
    async def test_a_walk_meets_every_row_of_every_session_once(self) -> None:
        """In pages of any size; by their ids the rows of a session are in the order of its history."""
        written = {f"session-{number}": [f"{number}/{row}" for row in range(number * 7 % 40)] for number in range(60)}
        await self.write_rows(written)
        async with self.open_store() as store:
            for count in (1, 7, 500):
                found = await everything(store, count)
                expect(len({row.id for row in found}), len(found), f"ids that differ, in pages of {count}")
                got: dict[str, list[str]] = {session_id: [] for session_id in written}
                for row in sorted(found, key=lambda row: row.id):
                    got[row.session_id].append(text_of(row))
                expect(got, written, f"all rows, in pages of {count}")

    @in_an_event_loop
    async def test_the_rows_of_a_session_come_oldest_first(self) -> None:
        """In pages of any size, and no other session's."""
        texts = [f"row {number}" for number in range(30)]
        await self.write_rows({"other": texts[:5], "mine": texts})
        async with self.open_store() as store:
            for count in (1, 7, 100):
                rows = await rows_of(store, "mine", count)
                expect([text_of(row) for row in rows], texts, f"the session's rows in pages of {count}")
                expect({row.session_id for row in rows}, {"mine"}, "the session of its rows")
                expect([row.size for row in rows], [len(text) for text in texts], "the sizes of its rows")

    @in_an_event_loop
    async def test_times_are_seconds_since_1970_in_utc(self) -> None:
        """Where the store keeps a time at all."""
        before = time.time()
        await self.write_rows({"mine": ["one"]})
        async with self.open_store() as store:
            (row,) = await rows_of(store, "mine")
            at = row.created_at
            expect(
                at is None or before - 2 <= at <= time.time() + 2,
                wanted=True,
                what=f"the time {at!r} of a row written now",
            )

    @in_an_event_loop
    async def test_ids_of_sessions_come_back_as_they_were_given(self) -> None:
        """Whatever is in them; and each names its own rows alone."""
        await self.write_rows({session_id: ["one", "two"] for session_id in _ODD_SESSION_IDS})
        async with self.open_store() as store:
            for session_id in _ODD_SESSION_IDS:
                mine = [row for row in await everything(store) if row.session_id == session_id]
                expect(len(mine), 2, f"the rows of {session_id!r}")
                expect(
                    {row.id for row in await rows_of(store, session_id)}, {row.id for row in mine}, f"{session_id!r}"
                )
                expect(await store.remove(mine[:1]), [True], f"removing a row of {session_id!r}")
                expect(
                    sum((await store.erase([session_id])).values()) >= 1, wanted=True, what=f"erasing {session_id!r}"
                )
            expect(await everything(store), [], "what is left")

    @in_an_event_loop
    async def test_rows_that_all_begin_as_was_said_may_be_counted_alone(self) -> None:
        """`rows_unless` gives how many there are, or the rows all the same; else always the rows."""
        await self.write_rows({"mine": ["A one", "A two", "B three"]})
        async with self.open_store() as store:
            async for block in store.blocks():
                rows = await store.rows(block, None, 500)
                expect(await store.rows_unless(block, ["none such"], 500), rows, "rows that begin otherwise")
                found = await store.rows_unless(block, ["A ", "B "], 500)
                expect(
                    found in (len(rows), rows),
                    wanted=True,
                    what=f"rows that all begin so, {found!r}, are counted or given",
                )

    @in_an_event_loop
    async def test_what_may_have_come_after_a_row_is_all_found(self) -> None:
        """`later_rows` passes over none of its session's later rows."""
        texts = [f"row {number}" for number in range(20)]
        await self.write_rows({"mine": texts, "other": ["x"]})
        async with self.open_store() as store:
            row = (await rows_of(store, "mine"))[4]
            found: list[StoredRow] = []
            while rows := await store.later_rows(row, found[-1] if found else None, 6):
                found += rows
            expect(
                set(texts[5:]) <= {text_of(one) for one in found},
                wanted=True,
                what="every later row is among those found",
            )
            expect({one.session_id for one in found}, {"mine"}, "the session of the later rows")

    @in_an_event_loop
    async def test_who_follows_it_is_told_by_places_in_one_log(self) -> None:
        """Where it says who does: the log goes on with a change, and each that follows it has words for a report."""
        await self.write_rows({"mine": ["one"]})
        async with self.open_store() as store:
            before = await store.replication()
            await store.replace([(row, "two") for row in await rows_of(store, "mine")])
            after = await store.replication()
            if before is None or after is None:
                expect((before, after), (None, None), "what is said of a log, before and after a change")
                return
            expect(after.log, before.log, "the log after a change")
            expect(after.end >= before.end, wanted=True, what=f"its end {after.end} is not before {before.end}")
            for replica in after.replicas:
                expect(
                    bool(replica.id and replica.name and replica.advice), wanted=True, what=f"the words of {replica!r}"
                )

    # -- Some sessions ------------------------------------------------------------------------

    @in_an_event_loop
    async def test_sessions_are_found_by_how_their_ids_begin(self) -> None:
        """Byte for byte, in the order of bytes, in pages of any size; nothing in a prefix stands for anything else."""
        ids = [
            "user-1",
            "user-10",
            "user-2",
            "User-1",
            "user_1",
            "user%",
            "us\u00e9r",
            "\U0001f600",
            "\uffff",
            "u*",
            "u?r",
        ]
        await self.write_rows({session_id: ["one", "two"] for session_id in ids})
        async with self.open_store() as store:
            for prefix in ("", "user-1", "user_", "user%", "u*", "u?", "us\u00e9", "U", "\uffff", "none", "["):
                wanted = sorted((one for one in ids if one.startswith(prefix)), key=str.encode)
                for count in (1, 4, 500):
                    found: list[str] = []
                    while page := await store.session_ids(prefix, found[-1] if found else None, count):
                        expect(len(page) <= count, wanted=True, what=f"a page of {len(page)} ids is within {count}")
                        found += page
                    expect(found, wanted, f"the ids that begin with {prefix!r}, in pages of {count}")

    @in_an_event_loop
    async def test_rows_of_some_sessions_come_once_and_alone(self) -> None:
        """In pages of any size, while those of the page before are removed."""
        written = {f"session-{number}": [f"{number}/{row}" for row in range(number * 5 % 23)] for number in range(20)}
        await self.write_rows(written)
        some = ("session-3", "nobody", "session-7", "session-0", "session-11")
        wanted = sorted(text for one in some for text in written.get(one, ()))
        async with self.open_store() as store:
            for count in (3, 500):
                rows = await rows_of_some(store, some, count)
                expect(sorted(map(text_of, rows)), wanted, f"their rows in pages of {count}")
            after, removed = None, 0
            while rows := await store.rows_of_sessions(some, after, 4):
                after = rows[-1]
                removed += sum(await store.remove(rows))
            expect(removed, len(wanted), "rows that were removed page by page")
            expect(await rows_of_some(store, some, 500), [], "what is left of them")
            left = sum(len(texts) for one, texts in written.items() if one not in some)
            expect(len(await everything(store)), left, "rows of the others")

    @in_an_event_loop
    async def test_it_is_known_which_sessions_are_there(self) -> None:
        """Of those that are asked for."""
        await self.write_rows({"mine": ["one"], "other": ["two"], "third": ["three"]})
        async with self.open_store() as store:
            expect(await store.present(["mine", "nobody", "third"]), {"mine", "third"}, "those that are there")
            expect(await store.present([]), set(), "of none")
            await store.erase(["mine"])
            expect(await store.present(["mine", "other"]), {"other"}, "those that are there after one was erased")
            expect(bool(store.beyond_reach()), wanted=True, what="there are words for what erasing does not reach")

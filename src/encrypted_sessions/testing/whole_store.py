"""The suite for whole stores, as maintenance uses them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from ..stores.whole import StoredRow, WholeStore
from .support import expect, in_an_event_loop

__all__ = ["WholeStoreConformance"]

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


class WholeStoreConformance:
    """Tests that every `WholeStore` should pass. For pytest: inherit it, and say how a store is opened.

        class TestMyStore(WholeStoreConformance):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            def open_store(self):
                return MyStore(self.folder)

            async def write_rows(self, rows):
                ...   # append them, as sessions do

            async def change_row(self, session_id, position, text):
                ...   # as another program would do it

    Each test begins with an empty store, and runs in an event loop of its own.
    """

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
            return [_text(row) for row in await _session(store, session_id)]

    # -- Opening ------------------------------------------------------------------------------

    @in_an_event_loop
    async def test_it_is_closed_twice_and_not_used_afterwards(self) -> None:
        """Nor before it is entered: RuntimeError."""
        await self.write_rows({})
        store = self.open_store()
        await _expect_not_open(store)
        async with store:
            await store.count()
        await store.aclose()
        await _expect_not_open(store)

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
            expect(await _everything(store), [], "a walk through nothing")
            expect(await _session(store, "nobody"), [], "the rows of nobody")
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
                found = await _everything(store, count)
                expect(len({row.id for row in found}), len(found), f"ids that differ, in pages of {count}")
                got: dict[str, list[str]] = {session_id: [] for session_id in written}
                for row in sorted(found, key=lambda row: row.id):
                    got[row.session_id].append(_text(row))
                expect(got, written, f"all rows, in pages of {count}")

    @in_an_event_loop
    async def test_the_rows_of_a_session_come_oldest_first(self) -> None:
        """In pages of any size, and no other session's."""
        texts = [f"row {number}" for number in range(30)]
        await self.write_rows({"other": texts[:5], "mine": texts})
        async with self.open_store() as store:
            for count in (1, 7, 100):
                rows = await _session(store, "mine", count)
                expect([_text(row) for row in rows], texts, f"the session's rows in pages of {count}")
                expect({row.session_id for row in rows}, {"mine"}, "the session of its rows")
                expect([row.size for row in rows], [len(text) for text in texts], "the sizes of its rows")

    @in_an_event_loop
    async def test_times_are_seconds_since_1970_in_utc(self) -> None:
        """Where the store keeps a time at all."""
        before = time.time()
        await self.write_rows({"mine": ["one"]})
        async with self.open_store() as store:
            (row,) = await _session(store, "mine")
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
                mine = [row for row in await _everything(store) if row.session_id == session_id]
                expect(len(mine), 2, f"the rows of {session_id!r}")
                expect(
                    {row.id for row in await _session(store, session_id)}, {row.id for row in mine}, f"{session_id!r}"
                )
                expect(await store.remove(mine[:1]), [True], f"removing a row of {session_id!r}")
                expect(
                    sum((await store.erase([session_id])).values()) >= 1, wanted=True, what=f"erasing {session_id!r}"
                )
            expect(await _everything(store), [], "what is left")

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
            row = (await _session(store, "mine"))[4]
            found: list[StoredRow] = []
            while rows := await store.later_rows(row, found[-1] if found else None, 6):
                found += rows
            expect(
                set(texts[5:]) <= {_text(one) for one in found},
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
            await store.replace([(row, "two") for row in await _session(store, "mine")])
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
                rows = await _of_sessions(store, some, count)
                expect(sorted(map(_text, rows)), wanted, f"their rows in pages of {count}")
            after, removed = None, 0
            while rows := await store.rows_of_sessions(some, after, 4):
                after = rows[-1]
                removed += sum(await store.remove(rows))
            expect(removed, len(wanted), "rows that were removed page by page")
            expect(await _of_sessions(store, some, 500), [], "what is left of them")
            left = sum(len(texts) for one, texts in written.items() if one not in some)
            expect(len(await _everything(store)), left, "rows of the others")

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

    # -- Changing -----------------------------------------------------------------------------

    @in_an_event_loop
    async def test_a_row_is_replaced_only_if_it_is_as_it_was_read(self) -> None:
        """And keeps its id, its position and its time."""
        await self.write_rows({"mine": ["0", "1", "2", "3"]})
        async with self.open_store() as store:
            rows = await _session(store, "mine")
            await self.change_row("mine", 1, "changed")
            done = await store.replace([(row, f"new {number}") for number, row in enumerate(rows)])
            expect(done, [True, False, True, True], "replacing four rows, the second of them changed")
            after = await _session(store, "mine")
            expect([row.id for row in after], [row.id for row in rows], "their ids")
            expect([row.created_at for row in after], [row.created_at for row in rows], "their times")
            expect(await self.read_rows("mine"), ["new 0", "changed", "new 2", "new 3"], "what lies there")
            expect(await store.replace([(row, "again") for row in rows]), [False] * 4, "replacing them as they were")

    @in_an_event_loop
    async def test_a_row_is_removed_only_if_it_is_as_it_was_read(self) -> None:
        """Once, and of no other session."""
        await self.write_rows({"mine": ["0", "1", "2", "3"], "other": ["0"]})
        async with self.open_store() as store:
            rows = await _session(store, "mine")
            await self.change_row("mine", 1, "changed")
            expect(await store.remove(rows[:3]), [True, False, True], "removing three rows, the second changed")
            expect(await self.read_rows("mine"), ["changed", "3"], "what lies there")
            expect(await store.remove(rows[:3]), [False, False, False], "removing them again")
            expect(await self.read_rows("other"), ["0"], "the other session's row")
            expect(await store.remove(await _session(store, "mine")), [True, True], "removing the rest")
            expect(await self.read_rows("mine"), [], "what lies there at last")

    @in_an_event_loop
    async def test_rows_with_the_same_bytes_are_told_apart(self) -> None:
        """Data alone does not name a row."""
        await self.write_rows({"mine": ["same", "same", "other", "same", "same"]})
        async with self.open_store() as store:
            rows = await _session(store, "mine")
            changes = [(rows[1], "second"), (rows[3], "fourth")]
            expect(await store.replace(changes), [True, True], "replacing two of them")
            expect(await self.read_rows("mine"), ["same", "second", "other", "fourth", "same"], "what lies there")
            rows = await _session(store, "mine")
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
            expect(await _everything(store), [], "what is left")

    @in_an_event_loop
    async def test_a_session_is_erased_and_no_other(self) -> None:
        """With `dry_run` it is counted alone, and the counts are the same."""
        await self.write_rows({"mine": ["one", "two"], "my": ["three"]})
        async with self.open_store() as store:
            expected = dict(await store.erase(["mine", "nobody"], dry_run=True))
            expect(
                sum(expected.values()) >= 2, wanted=True, what=f"the counts {expected!r} are at least those of its rows"
            )
            expect(len(await _everything(store)), 3, "rows after a dry run")
            expect(dict(await store.erase(["mine", "nobody"])), expected, "the counts of erasing")
            expect(set((await store.erase(["mine"], dry_run=True)).values()), {0}, "what is left of the session")
            expect({row.session_id for row in await _everything(store)}, {"my"}, "the sessions that are left")

    @in_an_event_loop
    async def test_many_long_sessions_are_erased(self) -> None:
        """At once, and all that was asked for."""
        written = {f"session-{number}": ["row"] * (6_000 if number == 3 else 3) for number in range(90)}
        await self.write_rows({**written, "kept": ["kept"]})
        async with self.open_store() as store:
            counts = await store.erase(list(written))
            total = sum(len(rows) for rows in written.values())
            expect(total in counts.values(), wanted=True, what=f"{total} rows are among the counts {dict(counts)!r}")
            expect({row.session_id for row in await _everything(store)}, {"kept"}, "the sessions that are left")


async def _everything(store: WholeStore, count: int = 500) -> list[StoredRow]:
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


async def _of_sessions(store: WholeStore, session_ids: Sequence[str], count: int) -> list[StoredRow]:
    found: list[StoredRow] = []
    while rows := await store.rows_of_sessions(session_ids, found[-1] if found else None, count):
        expect(len(rows) <= count, wanted=True, what=f"a page of {len(rows)} rows is within {count}")
        found += rows
    return found


async def _session(store: WholeStore, session_id: str, count: int = 500) -> list[StoredRow]:
    found: list[StoredRow] = []
    while rows := await store.session_rows(session_id, found[-1] if found else None, count):
        found += rows
    return found


def _text(row: StoredRow) -> str:
    return row.data if isinstance(row.data, str) else row.data.decode()


async def _expect_not_open(store: WholeStore) -> None:
    try:
        await store.count()
    except RuntimeError:
        return
    raise AssertionError("a store that is not entered, or not any more, was used without a RuntimeError")

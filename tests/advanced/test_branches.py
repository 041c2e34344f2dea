"""Popping, compacting, purging and clearing, where several branches have the same rows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions.errors import HistoryChangedError
from encrypted_sessions_tests.branching import (
    SESSION,
    answer,
    assert_whole,
    bare,
    call,
    output,
    question,
    result,
    sealed,
    select,
    texts,
    turns,
)
from encrypted_sessions_tests.compaction import CHAT, SUMMARY, Compactor, agent_that_says, compacting, run
from encrypted_sessions_tests.fake_clock import FakeClock

TTL = 600


def count(file: Path, table: str) -> int:
    return int(select(file, f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608 - a fixed name


async def three_turns(session: Any) -> list[Any]:
    items = [one for number in range(3) for one in (question(f"no. {number}"), answer(f"yes, {number}"))]
    for number in range(3):
        await session.add_items(items[2 * number : 2 * number + 2])
        await session.store_run_usage(result(10**number))
    return items


# -- Popping ----------------------------------------------------------------------------------------


async def test_what_is_popped_from_one_branch_stays_in_the_others(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        items = await three_turns(session)
        await session.create_branch_from_turn(3, "side")
        assert [await session.pop_item() for _ in range(5)] == [*items[3::-1], None]
        assert await session.get_items() == []
        assert await session.get_items(branch_id="main") == items
        assert (count(file, "agent_messages"), count(file, "message_structure")) == (6, 6)
        await session.switch_to_branch("main")
        assert [await session.pop_item() for _ in range(7)] == [*items[::-1], None]
        assert (count(file, "agent_messages"), count(file, "message_structure")) == (0, 0)


async def test_the_usage_of_a_turn_goes_with_its_last_row_as_in_the_sdks_class(file: Path, ring: KeyRing):
    with bare() as theirs, sealed(file, ring) as ours:
        for session in (theirs, ours):
            await three_turns(session)
        for _ in range(6):
            assert await ours.pop_item() == await theirs.pop_item()
            assert await ours.get_turn_usage() == await theirs.get_turn_usage()
        assert count(file, "turn_usage") == 0


async def test_a_branch_that_was_popped_to_its_end_keeps_its_name(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        await session.add_items([question("one")])
        await session.create_branch_from_turn(1, "side")
        await session.add_items([question("two")])
        await session.pop_item()
        with pytest.raises(ValueError, match="'side' does not exist"):
            await session.switch_to_branch("side")
        await session.switch_to_branch("main")
        with pytest.raises(ValueError, match="'side' has already been used"):
            await session.create_branch_from_turn(1, "side")


async def test_expired_rows_are_popped_with_the_item_before_them_in_this_branch_alone(
    file: Path, ring: KeyRing, clock: FakeClock
):
    with sealed(file, ring, ttl=TTL) as session:
        await session.add_items([question("old")])
        clock.now += TTL + 1
        await session.add_items([question("new")])
        await session.create_branch_from_turn(2, "side")
        assert await session.pop_item() is None
        assert count(file, "agent_messages") == 2
        await session.switch_to_branch("main")
        assert await session.pop_item() == question("new")
        assert await session.pop_item() is None
        assert count(file, "agent_messages") == 0


async def test_a_row_that_is_put_back_has_its_turn_again(ring: KeyRing, monkeypatch: pytest.MonkeyPatch):
    """The caller was cancelled when the row was gone already: nobody has got it."""
    with sealed(":memory:", ring) as session:
        await session.add_items([question("one"), call("weather")])
        for expected in (call("weather"), question("one")):
            before = await session.get_conversation_by_turns()
            popping = asyncio.ensure_future(session.pop_item())

            async def removed(*given: Any, popping: Any = popping) -> Any:
                monkeypatch.undo()
                done = await session.underlying_session._run_ordered_turn_operation(*given)
                popping.cancel()
                await asyncio.sleep(0)
                return done

            monkeypatch.setattr(session.underlying_session, "_run_ordered_turn_operation", removed)
            with pytest.raises(asyncio.CancelledError):
                await popping
            assert await session.get_conversation_by_turns() == before
            assert await session.pop_item() == expected


# -- Compaction -------------------------------------------------------------------------------------


async def test_compacting_one_branch_keeps_the_rows_that_another_has(file: Path, ring: KeyRing):
    with sealed(file, ring, CHAT) as session:
        items = await three_turns(session)
        await session.create_branch_from_turn(3, "side")
        await session.add_items([question("only here")])
        compactor = Compactor()
        await compacting(session, compactor).run_compaction({"force": True})
        assert len(compactor.requests[0]["input"]) == 5
        assert await session.get_items() == SUMMARY
        assert await session.get_items(branch_id="main") == items
        assert count(file, "agent_messages") == len(items) + len(SUMMARY)
        assert_whole(file)
        await session.switch_to_branch("main")
        await compacting(session, compactor).run_compaction({"force": True})
        assert await session.get_items() == SUMMARY
        assert await session.get_items(branch_id="side") == SUMMARY
        assert count(file, "agent_messages") == 2 * len(SUMMARY)
        assert_whole(file)


async def test_usage_of_compacted_turns_stays_and_turns_are_counted_on(ring: KeyRing):
    with sealed(":memory:", ring, CHAT) as session:
        await three_turns(session)
        before = await session.get_turn_usage()
        await compacting(session, Compactor()).run_compaction({"force": True})
        assert await session.get_turn_usage() == before
        ((number, content),) = await turns(session)
        assert (number, content) == (4, SUMMARY[0]["content"])
        await session.add_items([question("next")])
        await session.store_run_usage(result(1000))
        assert (await turns(session))[1:] == [(5, "next")]
        assert [turn["user_turn_number"] for turn in await session.get_turn_usage()] == [1, 2, 3, 5]


async def test_the_runner_compacts_by_itself_and_what_follows_has_turns(ring: KeyRing):
    with sealed(":memory:", ring, CHAT) as session:
        talk = compacting(session, compactor := Compactor())
        await run(agent_that_says("one"), "first", talk)
        assert len(compactor.requests) == 1
        assert await session.get_items() == SUMMARY
        assert len(await session.find_turns_by_content("KEPT question")) == 1


@pytest.mark.parametrize("meanwhile", ["switched", "another branch was made", "cleared"])
async def test_a_compaction_replaces_no_branch_but_the_one_that_it_has_read(file: Path, ring: KeyRing, meanwhile: str):
    with sealed(file, ring, CHAT) as session, sealed(file, ring, CHAT) as another:
        items = await three_turns(session)
        await session.create_branch_from_turn(2, "side")
        await session.add_items([question("only here")])
        side = await session.get_items()

        async def something_else() -> None:
            if meanwhile == "switched":
                await session.switch_to_branch("main")
            elif meanwhile == "cleared":
                await another.clear_session()
                await another.add_items([question("anew")])
            else:
                await session.create_branch_from_turn(1, "third")
                await session.add_items([question("of the third")])

        with pytest.raises(HistoryChangedError, match="nothing was replaced"):
            await compacting(session, Compactor(something_else)).run_compaction({"force": True})
        if meanwhile == "cleared":
            assert await session.get_items() == [question("anew")]
        else:
            assert await session.get_items(branch_id="main") == items
            assert await session.get_items(branch_id="side") == side
        assert_whole(file)


async def test_a_tail_is_replaced_in_the_branch_that_it_was_read_from(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        items = await three_turns(session)
        await session.create_branch_from_turn(2, "side")
        await session.add_items([question("only here"), answer("yes")])
        snapshot = await session._get_compaction_snapshot(2)
        await session.switch_to_branch("main")
        assert await snapshot.replace_suffix(0, [question("summary")])
        assert await session.get_items() == items
        assert texts(await session.get_items(branch_id="side")) == ["no. 0", "yes, 0", "summary"]
        assert not await snapshot.replace_suffix(0, [question("again")])
        assert_whole(file)


async def test_a_long_branch_is_compacted_and_popped_in_pages(file: Path, ring: KeyRing):
    with sealed(file, ring, CHAT) as session:
        items = [question(str(number)) for number in range(1000)]
        await session.add_items(items)
        await session.create_branch_from_turn(500, "side")
        assert await session.get_items() == items[:499]
        assert await session.get_items(300) == items[199:499]
        await session.switch_to_branch("main")
        await compacting(session, Compactor()).run_compaction({"force": True})
        assert await session.get_items() == SUMMARY
        assert await session.get_items(branch_id="side") == items[:499]
        assert_whole(file)


# -- Purging ----------------------------------------------------------------------------------------


async def test_what_expired_is_purged_from_all_branches_with_its_structure(file: Path, ring: KeyRing, clock: FakeClock):
    with sealed(file, ring, ttl=TTL) as session:
        await three_turns(session)
        await session.create_branch_from_turn(3, "side")
        await session.add_items([question("old, here alone")])
        clock.now += TTL + 1
        await session.add_items([question("new")])
        assert await session.purge_expired() == 7  # each once, however many branches have it
        assert await session.get_items() == [question("new")]
        assert await turns(session) == [(4, "new")]
        assert await session.get_items(branch_id="main") == []
        assert (count(file, "agent_messages"), count(file, "message_structure")) == (1, 1)
        assert_whole(file)
        with pytest.raises(ValueError, match="has already been used"):  # of what was purged to its end, too
            await session.create_branch_from_turn(4, "main")
        assert await session.purge_expired() == 0


async def test_each_add_purges_the_oldest_of_all_branches(file: Path, ring: KeyRing, clock: FakeClock):
    with sealed(file, ring, ttl=TTL, purge_on_add=4) as session:
        await three_turns(session)
        await session.create_branch_from_turn(2, "side")
        clock.now += TTL + 1
        await session.add_items([question("new")])
        assert count(file, "agent_messages") == 6 + 1 - 4
        assert_whole(file)
        await session.add_items([question("newer")])
        assert count(file, "agent_messages") == 2
        assert texts(await session.get_items()) == ["new", "newer"]


async def test_a_call_whose_output_is_in_time_in_another_branch_stays(file: Path, ring: KeyRing, clock: FakeClock):
    with sealed(file, ring, ttl=TTL) as session:
        await session.add_items([question("weather?"), call("weather"), question("and?")])
        await session.create_branch_from_turn(2, "side")
        clock.now += TTL + 1
        await session.add_items([output()])
        await session.switch_to_branch("main")
        assert await session.purge_expired() == 2
        assert select(file, "SELECT DISTINCT message_type FROM message_structure ORDER BY 1") == [
            ("function_call",),
            ("function_call_output",),
        ]


async def test_a_database_in_memory_is_purged_and_compacted_too(ring: KeyRing, clock: FakeClock):
    with sealed(":memory:", ring, CHAT, ttl=TTL, purge_on_add=1) as session:
        await session.add_items([question("old"), question("older")])
        clock.now += TTL + 1
        await session.add_items([question("new")])
        assert await session.purge_expired() == 1
        await compacting(session, Compactor()).run_compaction({"force": True})
        assert await session.get_items() == SUMMARY


# -- Clearing, switching, deleting ------------------------------------------------------------------


async def test_a_clear_by_another_object_puts_this_one_back_to_main(file: Path, ring: KeyRing):
    with sealed(file, ring) as session, sealed(file, ring) as another:
        await session.add_items([question("one")])
        await session.create_branch_from_turn(1, "side")
        await session.add_items([question("two")])
        await another.clear_session()
        await another.add_items([question("anew")])
        assert await session.get_items() == [question("anew")]
        await session.add_items([question("to main")])
        assert await turns(another) == [(1, "anew"), (2, "to main")]
        assert await session.pop_item() == question("to main")
        assert select(file, "SELECT DISTINCT branch_id FROM message_structure") == [("main",)]


@pytest.mark.parametrize("first", ["add", "pop", "items", "turns", "search", "branch", "branch from content", "usage"])
async def test_whichever_call_comes_first_after_such_a_clear_is_one_on_main(file: Path, ring: KeyRing, first: str):
    with sealed(file, ring) as session, sealed(file, ring) as another:
        await session.add_items([question("one")])
        await session.create_branch_from_turn(1, "side")
        await session.add_items([question("side")])
        await another.clear_session()
        await another.add_items([question("anew")])
        does: dict[str, Any] = {
            "add": lambda: session.add_items([question("more")]),
            "pop": session.pop_item,
            "items": session.get_items,
            "turns": session.get_conversation_turns,
            "search": lambda: session.find_turns_by_content("anew"),
            "branch": lambda: session.create_branch_from_turn(1, "second"),
            "branch from content": lambda: session.create_branch_from_content("anew", "second"),
            "usage": session.get_turn_usage,
        }
        expected: dict[str, Any] = {
            "pop": question("anew"),
            "items": [question("anew")],
            "branch": "second",
            "branch from content": "second",
        }
        found = await does[first]()
        if first in expected:
            assert found == expected[first]
        elif first in ("turns", "search"):
            assert texts(found) == ["anew"]
        assert texts(await another.get_items()) == {"add": ["anew", "more"], "pop": []}.get(first, ["anew"])
        assert select(file, "SELECT DISTINCT branch_id FROM message_structure") in ([("main",)], [])


async def test_another_session_is_on_a_branch_of_its_own(file: Path, ring: KeyRing):
    """Which one is current is each object's own; a second one begins on main."""
    with sealed(file, ring) as session:
        await session.add_items([question("one")])
        await session.create_branch_from_turn(1, "side")
        await session.add_items([question("two")])
        with sealed(file, ring) as another, sealed(file, ring, "user-2") as stranger:
            assert await another.get_items() == [question("one")]
            assert await another.get_items(branch_id="side") == [question("two")]
            assert await stranger.get_items(branch_id="side") == []
            await stranger.add_items([question("theirs")])
            assert await stranger.create_branch_from_turn(1, "side") == "side"
            await stranger.clear_session()
            assert await session.get_items() == [question("two")]


async def test_names_of_deleted_branches_stay_taken(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        await session.add_items([question("one"), question("two")])
        await session.create_branch_from_turn(2, "side")
        with pytest.raises(ValueError, match="Cannot delete current branch 'side'"):
            await session.delete_branch("side")
        await session.delete_branch("side", force=True)
        assert await session.get_items() == [question("one"), question("two")]
        for take in (lambda: session.create_branch_from_turn(1, "side"), lambda: session.switch_to_branch("side")):
            with pytest.raises(ValueError, match="side"):
                await take()
        assert_whole(file)


async def test_two_wrappers_of_one_session_object_share_its_branch(file: Path, ring: KeyRing):
    with bare(file) as store:
        one, other = (EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=None) for _ in range(2))
        await one.add_items([question("one")])
        await one.create_branch_from_turn(1, "side")
        await other.add_items([question("two")])
        assert await one.get_items() == await other.get_items() == [question("two")]


@pytest.mark.parametrize(
    "session_id",
    ["é日本😀", "with 'quotes' and \"others\"", "100%_\\", "; DROP TABLE agent_messages; --", " ", "a/b?c#d\n"],
)
async def test_any_session_id_and_any_name_of_a_branch_will_do(file: Path, ring: KeyRing, session_id: str, clock: Any):
    name = f"branch of {session_id}"
    with sealed(file, ring, session_id, ttl=TTL) as session, sealed(file, ring, SESSION, ttl=TTL) as other:
        await other.add_items([question("not mine")])
        await session.add_items([question("one"), question("two")])
        await session.create_branch_from_turn(2, name)
        await session.add_items([question("three")])
        assert texts(await session.get_items()) == ["one", "three"]
        assert texts(await session.find_turns_by_content("T", branch_id=name)) == ["three"]
        assert await session.pop_item() == question("three")
        clock.now += TTL + 1
        assert await session.purge_expired() == 2
        assert count(file, "agent_messages") == count(file, "message_structure") == 1
        with pytest.raises(ValueError, match="used"):
            await other.create_branch_from_turn(1, "main")


async def test_contents_of_megabytes_come_back_page_by_page(ring: KeyRing):
    with sealed(":memory:", ring) as session:
        large = [question(f"{number} {'x' * 2_000_000}") for number in range(4)]
        await session.add_items(large)
        await session.create_branch_from_turn(4, "side")
        assert await session.get_items() == large[:3]
        assert [turn["turn"] for turn in await session.find_turns_by_content("2 xx")] == [3]
        assert await session.pop_item() == large[2]

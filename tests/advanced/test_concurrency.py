"""Other tasks that switch, write, clear and cancel meanwhile; stores that hang; and the event loop's turns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import Key, KeyRing, StoreTimeoutError, advanced
from encrypted_sessions.errors import HistoryChangedError
from encrypted_sessions.history import classified
from encrypted_sessions.stores.sizes import PAGE
from encrypted_sessions.stores.sqlite.branch_rows import BranchRows
from encrypted_sessions_tests.branching import answer, assert_whole, question, result, sealed, texts, turns
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring

# -- Which branch a call means ----------------------------------------------------------------------


class LateKeys(ScriptedKeys):
    """Says which key is active only when it is let."""

    def __init__(self, active: Key) -> None:
        super().__init__(active)
        self.is_asked = threading.Event()
        self.answers = threading.Event()

    def active(self) -> Key:
        self.is_asked.set()
        assert self.answers.wait(20)
        return super().active()


@pytest.mark.parametrize("meanwhile", ["switches", "makes a branch"])
async def test_items_go_to_the_branch_that_was_current_when_they_were_given(file: Path, meanwhile: str):
    """Though their key comes only when another task has gone to another branch."""
    key = Key.generate()
    ring, late = impatient_ring(ScriptedKeys(key)), LateKeys(key)
    late_ring = impatient_ring(late)
    with sealed(file, ring) as early:
        await early.add_items([question("one"), question("two")])
        await early.create_branch_from_turn(2, "side")
        await early.add_items([question("of the side")])
    with sealed(file, late_ring) as session:
        adding = asyncio.ensure_future(session.add_items([question("late")]))
        await asyncio.to_thread(late.is_asked.wait, 20)
        if meanwhile == "switches":
            await session.switch_to_branch("side")
        else:
            await session.create_branch_from_turn(1, "third")
        late.answers.set()
        await adding
        assert texts(await session.get_items(branch_id="main")) == ["one", "two", "late"]
        assert await session.get_items() == (
            [] if meanwhile != "switches" else [question("one"), question("of the side")]
        )
        assert await turns(session, "main") == [(1, "one"), (2, "two"), (3, "late")]
    ring.close()
    late_ring.close()


async def test_items_whose_branch_was_cleared_meanwhile_go_to_main(file: Path):
    key = Key.generate()
    ring, late = impatient_ring(ScriptedKeys(key)), LateKeys(key)
    late_ring = impatient_ring(late)
    with sealed(file, late_ring) as session, sealed(file, ring) as another:
        await another.add_items([question("one")])
        await session.create_branch_from_turn(1, "side")
        adding = asyncio.ensure_future(session.add_items([question("late")]))
        await asyncio.to_thread(late.is_asked.wait, 20)
        await another.clear_session()
        late.answers.set()
        await adding
        assert await turns(another) == [(1, "late")]
        assert await session.get_items() == [question("late")]
    ring.close()
    late_ring.close()


@pytest.fixture
def at_second_page(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Awaitable[Any]]], None]:
    """Have something done when a walk asks for its second page."""

    def arrange(method: str, does: Callable[[], Awaitable[Any]]) -> None:
        asked = 0
        fetch = getattr(BranchRows, method)

        async def fetched(rows: BranchRows, *given: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 2:
                await does()
            return await fetch(rows, *given)

        monkeypatch.setattr(BranchRows, method, fetched)

    return arrange


async def long_main_and_short_side(session: Any, count: int = 300) -> list[Any]:
    items = [question(str(number)) for number in range(count)]
    await session.add_items(items)
    await session.create_branch_from_turn(3, "side")
    await session.add_items([question("of the side")])
    await session.switch_to_branch("main")
    return items


async def test_a_read_goes_on_in_the_branch_where_it_began(ring: KeyRing, at_second_page: Any):
    with sealed(":memory:", ring) as session:
        items = await long_main_and_short_side(session)
        at_second_page("page", lambda: session.switch_to_branch("side"))
        assert await session.get_items() == items
        assert texts(await session.get_items()) == ["0", "1", "of the side"]


async def test_a_search_goes_on_in_the_branch_where_it_began(ring: KeyRing, at_second_page: Any):
    with sealed(":memory:", ring) as session:
        await long_main_and_short_side(session)
        at_second_page("user_messages", lambda: session.switch_to_branch("side"))
        assert len(await session.find_turns_by_content("")) == 300
        assert len(await session.find_turns_by_content("")) == 3


async def test_no_branch_is_made_from_a_turn_of_another_branch(ring: KeyRing, at_second_page: Any):
    """The turn was looked for in one, and has another content where the session is by then."""
    with sealed(":memory:", ring) as session:
        await long_main_and_short_side(session)
        at_second_page("user_messages", lambda: session.switch_to_branch("side"))
        with pytest.raises(HistoryChangedError, match="no branch was created"):
            await session.create_branch_from_content("299", "of the last")
        assert len(await session.list_branches()) == 2
        await session.switch_to_branch("main")
        assert await session.create_branch_from_content("299", "of the last") == "of the last"


async def test_a_search_while_others_write_meets_each_turn_that_stays_once(ring: KeyRing, at_second_page: Any):
    with sealed(":memory:", ring) as session:
        await long_main_and_short_side(session)

        async def write() -> None:
            for _ in range(10):
                await session.pop_item()
            await session.add_items([question("new")])

        at_second_page("user_messages", write)
        assert [turn["full_content"] for turn in await session.find_turns_by_content("")] == [
            *map(str, range(290)),
            "new",
        ]


@pytest.mark.parametrize("method", ["page", "user_messages"])
async def test_a_walk_whose_session_is_cleared_meanwhile_shows_what_is_there_now(
    file: Path, ring: KeyRing, at_second_page: Any, method: str
):
    with sealed(file, ring) as session, sealed(file, ring) as another:
        await long_main_and_short_side(session)

        async def clear() -> None:
            await another.clear_session()
            await another.add_items([question("anew")])

        at_second_page(method, clear)
        if method == "page":
            assert await session.get_items() == [question("anew")]
        else:
            await session.get_conversation_turns()  # what was met before the clear, and no error
        assert await turns(session) == [(1, "anew")]


async def test_tasks_that_use_all_of_it_at_once_leave_a_whole_store(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        await session.add_items([question("first"), answer("yes")])

        async def work(number: int) -> None:
            for step in range(3):
                name = f"{number}/{step}"
                await session.add_items([question(f"no. {name}"), answer("yes")])
                with contextlib.suppress(ValueError):  # the branch that is current may be empty
                    await session.create_branch_from_turn(1, name)
                await session.add_items([question(f"in some branch {name}")])
                await session.store_run_usage(result(1))
                await session.find_turns_by_content("no.")
                with contextlib.suppress(ValueError):
                    await session.switch_to_branch("main")
                await session.pop_item()
                with contextlib.suppress(ValueError):  # likewise
                    await session.delete_branch(name, force=True)

        await asyncio.gather(*(work(number) for number in range(3)))
        assert_whole(file)
        for branch in await session.list_branches():
            items = await session.get_items(branch_id=branch["branch_id"])
            assert len(items) == branch["message_count"]
            shown = await turns(session, branch["branch_id"])
            assert [number for number, _ in shown] == sorted({number for number, _ in shown})


# -- Cancelled --------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "add": lambda session: session.add_items([question("more"), answer("yes")]),
    "branch": lambda session: session.create_branch_from_turn(2, "second"),
    "switch": lambda session: session.switch_to_branch("side"),
    "delete": lambda session: session.delete_branch("side"),
    "usage": lambda session: session.store_run_usage(result(5)),
    "clear": lambda session: session.clear_session(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_is_cancelled_at_any_moment_is_whole_or_absent(file: Path, ring: KeyRing, change: str):
    with sealed(file, ring) as session:
        items = [question("one"), question("two")]
        for moment in range(6):
            await session.clear_session()
            await session.add_items(items)
            await session.create_branch_from_turn(2, name := f"side of {moment}")
            await session.add_items([question("of the side")])
            await session.switch_to_branch("main")
            names = {"side": name, "second": f"second of {moment}"}
            doing = asyncio.ensure_future(_renamed(change, names)(session))
            for _ in range(moment):
                await asyncio.sleep(0)
            doing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await doing
            assert_whole(file)
            found = {branch["branch_id"]: branch["message_count"] for branch in await session.list_branches()}
            assert found in (
                {"main": 2, name: 2},
                *{
                    "add": [{"main": 4, name: 2}],
                    "branch": [{"main": 2, name: 2, names["second"]: 1}],
                    "delete": [{"main": 2}],
                    "clear": [{}],
                }.get(change, []),
            )
            assert len(await session.get_items()) in (1, 2, 4, 0)


def _renamed(change: str, names: dict[str, str]) -> Callable[[Any], Awaitable[Any]]:
    if change == "branch":
        return lambda session: session.create_branch_from_turn(2, names["second"])
    if change == "switch":
        return lambda session: session.switch_to_branch(names["side"])
    if change == "delete":
        return lambda session: session.delete_branch(names["side"])
    return CHANGES[change]


# -- A store that hangs -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def hanging(session: Any) -> AsyncIterator[None]:
    """The session's file is locked by somebody who does not let go, and the session waits for a tenth of a second."""
    lock, changes = session.underlying_session._lock, session._sealed.changes
    patience, changes.timeout_s = changes.timeout_s, 0.1
    locked, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            locked.set()
            let_go.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    await asyncio.to_thread(locked.wait, 20)
    try:
        yield
    finally:
        changes.timeout_s = patience
        let_go.set()
        holder.join()


@pytest.fixture
def session(file: Path, ring: KeyRing) -> Iterator[Any]:
    with sealed(file, ring) as session:
        yield session


READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "items": lambda session: session.get_items(branch_id="main"),
    "turns": lambda session: session.get_conversation_turns(),
    "search": lambda session: session.find_turns_by_content("one"),
    "by turns": lambda session: session.get_conversation_by_turns(),
    "tools": lambda session: session.get_tool_usage(),
    "branches": lambda session: session.list_branches(),
    "usage": lambda session: session.get_turn_usage(),
}


async def test_reads_of_a_store_that_hangs_end_in_time_and_say_so(session: Any):
    await session.add_items([question("one")])
    async with hanging(session):
        for read in READS.values():
            with pytest.raises(StoreTimeoutError, match=r"has not answered for 0\.1 s") as raised:
                await read(session)
            assert not raised.value.in_doubt
    assert await turns(session) == [(1, "one")]


@pytest.mark.parametrize("change", ["add", "branch", "delete", "usage"])
async def test_a_change_of_a_store_that_hangs_is_given_up_goes_on_and_is_waited_for(session: Any, change: str):
    await session.add_items([question("one"), question("two")])
    await session.create_branch_from_turn(2, "side")
    await session.switch_to_branch("main")
    async with hanging(session):
        with pytest.raises(StoreTimeoutError) as raised:
            await CHANGES[change](session)
        assert raised.value.in_doubt
        with pytest.raises(StoreTimeoutError, match="still not completed an earlier change that was abandoned"):
            await session.get_items()
    branches = {branch["branch_id"]: branch["message_count"] for branch in await session.list_branches()}
    expected = {"add": {"main": 4, "side": 1}, "branch": {"main": 2, "side": 1, "second": 1}, "delete": {"main": 2}}
    assert branches == expected.get(change, {"main": 2, "side": 1})
    assert (await session.get_session_usage() is None) == (change != "usage")


async def test_a_pop_of_a_store_that_hangs_takes_nothing(session: Any):
    await session.add_items([question("one")])
    rows = session.underlying_session
    async with hanging(session):
        with pytest.raises(StoreTimeoutError):
            await session.pop_item()
    assert await session.get_items() == [question("one")]
    assert await session.pop_item() == question("one")
    assert rows._turn_operation_tail is None


# -- Turns of the event loop ------------------------------------------------------------------------


async def test_a_search_gives_the_event_loop_its_turns_while_it_opens_and_while_it_looks(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
):
    """As soon as its slice of time is used up, which it is here at once."""
    monkeypatch.setattr(classified, "_SLICE_S", -1.0)
    ticks, looked_at = 0, list[int]()

    def containing(_: str) -> Callable[[object], bool]:
        return lambda _: bool(looked_at.append(ticks))

    monkeypatch.setattr(advanced, "containing", containing)
    with sealed(":memory:", ring) as session:
        await session.add_items([question(str(number)) for number in range(600)])
        looking = asyncio.ensure_future(session.find_turns_by_content("no such words"))
        while not looking.done():
            await asyncio.sleep(0)
            ticks += 1
        assert looking.result() == []
    assert looked_at == sorted(set(looked_at)), "two were looked at in one turn"
    assert len(looked_at) == 600
    # And one turn for each that was opened, before the first of its page was looked at.
    assert looked_at[0] >= PAGE
    assert ticks >= 2 * 600

"""What does not fit is refused before anything is asked or changed, in words that quote no content."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents.memory import SessionSettings

from encrypted_sessions import KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions_tests.branching import SESSION, answer, bare, question, sealed, texts

NO_TEXTS = [5, 1.5, True, b"bytes", ["list"], object()]


@pytest.fixture
def session(ring: KeyRing) -> Iterator[EncryptedAdvancedSQLiteSession]:
    with sealed(":memory:", ring) as session:
        yield session


TAKES_A_BRANCH: dict[str, Callable[[Any, Any], Any]] = {
    "get_items": lambda session, branch: session.get_items(branch_id=branch),
    "get_conversation_turns": lambda session, branch: session.get_conversation_turns(branch),
    "find_turns_by_content": lambda session, branch: session.find_turns_by_content("x", branch),
    "get_conversation_by_turns": lambda session, branch: session.get_conversation_by_turns(branch),
    "get_tool_usage": lambda session, branch: session.get_tool_usage(branch),
    "get_session_usage": lambda session, branch: session.get_session_usage(branch),
    "get_turn_usage": lambda session, branch: session.get_turn_usage(1, branch),
    "switch_to_branch": lambda session, branch: session.switch_to_branch(branch),
    "delete_branch": lambda session, branch: session.delete_branch(branch),
}


@pytest.mark.parametrize("method", TAKES_A_BRANCH)
async def test_a_branch_that_is_no_str_is_refused(session: Any, method: str):
    for wrong in NO_TEXTS:
        with pytest.raises(TypeError, match=r"^branch_id must be a str, not "):
            await TAKES_A_BRANCH[method](session, wrong)


async def test_a_term_that_is_no_str_is_refused(session: Any):
    for wrong in (*NO_TEXTS, None):
        for search in (session.find_turns_by_content, session.create_branch_from_content):
            with pytest.raises(TypeError, match=r"^search_term must be a str, not "):
                await search(wrong)


async def test_a_name_that_is_no_str_is_refused(session: Any):
    await session.add_items([question("one")])
    for wrong in NO_TEXTS:
        for make in (session.create_branch_from_turn, session.create_branch_from_content):
            with pytest.raises(TypeError, match=r"^branch_name must be a str, not "):
                await make(1 if make == session.create_branch_from_turn else "one", wrong)
    assert len(await session.list_branches()) == 1


async def test_a_turn_that_is_no_int_is_refused(session: Any):
    for wrong in (True, False, 1.0, "1", [1]):
        with pytest.raises(TypeError, match=r"^turn_number must be an int, not "):
            await session.create_branch_from_turn(wrong)
        with pytest.raises(TypeError, match=r"^user_turn_number must be an int or None, not "):
            await session.get_turn_usage(wrong)
    with pytest.raises(TypeError, match=r"^turn_number must be an int, not "):
        await session.create_branch_from_turn(None)


@pytest.mark.parametrize("turn", [0, -1, 3, 2**62])
async def test_a_turn_that_is_not_there_makes_no_branch(session: Any, turn: int):
    await session.add_items([question("one"), question("two"), answer("yes")])
    with pytest.raises(ValueError, match=f"Turn {turn} does not contain a user message in branch 'main'"):
        await session.create_branch_from_turn(turn, "side")
    assert await session.create_branch_from_turn(1, "side") == "side"  # whose name was not taken


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
async def test_a_blank_name_makes_no_branch(session: Any, name: str):
    await session.add_items([question("one")])
    for make, given in ((session.create_branch_from_turn, 1), (session.create_branch_from_content, "one")):
        with pytest.raises(ValueError, match="Branch name cannot be empty"):
            await make(given, name)
    assert len(await session.list_branches()) == 1


async def test_an_unknown_branch_is_empty_to_read_and_an_error_to_go_to(session: Any):
    await session.add_items([question("one")])
    assert await session.get_items(branch_id="nowhere") == []
    assert await session.get_conversation_turns("nowhere") == []
    assert await session.get_session_usage("nowhere") is None
    for go in (session.switch_to_branch, session.delete_branch):
        with pytest.raises(ValueError, match="'nowhere' does not exist"):
            await go("nowhere")


async def test_an_empty_term_is_in_every_text_and_nothing_is_a_wild_card(session: Any):
    await session.add_items([question("100% sure_thing"), question("1000 sure things"), question("")])
    found = {term: len(await session.find_turns_by_content(term)) for term in ("", "%", "_", "0%", "e_t", "s_r", ".*")}
    assert found == {"": 3, "%": 1, "_": 1, "0%": 1, "e_t": 1, "s_r": 0, ".*": 0}
    with pytest.raises(ValueError, match="No user turns found containing the search term") as raised:
        await session.create_branch_from_content("s%thing")
    assert "s%thing" not in str(raised.value)
    await session.create_branch_from_content("", "of the first")
    assert await session.get_items() == []


@pytest.mark.parametrize("wrong", [-1, True, 1.0, "1"])
async def test_a_limit_is_a_number_as_everywhere(session: Any, wrong: Any):
    for branch in (None, "main"):
        with pytest.raises(ValueError if wrong == -1 else TypeError, match="limit must be"):
            await session.get_items(wrong, branch)


async def test_the_limit_of_the_settings_counts_for_every_branch(ring: KeyRing):
    with bare(session_settings=SessionSettings(limit=2)) as store:
        session = EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=None)
        await session.add_items([question(str(number)) for number in range(4)])
        await session.create_branch_from_turn(4, "side")
        assert texts(await session.get_items()) == ["1", "2"]
        assert texts(await session.get_items(branch_id="main")) == ["2", "3"]
        assert texts(await session.get_items(3, "main")) == ["1", "2", "3"]
        assert len(await session.get_conversation_turns("main")) == 4


async def test_items_that_json_cannot_give_back_leave_no_structure(session: Any):
    for wrong in ([question("one"), {"role": "user", "content": {1, 2}}], [question("one"), "no item"]):
        with pytest.raises(TypeError):
            await session.add_items(wrong)
    assert await session.list_branches() == []


async def test_a_model_is_classified_by_what_it_holds(session: Any):
    from openai.types.responses import ResponseFunctionToolCall

    await session.add_items([ResponseFunctionToolCall(type="function_call", name="f", call_id="c", arguments="{}")])
    assert await session.get_conversation_by_turns() == {0: [{"type": "function_call", "tool_name": "f"}]}


def test_the_wrapper_holds_keys_and_is_neither_pickled_nor_copied(session: Any):
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds keys and cannot be pickled or copied"):
            take(session)


def test_what_it_shows_of_itself(session: Any):
    assert repr(session) == f"EncryptedAdvancedSQLiteSession(session_id={SESSION!r}, ttl=None)"
    assert session.session_id == SESSION
    with pytest.raises(AttributeError, match="session_id cannot be changed"):
        session.session_id = "another"


def test_what_only_the_store_has_is_asked_of_the_store(session: Any):
    with pytest.raises(AttributeError, match=r"use session\.underlying_session\.close"):
        session.close()


async def test_a_closed_store_says_so(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        await session.add_items([question("one")])
    for use in (
        session.get_items,
        session.get_conversation_turns,
        session.list_branches,
        session.pop_item,
        lambda: session.add_items([]),
        lambda: session.add_items([question("two")]),
        lambda: session.create_branch_from_turn(1),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            await use()


@pytest.mark.parametrize("option", ["purge_on_add", "shield_s", "store_timeout_s", "max_row_bytes"])
def test_options_are_those_of_every_session(ring: KeyRing, option: str):
    with bare() as store:
        for make in (
            lambda: EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=None, **{option: "no number"}),
            lambda: EncryptedAdvancedSQLiteSession(SESSION, store, ring, **{option: "no number"}),
        ):
            with pytest.raises(TypeError, match=f"^{option} must be"):
                make()


def test_another_session_id_than_the_stores_is_warned_of(ring: KeyRing):
    with bare() as store, pytest.warns(UserWarning, match="is not its store's") as warned:
        EncryptedAdvancedSQLiteSession("another", store, ring)
    assert warned[0].filename == __file__

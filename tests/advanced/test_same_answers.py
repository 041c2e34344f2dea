"""Every public method of the SDK's class gives over sealed rows what it gives over plain ones."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from agents import function_tool
from agents.extensions.memory import AdvancedSQLiteSession
from agents.testing import function_call

from encrypted_sessions import KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions_tests.branching import (
    answer,
    bare,
    call,
    look,
    output,
    question,
    result,
    sealed,
    without_times,
)
from encrypted_sessions_tests.compaction import agent_that_says, run

PARTS = [
    {"type": "input_text", "text": "multi part, first"},
    {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
    {"type": "input_text", "text": "Second part"},
]

#: One of each kind that the SDK's class looks at in a way of its own.
OF_TOOLS: list[Any] = [
    call("weather"),
    output(),
    call("search", "c2", namespace="crm"),
    call("same", "c3", namespace="same"),
    call("alone", "c4", namespace=None),
    {"type": "mcp_call", "id": "m1", "name": "lookup", "server_label": "crm", "arguments": "{}"},
    {"type": "mcp_call", "id": "m2", "name": "", "server_label": "crm", "arguments": "{}"},
    {"type": "mcp_call", "id": "m3", "name": "lookup", "arguments": "{}"},
    {"type": "mcp_approval_request", "id": "m4", "name": "delete", "server_label": "crm", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "m4", "approve": True},
    {"type": "custom_tool_call", "name": "custom", "call_id": "c5", "input": "x"},
    {"type": "computer_call", "id": "p1", "call_id": "c6", "action": {}},
    {"type": "file_search_call", "id": "f1", "queries": ["x"]},
    {"type": "web_search_call", "id": "w1"},
    {"type": "code_interpreter_call", "id": "i1", "code": "1"},
    {"type": "shell_call", "call_id": "c7", "action": {}},
    {"type": "apply_patch_call", "call_id": "c8", "operation": {}},
    {"type": "tool_search_call", "id": "t1"},
    {"type": "tool_search_output", "id": "t2", "tools": []},
    {"type": "reasoning", "id": "r1", "summary": []},
    {"type": "a kind of tomorrow", "name": "tool of tomorrow"},
    {"no": "type"},
    {"role": "system", "content": "be brief"},
    {"role": "developer", "type": "message", "content": "be kind"},
]

TERMS = (
    *("hello", "HELLO world", "", " ", "%", "100%", "_", "sure_thing", "sure-thing", "\\", "back\\slash", '"', "\n"),
    *("É", "é", "ÉTÉ", "日本", "😀", "\ud83d", "u00e9", "\\u00e9", "ß", "SS", "\x00"),
    *("multi", "SECOND", "first multi", "input_text", "image", "role", "nothing of it", "a" * 20_000),
)


@function_tool
def clock_of(city: str) -> str:
    """Tell the time."""
    return f"noon in {city}"


async def tell(session: Any) -> None:
    """A conversation of nine turns, with usage."""
    await session.add_items([question("Hello World"), answer("hi")])
    await session.store_run_usage(result(1))
    await session.add_items([question("100% sure_thing"), *OF_TOOLS, answer("yes")])
    await session.store_run_usage(result(20))
    await session.store_run_usage(result(300))
    await session.add_items([])
    await session.add_items([question("é日本😀 ÉTÉ straße"), question('back\\slash "quoted"\nline\x00'), answer("no")])
    await session.add_items([{"role": "user", "content": PARTS}, answer("seen")])
    await session.add_items([{"role": "user", "content": text} for text in ("", [], [{"type": "input_text"}])])
    await session.add_items([{"role": "user", "content": ["no part"]}, {"role": "user"}, question("x" * 101)])
    call = function_call("clock_of", {"city": "Perth"}, call_id="call_1", item_id="fc_1")
    ran = await run(agent_that_says([call], "twelve", tools=[clock_of]), "what time?", session)
    await session.store_run_usage(ran)


async def branch(session: Any) -> list[Any]:
    """What the methods that change give, and what there is after each."""
    said: list[Any] = []

    async def do(method: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> None:
        said.append(await method(*given, **named))
        said.append(await look(session))

    await do(session.create_branch_from_turn, 3, "third")
    await do(session.add_items, [question("only here"), call("there")])
    await do(session.store_run_usage, result(4000))
    await do(session.create_branch_from_content, "HELLO", "from hello")
    await do(session.add_items, [question("begun anew")])
    await do(session.pop_item)
    await do(session.pop_item)
    await do(session.switch_to_branch, "third")
    await do(session.pop_item)
    await do(session.pop_item)
    await do(session.delete_branch, "third", force=True)
    await do(session.pop_item)
    await do(session.create_branch_from_turn, 2)
    said[-2] = said[-2].startswith("branch_from_turn_2_")
    said[-1] = None  # its name has the time in it
    await do(session.switch_to_branch, "main")
    said[-1] = None
    await do(session.clear_session)
    await do(session.add_items, [question("after all")])
    return said


async def look_at_all(session: Any, branch_id: str | None = None) -> dict[str, Any]:
    return await look(session, branch_id, TERMS)


async def look_at_hello(session: Any) -> dict[str, Any]:
    return await look_at_all(session, "from hello")


async def refusals(session: Any) -> list[tuple[str, str]]:
    """What is raised, word for word."""
    await session.switch_to_branch("main")
    said = []
    for method, *given in (
        (session.create_branch_from_turn, 99),
        (session.create_branch_from_turn, 0),
        (session.create_branch_from_turn, 1, ""),
        (session.create_branch_from_turn, 1, " \t"),
        (session.create_branch_from_turn, 1, "main"),
        (session.switch_to_branch, "nowhere"),
        (session.switch_to_branch, ""),
        (session.delete_branch, "nowhere"),
        (session.delete_branch, " "),
        (session.delete_branch, "main", True),
    ):
        with pytest.raises(ValueError, match=r".") as raised:
            await method(*given)
        said.append((type(raised.value).__name__, str(raised.value)))
    return said


@pytest.mark.parametrize("where", ["on a file", "in memory"])
async def test_the_same_script_gives_the_same_answers(where: str, tmp_path: Path, ring: KeyRing):
    places = [":memory:"] * 2 if where == "in memory" else [tmp_path / "bare.db", tmp_path / "sealed.db"]
    with bare(places[0]) as theirs, sealed(places[1], ring) as ours:
        for step in (tell, look_at_all, branch, tell, look_at_hello, refusals, look_at_all):
            expected, found = await step(theirs), await step(ours)
            assert found == expected
            if step is look_at_all:
                assert len(expected["turns"]) >= 10
                assert expected["found"]["hello"]
                assert expected["found"]["a" * 20_000] == []


async def test_a_branch_that_does_not_exist_is_empty_for_both(ring: KeyRing):
    with bare() as theirs, sealed(":memory:", ring) as ours:
        await tell(theirs)
        await tell(ours)
        for branch_id in ("nowhere", "", " ", "MAIN"):
            found = await look_at_all(ours, branch_id)
            assert found == await look_at_all(theirs, branch_id)
            assert (found["items"], found["turns"], found["by turns"]) == ([], [], {})


async def test_times_of_turns_and_branches_are_those_of_the_store(file: Path, ring: KeyRing):
    with sealed(file, ring) as ours:
        await ours.add_items([question("one")])
        (turn,) = await ours.get_conversation_turns()
        (found,) = await ours.find_turns_by_content("one")
        (branch_of,) = await ours.list_branches()
    with bare(file) as theirs:  # which shows the times of sealed rows as of any other
        (raw,) = await theirs.get_conversation_turns()
    assert turn["timestamp"] == found["timestamp"] == branch_of["created_at"] == raw["timestamp"]


async def test_who_wrote_a_message_is_the_one_thing_that_is_not_kept_in_the_clear(ring: KeyRing):
    named = [{"role": "user", "name": "Ann", "content": "hello"}, {"role": "assistant", "name": "Bob", "content": "hi"}]
    with bare() as theirs, sealed(":memory:", ring) as ours:
        for session in (theirs, ours):
            await session.add_items([*named, call("weather")])
        expected = await theirs.get_conversation_by_turns()
        found = await ours.get_conversation_by_turns()
        assert [row["tool_name"] for row in expected[1]] == ["Ann", "Bob", "weather"]
        assert [row["tool_name"] for row in found[1]] == [None, None, "weather"]
        assert [row["type"] for row in found[1]] == [row["type"] for row in expected[1]]
        assert await ours.get_items() == await theirs.get_items()
        assert await ours.get_tool_usage() == await theirs.get_tool_usage() == [("weather", 1, 1)]


async def test_content_that_breaks_the_sdks_search_is_found_by_no_term(ring: KeyRing):
    odd: list[Any] = [{"role": "user", "content": content} for content in (None, 5, [{"text": None}])]
    with bare() as theirs, sealed(":memory:", ring) as ours:
        for session in (theirs, ours):
            await session.add_items(odd)
        with pytest.raises(TypeError):
            await theirs.find_turns_by_content("")
        assert await ours.find_turns_by_content("") == []
        expected = without_times(await theirs.get_conversation_turns())
        assert without_times(await ours.get_conversation_turns()) == expected


# -- The methods there are --------------------------------------------------------------------------


def public_methods(of: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(of, callable) if not name.startswith("_")}


def test_every_public_method_of_the_installed_sdks_class_is_there_but_close():
    """The wrapper closes nothing: whoever opened the store does."""
    theirs, ours = public_methods(AdvancedSQLiteSession), public_methods(EncryptedAdvancedSQLiteSession)
    assert set(theirs) - set(ours) == {"close"}


@pytest.mark.parametrize("name", sorted(set(public_methods(AdvancedSQLiteSession)) - {"close"}))
def test_each_is_called_as_the_sdks_and_gives_an_awaitable(name: str):
    theirs, ours = getattr(AdvancedSQLiteSession, name), getattr(EncryptedAdvancedSQLiteSession, name)
    wanted = [(one.name, one.kind, one.default) for one in inspect.signature(theirs).parameters.values()]
    given = [(one.name, one.kind, one.default) for one in inspect.signature(ours).parameters.values()]
    assert given[: len(wanted)] == wanted
    assert [name for name, *_ in given[len(wanted) :]] in ([], ["wrapper"])  # which the SDK's protocol has
    assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(ours)


def test_the_script_calls_each_of_them():
    source = "".join(map(inspect.getsource, (tell, look, branch)))
    for name in set(public_methods(AdvancedSQLiteSession)) - {"close"}:
        assert f"session.{name}" in source, name

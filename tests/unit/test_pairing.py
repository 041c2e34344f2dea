"""Which outputs have lost their call: against a model that looks at every pair of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from agents.run_internal import items as sdk_items
from hypothesis import example, given
from hypothesis import strategies as st

from encrypted_sessions.history.pairing import OUTPUT_OF_CALL, unpaired

Item = dict[str, Any]

CALLS = {
    "program": "program_output",
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "tool_search_call": "tool_search_output",
}


def test_the_pairs_are_those_of_the_installed_sdk() -> None:
    assert OUTPUT_OF_CALL == CALLS == sdk_items._TOOL_CALL_TO_OUTPUT_TYPE


def opens(call: Item, output: Item) -> bool:
    """Whether `call` is a call that `output` answers by an id that both carry."""
    if output.get("type") == "mcp_approval_response":
        asked = output.get("approval_request_id")
        return isinstance(asked, str) and asked == request_id(call)
    return (
        CALLS.get(str(call.get("type"))) == output.get("type")
        and isinstance(output.get("call_id"), str)
        and call.get("call_id") == output["call_id"]
    )


def request_id(item: Item) -> object:
    if item.get("type") == "mcp_approval_request":
        request = item
    elif item.get("type") == "hosted_tool_call" and isinstance(item.get("provider_data"), dict):
        request = item["provider_data"]
        if request.get("type") != "mcp_approval_request":
            return None
    else:
        return None
    return request.get("id") or item.get("call_id") or item.get("id")


def is_search_without_id(item: Item, kind: str) -> bool:
    return item.get("type") == kind and not isinstance(item.get("call_id"), str)


def lost_by_definition(items: Sequence[Item], since: int) -> set[int]:
    lost: set[int] = set()
    answered_searches = 0
    for index, item in enumerate(items):
        if is_search_without_id(item, "tool_search_output"):
            calls = sum(is_search_without_id(before, "tool_search_call") for before in items[:index])
            found = calls > answered_searches
            answered_searches += found
        elif (item.get("type") in CALLS.values() and isinstance(item.get("call_id"), str)) or (
            item.get("type") == "mcp_approval_response" and isinstance(item.get("approval_request_id"), str)
        ):
            found = any(opens(before, item) for before in items[:index])
        else:
            continue
        if not found and index >= since:
            lost.add(index)
    return lost


def histories() -> st.SearchStrategy[list[Item]]:
    ids = st.sampled_from(["a", "b", "c"])
    some_id = ids | st.sampled_from([None, 5, ""])
    calls = st.builds(lambda kind, call_id: {"type": kind, "call_id": call_id}, st.sampled_from(list(CALLS)), some_id)
    outputs = st.builds(
        lambda kind, call_id: {"type": kind, "call_id": call_id}, st.sampled_from(list(CALLS.values())), some_id
    )
    searches = st.sampled_from(
        [{"type": "tool_search_call"}, {"type": "tool_search_output"}, {"type": "tool_search_output", "call_id": None}]
    )
    requests = st.builds(lambda one: {"type": "mcp_approval_request", "id": one}, some_id)
    hosted = st.builds(
        lambda inner, outer, one: {"type": "hosted_tool_call", "call_id": outer, "id": one, "provider_data": inner},
        st.none() | st.builds(lambda one: {"type": "mcp_approval_request", "id": one}, some_id),
        some_id,
        some_id,
    )
    responses = st.builds(lambda one: {"type": "mcp_approval_response", "approval_request_id": one}, some_id)
    others = st.sampled_from([{"role": "user"}, {"type": None}, {"type": ["function_call"]}, {"type": "message"}, {}])
    return st.lists(calls | outputs | searches | requests | hosted | responses | others, max_size=14)


SEARCH = {"type": "tool_search_call", "call_id": ""}
FOUND = {"type": "tool_search_output", "call_id": ""}


@given(histories(), st.integers(0, 15))
@example([SEARCH, FOUND, FOUND], 0)  # an empty id is an id
@example([{"type": "tool_search_call"}, FOUND], 0)
@example([{"type": "tool_search_call"}, {"type": "tool_search_output"}, {"type": "tool_search_output"}], 0)
def test_the_outputs_that_lost_their_call_are_those_of_the_definition(history: list[Item], since: int) -> None:
    assert unpaired(history, since=since) == lost_by_definition(history, since)


@given(histories())
def test_nothing_before_the_first_gap_is_lost(history: list[Item]) -> None:
    assert unpaired(history, since=len(history)) == set()


@given(histories(), st.data())
def test_what_stays_has_lost_nothing_any_more(history: list[Item], data: st.DataObject) -> None:
    gap = data.draw(st.integers(0, len(history)))
    lost = unpaired(history, since=gap)
    kept = [item for index, item in enumerate(history) if index not in lost]
    assert unpaired(kept, since=gap) == set()


@pytest.mark.parametrize("call", list(CALLS))
def test_a_call_that_still_waits_stays_and_keeps_its_later_output(call: str) -> None:
    waiting = {"type": call, "call_id": "a"}
    output = {"type": CALLS[call], "call_id": "a"}
    assert unpaired([waiting], since=0) == set()
    assert unpaired([waiting, output], since=0) == set()
    assert unpaired([output, waiting], since=0) == {0}
    assert unpaired([output, waiting], since=1) == set()

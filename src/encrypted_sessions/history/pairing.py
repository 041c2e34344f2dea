"""Keep what belongs together together: a tool's output goes where its call went.

A model refuses a history in which an output answers no call. So an output whose call was left out
(expired, unreadable) is left out with it. A call without an output stays: it may still be waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

#: The type of a call to the type of its output; both carry the same `call_id`.
#: The Agents SDK's own table (0.24.0) is agents.run_internal.items._TOOL_CALL_TO_OUTPUT_TYPE.
OUTPUT_OF_CALL = {
    "program": "program_output",
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "tool_search_call": "tool_search_output",
}
_OUTPUTS = frozenset(OUTPUT_OF_CALL.values())
_APPROVAL = "mcp_approval_response"

#: What a pair is known by: its output's type and the id that both carry (None for a tool search
#: without one, whose outputs answer the calls before it one by one).
Pair = tuple[str, str | None]


def unpaired(items: Sequence[dict[str, Any]], *, since: int) -> set[int]:
    """Indices of the outputs whose call was left out of `items`, which are oldest first.

    `since` is the index of the first item that is newer than some row that was left out: an output
    from there on that answers no call before it lost its call. One before `since` never had it
    within reach, which is for the reader to see as the store gives it.
    """
    lost: set[int] = set()
    waiting: Counter[Pair] = Counter()
    for index, item in enumerate(items):
        call = answered_by(item)
        if call is not None:
            waiting[call] += 1
            continue
        output = answer_to(item)
        if output is None:
            continue
        if not waiting[output]:
            if index >= since:
                lost.add(index)
        elif output[1] is None:
            waiting[output] -= 1  # a search without an id is answered once
    return lost


def answered_by(item: dict[str, Any]) -> Pair | None:
    """The pair that this item opens, if it is a call."""
    kind = item.get("type")
    if not isinstance(kind, str):
        return None
    output = OUTPUT_OF_CALL.get(kind)
    if output is not None:
        return _pair(output, item.get("call_id"))
    request = item.get("provider_data") if kind == "hosted_tool_call" else item
    if isinstance(request, dict) and request.get("type") == "mcp_approval_request":
        return _pair(_APPROVAL, request.get("id") or item.get("call_id") or item.get("id"))
    return None


def answer_to(item: dict[str, Any]) -> Pair | None:
    """The pair that this item closes, if it is an output."""
    kind = item.get("type")
    if kind == _APPROVAL:
        return _pair(_APPROVAL, item.get("approval_request_id"))
    if isinstance(kind, str) and kind in _OUTPUTS:
        return _pair(kind, item.get("call_id"))
    return None


def _pair(output: str, shared_id: object) -> Pair | None:
    if isinstance(shared_id, str):
        return output, shared_id
    return (output, None) if output == "tool_search_output" else None

"""Nothing that is left out tears a tool call from its output: every pair of the SDK stays whole."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest
from agents.run_internal.items import _TOOL_CALL_TO_OUTPUT_TYPE

from encrypted_sessions import Finding
from encrypted_sessions.history.pairing import OUTPUT_OF_CALL
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, Sealer, altered, message, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows


@pytest.fixture(params=["sqlite", "plain"])
def place(request: pytest.FixtureRequest) -> StoreLocation:
    """Pairs are found among items that are open already: the store makes no difference."""
    return new_place(request.param, request)


def call_of(kind: str, shared_id: str | None = "c1") -> dict[str, Any]:
    """A call, or a request for approval, that is answered under `shared_id`."""
    if kind == "mcp_approval_request":
        return {"type": kind, "id": shared_id, "name": "f", "arguments": "{}", "server_label": "s"}
    if kind == "hosted_tool_call, id of the provider":
        return {
            "type": "hosted_tool_call",
            "call_id": "another",
            "provider_data": {"type": "mcp_approval_request", "id": shared_id, "name": "f"},
        }
    if kind == "hosted_tool_call, id of the call":
        request = {"type": "mcp_approval_request", "name": "f"}
        return {"type": "hosted_tool_call", "call_id": shared_id, "id": "another", "provider_data": request}
    if kind == "hosted_tool_call, id of the item":
        return {"type": "hosted_tool_call", "id": shared_id, "provider_data": {"type": "mcp_approval_request"}}
    if shared_id is None:
        return {"type": kind, "arguments": "{}"}
    return {"type": kind, "call_id": shared_id, "name": "f", "arguments": "{}"}


def output_of(kind: str, shared_id: str | None = "c1", text: str = "done") -> dict[str, Any]:
    if kind == "mcp_approval_request" or kind.startswith("hosted_tool_call"):
        return {"type": "mcp_approval_response", "approval_request_id": shared_id, "approve": True, "reason": text}
    output = {"type": _TOOL_CALL_TO_OUTPUT_TYPE[kind], "output": text}
    return output if shared_id is None else {**output, "call_id": shared_id}


PAIRS = [
    *_TOOL_CALL_TO_OUTPUT_TYPE,
    "mcp_approval_request",
    "hosted_tool_call, id of the provider",
    "hosted_tool_call, id of the call",
    "hosted_tool_call, id of the item",
]

LAST = message("last")


async def read(place: StoreLocation, sealer: Sealer, rows: list[str], limit: int | None = None) -> Any:
    async with sealer.session(place, on_unreadable="skip") as session:
        await write_rows(place, SESSION, rows)
        history = await session.read(limit)
        assert await session.get_items(limit) == history.items
    assert await raw_rows(place, SESSION) == rows
    return history


def test_the_table_of_pairs_is_that_of_the_installed_sdk():
    assert OUTPUT_OF_CALL == _TOOL_CALL_TO_OUTPUT_TYPE


def test_the_sdk_knows_no_output_besides():
    from agents._tool_invocation import _TOOL_OUTPUT_TYPES

    ours = {output: call for call, output in OUTPUT_OF_CALL.items()} | {"mcp_approval_response": "mcp_approval_request"}
    assert _TOOL_OUTPUT_TYPES.items() <= ours.items()


@pytest.mark.parametrize("kind", PAIRS)
async def test_a_pair_in_time_is_returned_whole(place: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.expired(), sealer.row(call_of(kind)), sealer.row(output_of(kind)), sealer.row(LAST)]
    history = await read(place, sealer, rows)
    assert history.items == [call_of(kind), output_of(kind), LAST]
    assert history.outcomes == {"ok": 3, "expired": 1}


@pytest.mark.parametrize("kind", PAIRS)
async def test_an_output_whose_call_has_expired_is_left_out_with_it(place: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.row(call_of(kind), age=AGE), sealer.row(output_of(kind)), sealer.row(LAST)]
    for limit in (None, 3, 10):
        history = await read(place, sealer, rows, limit)
        assert history.items == [LAST]
        assert history.outcomes == {"ok": 1, "expired": 1, "unpaired": 1}
        async with sealer.session(place) as session:
            await session.clear_session()


@pytest.mark.parametrize("kind", PAIRS)
async def test_a_call_that_still_waits_for_its_output_stays(place: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.expired(), sealer.row(call_of(kind))]
    history = await read(place, sealer, rows)
    assert history.items == [call_of(kind)]


@pytest.mark.parametrize("kind", PAIRS)
async def test_a_call_whose_output_was_left_out_stays(place: StoreLocation, sealer: Sealer, kind: str):
    """The SDK leaves out a call without an output by itself, and knows when it still waits for one."""
    rows = [sealer.row(call_of(kind)), sealer.row(output_of(kind), age=AGE), sealer.row(LAST)]
    assert (await read(place, sealer, rows)).items == [call_of(kind), LAST]


@pytest.mark.parametrize(
    "outcome",
    [
        "expired_unverified",
        "erased",
        "not_yet_valid",
        "key_disabled",
        "unknown_key",
        "unauthentic",
        "malformed",
        "plaintext",
    ],
)
async def test_an_output_goes_with_its_call_for_whatever_reason_that_was_left_out(
    place: StoreLocation, sealer: Sealer, outcome: str
):
    call = call_of("function_call")
    rows = {
        "expired_unverified": sealer.row(call, sealer.unknown, age=AGE),
        "erased": sealer.row(call, sealer.destroyed),
        "not_yet_valid": sealer.row(call, age=-1000),
        "key_disabled": sealer.row(call, sealer.disabled),
        "unknown_key": sealer.row(call, sealer.unknown),
        "unauthentic": json.dumps(altered(sealer.envelope(call))),
        "malformed": json.dumps({**sealer.envelope(call), "payload": ""}),
        "plaintext": json.dumps(call),
    }
    history = await read(place, sealer, [rows[outcome], sealer.row(output_of("function_call")), sealer.row(LAST)])
    assert history.items == [LAST]
    assert history.outcomes == {"ok": 1, outcome_of(outcome): 1, "unpaired": 1}


async def test_parallel_calls_keep_their_own_outputs(place: StoreLocation, sealer: Sealer):
    rows = [
        sealer.row(call_of("function_call", "gone"), age=AGE),
        sealer.row(call_of("function_call", "here")),
        sealer.row(output_of("function_call", "here")),
        sealer.row(output_of("function_call", "gone")),
    ]
    history = await read(place, sealer, rows)
    assert history.items == [call_of("function_call", "here"), output_of("function_call", "here")]


async def test_a_shared_id_pairs_only_items_of_matching_types(place: StoreLocation, sealer: Sealer):
    rows = [
        sealer.row(call_of("function_call")),
        sealer.row(call_of("computer_call"), age=AGE),
        sealer.row(output_of("computer_call")),
        sealer.row(output_of("function_call")),
    ]
    assert (await read(place, sealer, rows)).items == [call_of("function_call"), output_of("function_call")]


async def test_an_id_that_is_used_again_pairs_with_the_call_before(place: StoreLocation, sealer: Sealer):
    old, new = output_of("function_call", text="old"), output_of("function_call", text="new")
    rows = [
        sealer.row(call_of("function_call"), age=AGE),
        sealer.row(old),
        sealer.row(call_of("function_call")),
        sealer.row(new),
    ]
    assert (await read(place, sealer, rows)).items == [call_of("function_call"), new]


async def test_searches_without_an_id_are_answered_one_by_one(place: StoreLocation, sealer: Sealer):
    def call(age: int = 0) -> str:
        return sealer.row(call_of("tool_search_call", None), age=age)

    def output(text: str) -> str:
        return sealer.row(output_of("tool_search_call", None, text))

    rows = [call(AGE), output("of a lost call"), call(), output("one"), call(), call(), output("two"), output("three")]
    history = await read(place, sealer, rows)
    assert [item["output"] for item in history.items if "output" in item] == ["one", "two", "three"]
    assert history.outcomes == {"ok": 6, "expired": 1, "unpaired": 1}


async def test_an_answer_to_a_search_without_an_id_is_lost_with_the_only_call(place: StoreLocation, sealer: Sealer):
    rows = [
        sealer.row(call_of("tool_search_call", None), age=AGE),
        sealer.row(output_of("tool_search_call", None)),
        sealer.row(LAST),
    ]
    assert (await read(place, sealer, rows)).items == [LAST]


async def test_what_a_plain_limit_cuts_is_returned_as_the_bare_store_returns_it(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(call_of("function_call")), sealer.row(output_of("function_call")), sealer.row(LAST)]
    assert (await read(place, sealer, rows, 2)).items == [output_of("function_call"), LAST]


async def test_what_a_limit_cuts_is_not_what_was_left_out(place: StoreLocation, sealer: Sealer):
    """A row that was left out behind an output took no call from it: the call lies beyond the limit."""
    rows = [
        sealer.row(call_of("function_call")),
        sealer.row(output_of("function_call")),
        sealer.expired(),
        sealer.row(LAST),
    ]
    assert (await read(place, sealer, rows, 2)).items == [output_of("function_call"), LAST]


async def test_a_history_without_gaps_is_returned_as_it_is(place: StoreLocation, sealer: Sealer):
    """An output without a call was never whole: the model's answer to it is the application's to see."""
    rows = [sealer.row(output_of("function_call")), sealer.row(LAST)]
    assert (await read(place, sealer, rows)).items == [output_of("function_call"), LAST]


@pytest.mark.parametrize("odd", [None, 7, ["c1"], {"a": 1}])
async def test_odd_ids_and_types_break_nothing(place: StoreLocation, sealer: Sealer, odd: Any):
    items = [{"type": "function_call_output", "call_id": odd, "output": "x"}, {"type": odd, "call_id": "c1"}]
    history = await read(place, sealer, [sealer.expired(), *[sealer.row(item) for item in items]])
    assert history.items == items


async def test_unpaired_outputs_are_no_reason_to_raise_and_are_found_by_counting(
    place: StoreLocation, sealer: Sealer, caplog: pytest.LogCaptureFixture
):
    rows = [sealer.row(call_of("function_call"), age=AGE), sealer.row(output_of("function_call")), sealer.row(LAST)]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        with caplog.at_level(logging.WARNING):
            assert await session.get_items() == [LAST]
        history = await session.read()
    assert [record for record in caplog.records if record.name == "encrypted_sessions"] == []
    assert history.outcomes == {"ok": 1, "expired": 1, "unpaired": 1}
    assert history.findings in ((), (Finding(1, "unpaired", sealer.active.kid),))
    assert await raw_rows(place, SESSION) == rows


# -- What was added together expires together ---------------------------------------------------


class Clock:
    """The session's clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
        self.now = now
        monkeypatch.setattr("encrypted_sessions.session._now", lambda: self.now)


async def test_a_batch_carries_one_time_however_long_it_takes_to_seal(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    start = float(sealer.now)
    ticks = iter(range(10**6))
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: start + next(ticks))
    async with sealer.session(place) as session:
        await session.add_items([message(str(number)) for number in range(50)])
    monkeypatch.undo()
    stamps = {base64.urlsafe_b64decode(json.loads(row)["payload"])[1:9] for row in await raw_rows(place, SESSION)}
    assert len(stamps) == 1


async def test_what_was_added_together_expires_together(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch, sealer.now + 0.9)
    turn = [message("go"), call_of("function_call"), output_of("function_call"), message("done")]
    async with sealer.session(place, ttl=60) as session:
        await session.add_items(turn)
        for passed in range(58, 63):
            clock.now = sealer.now + passed + 0.999
            assert await session.get_items() == (turn if passed <= 60 else [])


async def test_a_call_and_an_output_of_different_turns_are_never_torn(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch, float(sealer.now))
    first, second = [message("go"), call_of("function_call")], [output_of("function_call"), message("done")]
    async with sealer.session(place, ttl=60) as session:
        await session.add_items(first)
        clock.now += 30
        await session.add_items(second)
        clock.now = sealer.now + 60
        assert await session.get_items() == first + second
        clock.now = sealer.now + 61
        assert await session.get_items() == second[1:]
        assert (await session.read()).outcomes == {"ok": 1, "expired": 2, "unpaired": 1}


async def test_a_longer_ttl_brings_rows_back_that_were_not_removed(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    """The reader enforces the ttl: SECURITY.md says so."""
    clock = Clock(monkeypatch, float(sealer.now))
    async with sealer.session(place, ttl=60) as session:
        await session.add_items([message("one")])
        clock.now += 100
        assert await session.get_items() == []
        session.ttl = 200
        assert await session.get_items() == [message("one")]
        session.ttl = None
        clock.now += 10**8
        assert await session.get_items() == [message("one")]

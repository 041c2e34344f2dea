"""An approval that outlives its session: what the SDK shows, and that no tool runs twice.

A run waits for a human, the history expires, the human approves. The run's own state carries the
conversation, so such a run goes on. But when the resumed turn could not be saved, the SDK compares
the history with what it saw before: an expired history no longer matches, and it says so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, RunState, UserError, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import KINDS, StoreLocation

TTL = 600
CHAT = "chat"

DOCUMENTED = "Cannot reconcile the pending Session write: history changed or is ambiguous"

Ask = Callable[[Agent[Any], Any, Any], Awaitable[Any]]


class Chat:
    """An agent whose refunds need approval, and the place of its encrypted session."""

    def __init__(self, place: StoreLocation, ring: KeyRing) -> None:
        self._place = place
        self._ring = ring
        self.refunds: list[int] = []

        @function_tool(needs_approval=True)
        def refund(amount: int) -> str:
            """Pay money back."""
            self.refunds.append(amount)
            return f"refunded {amount}"

        call = function_call("refund", {"amount": 5}, call_id="call_1")
        answers = [assistant_message(text, item_id=f"msg_{text}") for text in ("paid", "bye")]
        self.model = ScriptedModel([[call], *([answer] for answer in answers)])
        self.agent = Agent("desk", model=self.model, tools=[refund])

    @asynccontextmanager
    async def session(self) -> AsyncIterator[EncryptedSession]:
        """A new session object over the same rows, as a new process would make it."""
        async with stores.open_store(self._place, CHAT) as store:
            yield EncryptedSession(CHAT, store, self._ring, ttl=TTL)

    async def rows(self) -> int:
        return len(await stores.raw_rows(self._place, CHAT))

    async def wait_for_approval(self, ask: Ask) -> RunState[Any]:
        """Ask for a refund, and approve it in the state that a later process gets."""
        async with self.session() as session:
            result = await ask(self.agent, "refund me", session)
        state = await self.through_json(result.to_state())
        (interruption,) = state.get_interruptions()
        state.approve(interruption)
        return state

    async def through_json(self, state: RunState[Any]) -> RunState[Any]:
        return await RunState.from_json(self.agent, json.loads(json.dumps(state.to_json())))


async def ask(agent: Agent[Any], asked: Any, session: Any) -> Any:
    return await Runner.run(agent, asked, session=session, run_config=RunConfig(tracing_disabled=True))


async def ask_streamed(agent: Agent[Any], asked: Any, session: Any) -> Any:
    result = Runner.run_streamed(agent, asked, session=session, run_config=RunConfig(tracing_disabled=True))
    async for _ in result.stream_events():
        pass
    return result


@pytest.fixture(params=distinct(KINDS))
async def chat(request: pytest.FixtureRequest) -> AsyncIterator[Chat]:
    async with KeyRing.ephemeral() as ring:
        yield Chat(stores.new_place(request.param, request), ring)


def fail_to_save(session: EncryptedSession, monkeypatch: pytest.MonkeyPatch, *, saved: bool) -> None:
    """The store fails at the next append: before it writes, or (`saved`) before it says so."""
    store = session.underlying_session
    add_items = store.add_items

    async def failing(items: Any) -> None:
        if saved:
            await add_items(items)
        monkeypatch.setattr(store, "add_items", add_items)
        raise ConnectionError("the store went away")

    monkeypatch.setattr(store, "add_items", failing)


def kinds_of(items: list[Any]) -> list[str]:
    return [item.get("type") or item["role"] for item in items]


both_ways = pytest.mark.parametrize("ask", [ask, ask_streamed])
saved_or_not = pytest.mark.parametrize("saved", [False, True], ids=["not saved", "saved"])


@both_ways
async def test_a_resume_after_expiry_goes_on_from_its_own_state_and_runs_the_tool_once(
    chat: Chat, clock: FakeClock, ask: Ask
) -> None:
    state = await chat.wait_for_approval(ask)
    clock.now += TTL + 1
    async with chat.session() as session:
        assert await session.get_items() == []
        result = await ask(chat.agent, state, session)
        assert result.final_output == "paid"
        assert kinds_of(chat.model.calls[1].input) == ["user", "function_call", "function_call_output"]
    async with chat.session() as session:
        assert kinds_of(await session.get_items()) == ["message"], "no output without its call"
        assert (await session.read()).outcomes["unpaired"] == 1
        await ask(chat.agent, "thanks", session)
    assert kinds_of(chat.model.calls[2].input) == ["message", "user"]
    assert chat.refunds == [5]


@both_ways
@saved_or_not
async def test_a_resume_of_an_unsettled_turn_in_time_settles_it_and_runs_the_tool_once(
    chat: Chat, clock: FakeClock, ask: Ask, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await chat.wait_for_approval(ask)
    async with chat.session() as session:
        fail_to_save(session, monkeypatch, saved=saved)
        with pytest.raises(ConnectionError):
            await ask(chat.agent, state, session)
    assert chat.refunds == [5]
    state = await chat.through_json(state)
    clock.now += TTL
    async with chat.session() as session:
        result = await ask(chat.agent, state, session)
        assert result.final_output == "paid"
        assert kinds_of(await session.get_items()) == ["user", "function_call", "function_call_output", "message"]
    assert chat.refunds == [5]


@both_ways
@saved_or_not
async def test_a_resume_of_an_unsettled_turn_after_expiry_shows_the_documented_error_and_runs_no_tool_twice(
    chat: Chat, clock: FakeClock, ask: Ask, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await chat.wait_for_approval(ask)
    async with chat.session() as session:
        fail_to_save(session, monkeypatch, saved=saved)
        with pytest.raises(ConnectionError):
            await ask(chat.agent, state, session)
    rows = await chat.rows()
    state = await chat.through_json(state)
    clock.now += TTL + 1
    for _ in range(2):
        async with chat.session() as session:
            with pytest.raises(UserError, match=DOCUMENTED):
                await ask(chat.agent, state, session)
        state = await chat.through_json(state)
    assert chat.refunds == [5]
    assert await chat.rows() == rows, "nothing was written"
    assert len(chat.model.calls) == 1, "the model was not asked"


@both_ways
async def test_a_resume_of_a_turn_whose_beginning_expired_shows_the_documented_error_and_runs_no_tool_twice(
    chat: Chat, clock: FakeClock, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await chat.wait_for_approval(ask)
    clock.now += TTL
    async with chat.session() as session:
        fail_to_save(session, monkeypatch, saved=True)
        with pytest.raises(ConnectionError):
            await ask(chat.agent, state, session)
    clock.now += 1  # the call has expired, its output has not
    async with chat.session() as session:
        with pytest.raises(UserError, match=DOCUMENTED):
            await ask(chat.agent, await chat.through_json(state), session)
        assert await session.get_items() == []
    assert chat.refunds == [5]

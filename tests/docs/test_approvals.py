"""What docs/moving-over.md says of a run whose first items expire while it waits for an approval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, Runner, RunState, SQLiteSession, function_tool
from agents.exceptions import UserError
from agents.extensions.memory import EncryptedSession as SdkSession
from agents.testing import ScriptedModel, assistant_message, function_call

from encrypted_sessions import EncryptedSession, Key
from encrypted_sessions_tests.documents import ROOT

TTL = 600
PAGE = ROOT / "docs" / "moving-over.md"


class Clock:
    now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("encrypted_sessions.session._now", clock.time)
    monkeypatch.setattr("cryptography.fernet.time", clock)
    monkeypatch.setattr("agents.extensions.memory.encrypt_session.time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteSession]:
    store = SQLiteSession("user-1", tmp_path / "agents.db")
    yield store
    store.close()


def clerk() -> SimpleNamespace:
    """An agent that pays when it is allowed to, and what it has paid."""
    paid: list[int] = []

    @function_tool(needs_approval=True)
    def pay(amount: int) -> str:
        paid.append(amount)
        return "paid"

    script = [[function_call("pay", {"amount": 5}, call_id="c1")], [assistant_message("done")]]
    return SimpleNamespace(paid=paid, agent=Agent(name="clerk", tools=[pay], model=ScriptedModel(script)))


async def restored(agent: Agent[Any], state: RunState[Any]) -> RunState[Any]:
    """The state as another process gets it."""
    return await RunState.from_json(agent, json.loads(json.dumps(state.to_json())))


async def approved(agent: Agent[Any], state: RunState[Any]) -> RunState[Any]:
    state = await restored(agent, state)
    for interruption in state.get_interruptions():
        state.approve(interruption)
    return state


@pytest.mark.parametrize("wrapper", [EncryptedSession, SdkSession])
async def test_a_run_that_is_approved_after_expiry_goes_on_and_its_output_has_no_call(
    wrapper: Any, store: SQLiteSession, clock: Clock
) -> None:
    session, run = wrapper("user-1", store, Key.generate().reveal_base64(), TTL), clerk()
    waiting = await Runner.run(run.agent, "pay 5", session=session)
    clock.now += TTL + 1
    result = await Runner.run(run.agent, await approved(run.agent, waiting.to_state()), session=session)
    assert (result.final_output, run.paid) == ("done", [5])
    kept = [item.get("type") for item in await session.get_items()]
    assert kept == (["message"] if wrapper is EncryptedSession else ["function_call_output", "message"])


@pytest.mark.parametrize("wrapper", [EncryptedSession, SdkSession])
async def test_a_run_whose_write_failed_before_the_expiry_cannot_be_resumed(
    wrapper: Any, store: SQLiteSession, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    session, run = wrapper("user-1", store, Key.generate().reveal_base64(), TTL), clerk()
    waiting = await Runner.run(run.agent, "pay 5", session=session)
    state = await approved(run.agent, waiting.to_state())
    with monkeypatch.context() as broken:
        broken.setattr(store, "_insert_items", fail)
        with pytest.raises(OSError, match="the disk is full"):
            await Runner.run(run.agent, state, session=session)

    clock.now += TTL + 1
    with pytest.raises(UserError) as raised:
        await Runner.run(run.agent, await restored(run.agent, state), session=session)
    assert run.paid == [5]
    begins = "Cannot reconcile the pending Session write: history changed or is ambiguous."
    assert str(raised.value).startswith(begins)
    assert begins in PAGE.read_text(encoding="utf-8")

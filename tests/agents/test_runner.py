"""The Runner cannot tell the difference.

Each scenario is played twice with the same script: over a bare store, and over an encrypted
session around a second store of the same kind. What the application saw (outputs, errors, events),
what the model saw on every call, and the histories must be equal. Every text, tool and agent of a
scenario carries MARK, so that a search of what lies at rest finds any plaintext.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    HostedMCPTool,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunState,
    SessionSettings,
    ToolGuardrailFunctionOutput,
    UserError,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
)
from agents.extensions import handoff_filters
from agents.lifecycle import RunHooks
from agents.run_internal.agent_bindings import bind_public_agent
from agents.run_internal.oai_conversation import OpenAIServerConversationTracker
from agents.run_internal.run_loop import get_new_response
from agents.run_internal.session_persistence import rewind_session_items
from agents.run_internal.tool_use_tracker import AgentToolUseTracker
from agents.testing import ScriptedModel, assistant_message, function_call
from openai import BadRequestError
from openai.types.responses import ResponseReasoningItem
from openai.types.responses.response_output_item import McpApprovalRequest
from pydantic import BaseModel

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import KINDS, PlainSession, everything_at_rest, new_place, open_store, raw_rows

MARK = "quokka"

Open = Callable[[str], AbstractAsyncContextManager[Any]]


class Stage:
    """Plays one scenario and keeps all that it showed, in order."""

    def __init__(self, open_session: Open) -> None:
        self._open = open_session
        self._models: list[ScriptedModel] = []
        self.session_ids: list[str] = []
        self.seen: list[tuple[str, Any]] = []

    def session(self, session_id: str = "chat") -> AbstractAsyncContextManager[Any]:
        """A new session object over the same rows, as a new process would make it."""
        if session_id not in self.session_ids:
            self.session_ids.append(session_id)
        return self._open(session_id)

    def model(self, *steps: Any) -> ScriptedModel:
        self._models.append(ScriptedModel(steps))
        return self._models[-1]

    def note(self, what: str, value: Any) -> None:
        self.seen.append((what, value))

    async def ask(self, agent: Agent[Any], asked: Any, session: Any, **settings: Any) -> Any:
        """One run to its end."""
        result = await Runner.run(agent, asked, session=session, **_split(settings))
        self._note_result(result)
        return result

    async def ask_streamed(self, agent: Agent[Any], asked: Any, session: Any, **settings: Any) -> Any:
        """One streamed run, with every event that an application would show."""
        result = Runner.run_streamed(agent, asked, session=session, **_split(settings))
        async for event in result.stream_events():
            name = getattr(event, "name", None) or getattr(getattr(event, "data", None), "type", None)
            self.note("event", (event.type, name))
        self._note_result(result)
        return result

    @contextlib.contextmanager
    def fails(self, error: type[Exception]) -> Iterator[None]:
        """What happens inside must raise exactly this error; its words are compared."""
        with pytest.raises(error) as raised:
            yield
        assert type(raised.value) is error
        self.note("error", f"{error.__name__}: {raised.value}")

    async def finish(self) -> None:
        """Note the histories as a new process reads them, and what each model was given."""
        for session_id in self.session_ids:
            async with self.session(session_id) as session:
                for limit in (None, 0, 1, 3):
                    history = json.dumps(await session.get_items(limit))  # so that 1, True and 1.0 differ
                    self.note(f"history of {session_id}, limit {limit}", history)
        for model in self._models:
            model.assert_complete()
            for call in model.calls:
                self.note("model input", call.input)
                self.note(
                    "model call",
                    (
                        call.system_instructions,
                        [tool.name for tool in call.tools],
                        [target.tool_name for target in call.handoffs],
                        call.previous_response_id,
                        call.conversation_id,
                        call.model_settings.extra_args,
                        call.streamed,
                    ),
                )

    def _note_result(self, result: Any) -> None:
        self.note("final output", result.final_output)
        self.note("last agent", result.last_agent.name)
        self.note("new items", [item.to_input_item() for item in result.new_items if item.type != "tool_approval_item"])
        self.note("to_input_list", result.to_input_list())
        self.note("interruptions", [item.name for item in result.interruptions])


def _split(settings: dict[str, Any]) -> dict[str, Any]:
    """Runner.run's own arguments, and all others as settings of the run."""
    own: dict[str, Any] = {name: settings.pop(name) for name in ("max_turns", "context") if name in settings}
    return {**own, "run_config": RunConfig(tracing_disabled=True, **settings)}


def say(text: str) -> Any:
    """An answer of the model. Its id follows from its text, so that no two are taken for one."""
    return assistant_message(f"{MARK} {text}", item_id=f"msg_{zlib.crc32(ascii(text).encode()):08x}")


def call(tool: Any, call_id: str, **arguments: Any) -> Any:
    """A tool call of the model."""
    return function_call(getattr(tool, "name", tool), arguments, call_id=f"call_{MARK}_{call_id}")


def question(text: str) -> Any:
    """An input item of the user."""
    return {"role": "user", "content": f"{MARK} {text}"}


@function_tool
async def quokka_weather(city: str) -> str:
    """Look up the weather."""
    return f"{MARK} sun over {city}"


@function_tool
async def quokka_time(zone: str) -> str:
    """Look up the time."""
    await asyncio.sleep(0)  # so that a call beside this one finishes first
    return f"{MARK} noon in {zone}"


Scenario = Callable[[Stage], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    SCENARIOS[play.__name__] = play
    return play


# -- What an agent does every day ---------------------------------------------------------------


@scenario
async def plain(stage: Stage) -> None:
    model = stage.model([say("hello")], [say("four")], [say("five")])
    agent = Agent(f"{MARK} desk", instructions="Be brief.", model=model)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        await stage.ask(agent, [question("two"), question("and two?")], session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} and one more?", session)


@scenario
async def tools(stage: Stage) -> None:
    model = stage.model(
        [say("let me see"), call(quokka_weather, "1", city="Perth")],
        [call(quokka_time, "2", zone="Perth")],
        [say("sunny noon")],
        [say("you are welcome")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather, quokka_time])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} weather?", session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} thanks", session)


@scenario
async def parallel_tools(stage: Stage) -> None:
    model = stage.model(
        [
            call(quokka_time, "1", zone="Perth"),
            call(quokka_weather, "2", city="Perth"),
            call(quokka_weather, "3", city="Albany"),
        ],
        [say("both are fine")],
        [say("yes")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather, quokka_time])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} compare", session)
        await stage.ask(agent, f"{MARK} sure?", session)


@scenario
async def tool_failures(stage: Stage) -> None:
    @function_tool(failure_error_function=lambda _context, error: f"{MARK} could not: {error}")
    def quokka_fragile() -> str:
        """Fail, and tell the model."""
        raise RuntimeError("broken")

    @function_tool(failure_error_function=None)
    def quokka_fatal() -> str:
        """Fail, and end the run."""
        raise RuntimeError(f"{MARK} fatal")

    @tool_input_guardrail
    def no_secrets(_data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content(f"{MARK} not that")

    @function_tool(tool_input_guardrails=[no_secrets])
    def quokka_guarded(word: str) -> str:
        """Never run: its guardrail refuses."""
        raise AssertionError(word)

    model = stage.model(
        [call(quokka_fragile, "1"), call(quokka_guarded, "2", word="x")],
        [say("it broke")],
        [call(quokka_fatal, "3")],
        [call("quokka_unknown", "4")],
        [say("back again")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_fragile, quokka_fatal, quokka_guarded])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} try", session)
        with stage.fails(UserError):
            await stage.ask(agent, f"{MARK} try harder", session)
        with stage.fails(ModelBehaviorError):
            await stage.ask(agent, f"{MARK} try another", session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} still there?", session)


@scenario
async def handoffs(stage: Stage) -> None:
    billing_model = stage.model(
        [call(quokka_weather, "2", city="Perth")], [say("paid")], [say("filtered")], [say("nested")]
    )
    billing = Agent(f"{MARK} billing", model=billing_model, tools=[quokka_weather])
    filtered = handoff(billing, tool_name_override="quokka_filtered", input_filter=handoff_filters.remove_all_tools)
    triage_model = stage.model(
        [call("quokka_handoff", "1")],
        [call("quokka_filtered", "3")],
        [call("quokka_handoff", "4")],
        [say("at the front desk again")],
    )
    triage = Agent(
        f"{MARK} triage", model=triage_model, handoffs=[handoff(billing, tool_name_override="quokka_handoff"), filtered]
    )
    async with stage.session() as session:
        await stage.ask(triage, f"{MARK} my bill", session)
        await stage.ask(triage, f"{MARK} my bill again", session)
    async with stage.session() as session:
        await stage.ask(triage, f"{MARK} and again", session, nest_handoff_history=True)
        await stage.ask(triage, f"{MARK} done", session)


@scenario
async def agent_as_tool(stage: Stage) -> None:
    expert_model = stage.model([call(quokka_weather, "2", city="Perth")], [say("sunny, I think")], [say("as I said")])
    expert = Agent(f"{MARK} expert", model=expert_model, tools=[quokka_weather])
    async with stage.session() as session, stage.session("expert") as inner:
        ask_expert = expert.as_tool("quokka_expert", "Ask the expert.", session=inner)
        desk_model = stage.model(
            [call(ask_expert, "1", input=f"{MARK} weather?")],
            [say("the expert says sunny")],
            [call(ask_expert, "3", input=f"{MARK} really?")],
            [say("the expert insists")],
        )
        desk = Agent(f"{MARK} desk", model=desk_model, tools=[ask_expert])
        await stage.ask(desk, f"{MARK} ask the expert", session)
        await stage.ask(desk, f"{MARK} ask again", session)


class Answer(BaseModel):
    city: str
    degrees: float


@scenario
async def typed_output(stage: Stage) -> None:
    text = json.dumps({"city": f"{MARK} Perth", "degrees": 21.5})
    model = stage.model([assistant_message(text, item_id="msg_a")], [assistant_message("{", item_id="msg_b")])
    agent = Agent(f"{MARK} desk", model=model, output_type=Answer)
    async with stage.session() as session:
        result = await stage.ask(agent, f"{MARK} how warm?", session)
        assert result.final_output == Answer(city=f"{MARK} Perth", degrees=21.5)
        with stage.fails(ModelBehaviorError):
            await stage.ask(agent, f"{MARK} and now?", session)


@scenario
async def items_of_every_shape(stage: Stage) -> None:
    thought = ResponseReasoningItem(
        id="rs_1", type="reasoning", summary=[], encrypted_content=f"{MARK} sealed thought", status=None
    )
    model = stage.model([thought, say("é 漢字 🦘 \u2028 \x00 \ud83d")], [say("next")])
    agent = Agent(f"{MARK} desk", model=model)
    shown = {
        "role": "user",
        "content": [
            {"type": "input_text", "text": f'{MARK} "quoted" \\ \n \t é 漢字 🦘 \x7f'},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"},
        ],
    }
    odd: Any = {
        "role": "developer",
        "content": f"{MARK} rules",
        "weights": [0, -0.0, 1e-320, 10**30, True, None, {}, []],
    }
    async with stage.session() as session:
        await session.add_items([odd])
        await stage.ask(agent, [shown], session)
        await stage.ask(agent, f"{MARK} next", session, reasoning_item_id_policy="omit")


@scenario
async def max_turns(stage: Stage) -> None:
    model = stage.model(
        [call(quokka_weather, "1", city="Perth")], [call(quokka_weather, "2", city="Perth")], [say("ok")]
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather])
    async with stage.session() as session:
        with stage.fails(MaxTurnsExceeded):
            await stage.ask(agent, f"{MARK} go round", session, max_turns=2)
        await stage.ask(agent, f"{MARK} stop", session)


@scenario
async def model_error(stage: Stage) -> None:
    model = stage.model(
        [say("hello")],
        RuntimeError(f"{MARK} model is down"),
        [call(quokka_weather, "1", city="Perth")],
        RuntimeError(f"{MARK} model is down again"),
        [say("back")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        with stage.fails(RuntimeError):
            await stage.ask(agent, f"{MARK} anyone?", session)
        with stage.fails(RuntimeError):
            await stage.ask(agent, f"{MARK} weather?", session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} anyone now?", session)


@scenario
async def streaming(stage: Stage) -> None:
    model = stage.model(
        [call(quokka_weather, "1", city="Perth"), call(quokka_time, "2", zone="Perth")],
        [say("sunny noon")],
        RuntimeError(f"{MARK} stream broke"),
        [say("again")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather, quokka_time])
    async with stage.session() as session:
        await stage.ask_streamed(agent, f"{MARK} weather?", session)
        with stage.fails(RuntimeError):
            await stage.ask_streamed(agent, f"{MARK} more", session)
    async with stage.session() as session:
        await stage.ask_streamed(agent, f"{MARK} again?", session)


@scenario
async def a_stream_cancelled_after_its_turn(stage: Stage) -> None:
    model = stage.model([call(quokka_weather, "1", city="Perth")], [say("fresh start")])
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather])
    async with stage.session() as session:
        result = Runner.run_streamed(
            agent, f"{MARK} weather?", session=session, run_config=RunConfig(tracing_disabled=True)
        )
        result.cancel(mode="after_turn")
        async for event in result.stream_events():
            stage.note("event", event.type)
        stage.note("history", await session.get_items())
        await stage.ask_streamed(agent, f"{MARK} never mind", session)


# -- Guardrails ---------------------------------------------------------------------------------


def _last_words(asked: Any) -> str:
    return asked if isinstance(asked, str) else str(asked[-1])


@input_guardrail(run_in_parallel=False)
def blocking_guardrail(_context: Any, _agent: Any, asked: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=MARK, tripwire_triggered="forbidden" in _last_words(asked))


@output_guardrail
def answer_guardrail(_context: Any, _agent: Any, answer: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=MARK, tripwire_triggered="rude" in str(answer))


@scenario
async def input_guardrail_trips(stage: Stage) -> None:
    model = stage.model([say("hello")], [say("welcome back")])
    agent = Agent(f"{MARK} desk", model=model, input_guardrails=[blocking_guardrail])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        with stage.fails(InputGuardrailTripwireTriggered):
            await stage.ask(agent, f"{MARK} forbidden", session)
        with stage.fails(InputGuardrailTripwireTriggered):
            await stage.ask_streamed(agent, f"{MARK} forbidden, streamed", session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} sorry", session)


@scenario
async def input_guardrail_trips_while_the_model_answers(stage: Stage) -> None:
    called = asyncio.Event()

    async def never_answer(_call: Any) -> Any:
        called.set()
        await asyncio.Event().wait()

    @input_guardrail
    async def parallel_guardrail(_context: Any, _agent: Any, asked: Any) -> GuardrailFunctionOutput:
        if "dubious" not in _last_words(asked):
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)
        await called.wait()
        return GuardrailFunctionOutput(output_info=MARK, tripwire_triggered=True)

    model = stage.model([say("hello")], {"responder": never_answer}, [say("welcome back")])
    agent = Agent(f"{MARK} desk", model=model, input_guardrails=[parallel_guardrail])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        with stage.fails(InputGuardrailTripwireTriggered):
            await stage.ask(agent, f"{MARK} dubious", session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} sorry", session)


@scenario
async def output_guardrail_trips(stage: Stage) -> None:
    model = stage.model(
        [call(quokka_weather, "1", city="Perth")],
        [say("something rude")],
        [say("another rude thing")],
        [say("something kind")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather], output_guardrails=[answer_guardrail])
    async with stage.session() as session:
        with stage.fails(OutputGuardrailTripwireTriggered):
            await stage.ask(agent, f"{MARK} weather?", session)
        stage.note("history", await session.get_items())
        with stage.fails(OutputGuardrailTripwireTriggered):
            await stage.ask_streamed(agent, f"{MARK} and now?", session)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} please", session)


# -- A human in the loop ------------------------------------------------------------------------


@dataclass
class Deeds:
    """What the tools of a scenario did, for all to see."""

    done: list[str]


@function_tool(needs_approval=True)
def quokka_refund(context: RunContextWrapper[Deeds], amount: int) -> str:
    """Pay money back."""
    context.context.done.append(f"refunded {amount}")
    return f"{MARK} refunded {amount}"


async def _through_json(agent: Agent[Any], result: Any, deeds: Deeds) -> RunState[Any]:
    """The state of an interrupted run, as another process gets it."""
    text = json.dumps(result.to_state().to_json(context_serializer=lambda _: {}))
    return await RunState.from_json(agent, json.loads(text), context_override=RunContextWrapper(deeds))


async def _approval(stage: Stage, ask: Callable[..., Awaitable[Any]]) -> None:
    model = stage.model(
        [say("hello")],
        [
            call(quokka_weather, "1", city="Perth"),
            call(quokka_refund, "2", amount=5),
            call(quokka_refund, "3", amount=7),
        ],
        [say("one was paid")],
        [say("anything else?")],
    )
    agent: Agent[Deeds] = Agent(f"{MARK} desk", model=model, tools=[quokka_weather, quokka_refund])
    deeds = Deeds([])
    async with stage.session() as session:
        await ask(agent, f"{MARK} hi", session, context=deeds)
        result = await ask(agent, f"{MARK} refund me", session, context=deeds)
        assert len(result.interruptions) == 2
        stage.note("history", await session.get_items())
        state = await _through_json(agent, result, deeds)
    first, second = state.get_interruptions()
    state.approve(first)
    async with stage.session() as session:  # another process, one answer of two
        result = await ask(agent, state, session)
        assert len(result.interruptions) == 1
        stage.note("history", await session.get_items())
        state = await _through_json(agent, result, deeds)
    (second,) = state.get_interruptions()
    state.reject(second, rejection_message=f"{MARK} too much")
    async with stage.session() as session:
        await ask(agent, state, session)
        await ask(agent, f"{MARK} thanks", session, context=deeds)
    assert deeds.done == ["refunded 5"]


@scenario
async def human_in_the_loop(stage: Stage) -> None:
    await _approval(stage, stage.ask)


@scenario
async def human_in_the_loop_streamed(stage: Stage) -> None:
    await _approval(stage, stage.ask_streamed)


@scenario
async def human_in_the_loop_behind_an_output_guardrail(stage: Stage) -> None:
    model = stage.model([say("wait"), call(quokka_refund, "1", amount=5)], [say("paid")], [say("bye")])
    agent: Agent[Deeds] = Agent(
        f"{MARK} desk", model=model, tools=[quokka_refund], output_guardrails=[answer_guardrail]
    )
    deeds = Deeds([])
    async with stage.session() as session:
        result = await stage.ask(agent, f"{MARK} refund me", session, context=deeds)
        stage.note("history", await session.get_items())
        state = await _through_json(agent, result, deeds)
    state.approve(state.get_interruptions()[0])
    async with stage.session() as session:
        await stage.ask(agent, state, session)
        await stage.ask(agent, f"{MARK} bye", session, context=deeds)
    assert deeds.done == ["refunded 5"]


@scenario
async def hosted_mcp_approval(stage: Stage) -> None:
    request = McpApprovalRequest(
        id=f"mcpr_{MARK}", type="mcp_approval_request", name="quokka_delete", arguments="{}", server_label=MARK
    )
    model = stage.model([request], [say("deleted")], [say("bye")])
    hosted = HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": MARK,
            "server_url": "https://mcp.example",
            "require_approval": "always",
        }
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[hosted])
    deeds = Deeds([])
    async with stage.session() as session:
        result = await stage.ask(agent, f"{MARK} delete it", session)
        stage.note("history", await session.get_items())
        state = await _through_json(agent, result, deeds)
    state.approve(state.get_interruptions()[0])
    async with stage.session() as session:
        await stage.ask(agent, state, session)
        await stage.ask(agent, f"{MARK} bye", session)


# -- What the application does to the history ---------------------------------------------------


@scenario
async def session_limits(stage: Stage) -> None:
    model = stage.model(
        [call(quokka_weather, "1", city="Perth"), call(quokka_weather, "2", city="Albany")],
        *([say(f"answer {number}")] for number in range(12)),
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} weather?", session)
        for limit in (0, 1, 2, 3, 4, 5, 100):  # some of them tear calls from their outputs
            await stage.ask(agent, f"{MARK} within {limit}", session, session_settings=SessionSettings(limit=limit))
    async with stage.session() as session:
        has_a_limit_of_its_own = getattr(session, "session_settings", None) is not None
        session.session_settings = SessionSettings(limit=3)
        assert session.session_settings == SessionSettings(limit=3)
        if has_a_limit_of_its_own:
            stage.note("history", await session.get_items())
        await stage.ask(agent, f"{MARK} the session's own limit", session)
        await stage.ask(agent, f"{MARK} the run's", session, session_settings=SessionSettings(limit=2))
        await stage.ask_streamed(agent, f"{MARK} streamed", session)
        session.session_settings = SessionSettings()
        await stage.ask(agent, f"{MARK} no limit", session)


@scenario
async def input_callback(stage: Stage) -> None:
    def only_the_last_two(history: list[Any], new: list[Any]) -> list[Any]:
        return history[-2:] + new

    async def turned_round(history: list[Any], new: list[Any]) -> list[Any]:
        return new + history[::-1]

    def meddling(history: list[Any], new: list[Any]) -> list[Any]:
        for item in history:
            item["content"] = "rewritten"
        return [question("a preface"), *history, *new, *new]

    def dropping(history: list[Any], new: list[Any]) -> list[Any]:
        return history

    model = stage.model([say("one")], [say("two")], [say("three")], [say("four")], [say("five")], [say("six")])
    agent = Agent(f"{MARK} desk", model=model)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} first", session)
        for callback in (only_the_last_two, turned_round, meddling, dropping):
            await stage.ask(agent, f"{MARK} {callback.__name__}", session, session_input_callback=callback)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} last", session)


@scenario
async def taking_back_the_last_question(stage: Stage) -> None:
    model = stage.model([say("hello")], [say("seven")], [say("eight")])
    agent = Agent(f"{MARK} desk", model=model)
    async with stage.session() as session:
        stage.note("popped from nothing", await session.pop_item())
        await stage.ask(agent, f"{MARK} hi", session)
        await stage.ask(agent, f"{MARK} three plus four?", session)
    async with stage.session() as session:
        for _ in range(2):
            stage.note("popped", await session.pop_item())
        await stage.ask(agent, f"{MARK} four plus four?", session)


@scenario
async def starting_over(stage: Stage) -> None:
    model = stage.model([say("hello")], [say("hello again")])
    agent = Agent(f"{MARK} desk", model=model)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        await session.clear_session()
        await session.clear_session()
        stage.note("history", await session.get_items())
        await session.add_items([])
        stage.note("history", await session.get_items())
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi again", session)


# -- Rewind: what the SDK's retries do to the history -------------------------------------------


def _locked() -> BadRequestError:
    response = httpx2.Response(400, request=httpx2.Request("POST", "https://api.example"))
    return BadRequestError(f"{MARK} locked", response=response, body={"code": "conversation_locked"})


@scenario
async def rewind_by_a_model_retry(stage: Stage) -> None:
    """The SDK takes what it had saved of this turn out of the session before it asks again."""
    model = stage.model([say("hello")], _locked(), [say("after the retry")], [say("bye")])
    agent = Agent(f"{MARK} desk", model=model)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        saved: list[Any] = [question("one"), question("two")]
        await session.add_items(saved)
        tracker = OpenAIServerConversationTracker(conversation_id=f"conv_{MARK}")
        tracker.server_item_ids.update(item["id"] for item in await session.get_items() if "id" in item)
        response = await get_new_response(
            bind_public_agent(agent),
            None,
            saved,
            None,
            [],
            [],
            RunHooks(),
            RunContextWrapper(None),
            RunConfig(tracing_disabled=True),
            AgentToolUseTracker(),
            tracker,
            None,
            session=session,
            session_items_to_rewind=saved,
        )
        stage.note("response", response.output)
        stage.note("history", await session.get_items())
        await stage.ask(agent, f"{MARK} bye", session)


@scenario
async def rewind_of_a_turn(stage: Stage) -> None:
    model = stage.model(
        [call(quokka_weather, "1", city="Perth")],
        [say("sunny")],
        [call(quokka_weather, "2", city="Perth")],
        [say("ok")],
    )
    agent = Agent(f"{MARK} desk", model=model, tools=[quokka_weather])
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} weather?", session)
        whole_turn = await session.get_items()
        await stage.ask(agent, f"{MARK} weather now?", session)
        history = await session.get_items()
        await rewind_session_items(session, [question("never said")])  # not the tail: nothing happens
        await rewind_session_items(session, [question("never said"), history[-1]])
        await rewind_session_items(session, [*history, question("more than there is")])
        stage.note("untouched", await session.get_items())
        await rewind_session_items(session, history[len(whole_turn) :])
        stage.note("the second turn is gone", await session.get_items())
    async with stage.session() as session:
        await rewind_session_items(session, whole_turn)
        stage.note("all is gone", await session.get_items())
        await session.add_items(whole_turn)


@scenario
async def rewind_strips_what_the_server_does_not_know(stage: Stage) -> None:
    model = stage.model([say("hello")])
    agent = Agent(f"{MARK} desk", model=model)
    async with stage.session() as session:
        await stage.ask(agent, f"{MARK} hi", session)
        known = (await session.get_items())[-1]["id"]
        stray = [question("stray one"), question("stray two")]
        owned = [question("owned")]
        await session.add_items([*stray, *owned])
        tracker = OpenAIServerConversationTracker(conversation_id=f"conv_{MARK}")
        tracker.server_item_ids.add(known)
        tracker.mark_input_as_sent(stray)
        await rewind_session_items(session, owned, tracker)
        stage.note("history", await session.get_items())


# -- The comparison -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _retries_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_delay: float) -> None:
        pass

    monkeypatch.setattr("agents.run_internal.model_retry._sleep_for_retry", at_once)


async def _play(play: Scenario, open_session: Open) -> Stage:
    stage = Stage(open_session)
    await play(stage)
    await stage.finish()
    return stage


@pytest.mark.parametrize("kind", distinct(KINDS))
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_runner_cannot_tell_the_difference(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    await _compare(name, kind, request, {"__enc__", "v", "kid", "payload"})


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_runner_cannot_tell_the_difference_over_suite_2(name: str, request: pytest.FixtureRequest) -> None:
    await _compare(
        name, "sqlite", request, {"__enc__", "v", "kid", "p"}, suite=2, oldest_suite=2, realm="prod", pad=True
    )


async def _compare(name: str, kind: str, request: pytest.FixtureRequest, members: set[str], **options: Any) -> None:
    bare_place, sealed_place = new_place(kind, request), new_place(kind, request)
    ring = KeyRing.ephemeral()

    @contextlib.asynccontextmanager
    async def encrypted(session_id: str) -> AsyncIterator[Any]:
        async with open_store(sealed_place, session_id) as store:
            yield EncryptedSession(session_id, store, ring, **options)

    expected = await _play(SCENARIOS[name], lambda session_id: open_store(bare_place, session_id))
    shown = await _play(SCENARIOS[name], encrypted)
    await ring.aclose()

    assert shown.seen == expected.seen

    for session_id in shown.session_ids:
        sealed = await raw_rows(sealed_place, session_id)
        assert len(sealed) == len(await raw_rows(bare_place, session_id))
        assert all(set(json.loads(row)) == members for row in sealed)
    assert MARK.encode() in (await everything_at_rest(bare_place)).lower(), "the search would find no plaintext"
    at_rest = (await everything_at_rest(sealed_place)).lower()
    for plaintext in (MARK, '"role"', '"content"', "function_call"):
        assert plaintext.encode() not in at_rest


class ContextSession(PlainSession):
    """A structural session that asks for the run's context on all four methods."""

    def __init__(self, rows: list[Any], contexts: list[Any]) -> None:
        super().__init__("chat", rows)
        self._contexts = contexts

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> Any:
        self._contexts.append(("get_items", wrapper and wrapper.context))
        return await super().get_items(limit)

    async def add_items(self, items: Any, *, wrapper: Any = None) -> None:
        self._contexts.append(("add_items", wrapper and wrapper.context))
        await super().add_items(items)

    async def pop_item(self, *, wrapper: Any = None) -> Any:
        self._contexts.append(("pop_item", wrapper and wrapper.context))
        return await super().pop_item()

    async def clear_session(self, *, wrapper: Any = None) -> None:
        self._contexts.append(("clear_session", wrapper and wrapper.context))
        await super().clear_session()


async def test_a_store_that_asks_for_the_context_of_the_run_gets_it_through_the_wrapper() -> None:
    async def contexts_seen(wrap: Callable[[Any], Any]) -> list[Any]:
        contexts: list[Any] = []
        model = ScriptedModel([[call(quokka_weather, "1", city="Perth")], [say("sunny")]])
        agent: Agent[str] = Agent(f"{MARK} desk", model=model, tools=[quokka_weather])
        session = wrap(ContextSession([], contexts))
        await Runner.run(
            agent, f"{MARK} hi", session=session, context="tenant 7", run_config=RunConfig(tracing_disabled=True)
        )
        await rewind_session_items(session, await session.get_items(1), wrapper=RunContextWrapper("tenant 7"))
        await session.clear_session(wrapper=RunContextWrapper("tenant 7"))
        return sorted(set(contexts), key=str)

    ring = KeyRing.ephemeral()
    bare = await contexts_seen(lambda store: store)
    encrypted = await contexts_seen(lambda store: EncryptedSession("chat", store, ring))
    await ring.aclose()
    assert {name for name, context in bare if context == "tenant 7"} == {
        "get_items",
        "add_items",
        "pop_item",
        "clear_session",
    }
    assert encrypted == bare

"""An encrypted session around the SDK's compaction session: the encryption goes between that and its store.

`EncryptedSession(session_id, OpenAIResponsesCompactionSession(session_id, store), …)`, the order of the SDK's own
class, gives what the other order gives: the same rows, sealed. The caller's objects stay as they are.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import inspect
import json
from contextlib import closing
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, SessionSettings, SQLiteSession, function_tool
from agents.memory import OpenAIResponsesCompactionSession
from agents.run_internal import session_persistence
from agents.testing import ScriptedModel, function_call

from encrypted_sessions import EncryptedSession, KeyRing, StoreTimeoutError, UnreadableItemsError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.compaction import (
    CHAT,
    MARK,
    SUMMARY,
    Compactor,
    agent_that_says,
    assert_sealed,
    compacting,
    open_chat,
    questions,
    run,
    say,
    texts_of,
)
from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.stores import KINDS

every_kind = pytest.mark.parametrize("kind", KINDS)
two_kinds = pytest.mark.parametrize("kind", ["sqlite", "plain"])  # one of each promise


def bare() -> stores.PlainSession:
    return stores.PlainSession(CHAT, [])


@function_tool
def quokka_weather(city: str) -> str:
    """Look up the weather."""
    return f"{MARK} sun over {city}"


# -- Both orders --------------------------------------------------------------------------------


async def converse(session: Any) -> list[Any]:
    call = function_call("quokka_weather", {"city": "Perth"}, call_id=f"call_{MARK}")
    agent = agent_that_says("one", [call], "three", "four", tools=[quokka_weather])
    seen: list[Any] = []
    for text in ("first", "second", "third"):
        await run(agent, text, session)
        seen.append(await session.get_items())
    seen.extend(call.input for call in agent.model.calls)  # type: ignore[union-attr]  # it is a ScriptedModel
    seen.append(await session.pop_item())
    await session.add_items(questions("one", "two"))
    await session.run_compaction({"force": True})
    seen.append(await session.get_items())
    return seen


@every_kind
async def test_both_orders_give_the_same_rows_sealed(kind: str, request: pytest.FixtureRequest) -> None:
    async with open_chat(kind, request) as above:
        expected = await converse(above.session)
        rows = len(await above.rows())
    async with open_chat(kind, request, is_beneath=True) as beneath:
        assert await converse(beneath.session) == expected
        assert beneath.compactor.requests == above.compactor.requests
        assert len(beneath.compactor.requests) == 4
        assert len(await beneath.rows()) == rows
        await assert_sealed(beneath.place)


async def test_what_one_order_stores_the_other_reads_and_compacts(request: pytest.FixtureRequest) -> None:
    place = stores.new_place("sqlite", request)
    async with KeyRing.ephemeral() as ring, stores.open_store(place, CHAT) as store:
        above = compacting(EncryptedSession(CHAT, store, ring), Compactor())
        beneath = EncryptedSession(CHAT, compacting(store, Compactor()), ring)
        await run(agent_that_says([function_call("quokka_weather", {"city": "x"}, call_id="c")], "1",
                                  tools=[quokka_weather]), "first", beneath)  # fmt: skip
        assert await above.get_items() == await beneath.get_items() == SUMMARY
        await above.add_items(questions("two"))
        await beneath.run_compaction({"force": True})
        assert await above.get_items() == SUMMARY
        await assert_sealed(place)


@two_kinds
@pytest.mark.parametrize("streamed", [False, True], ids=["run", "streamed"])
async def test_only_ciphertext_is_at_rest_before_during_and_after(
    kind: str, streamed: bool, request: pytest.FixtureRequest
) -> None:
    looks: list[int] = []

    async def look() -> None:
        await assert_sealed(chat.place)
        looks.append(len(await chat.rows()))

    async with open_chat(kind, request, meanwhile=look, is_beneath=True) as chat:
        agent = agent_that_says("one", "two")
        for text in ("first", "second"):
            if streamed:
                config = RunConfig(tracing_disabled=True)
                result = Runner.run_streamed(agent, f"{MARK} {text}", session=chat.session, run_config=config)
                async for _ in result.stream_events():
                    pass
            else:
                await run(agent, text, chat.session)
            await look()
        await chat.session.add_items(questions("three"))
        await chat.session.run_compaction({"force": True})
        await look()
        assert looks == [2, 2, 4, 2, 3, 2]
        assert await chat.session.get_items() == SUMMARY


@two_kinds
async def test_a_compaction_is_deferred_until_the_tools_have_answered(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The SDK decides after the tool's output, and compacts after the answer, whatever the threshold says then."""
    asked: list[list[str]] = []

    def decide(context: dict[str, Any]) -> bool:
        asked.append([item.get("type", item.get("role")) for item in context["session_items"]])
        return len(asked) == 1

    async with open_chat(kind, request, is_beneath=True) as chat:
        assert chat.beneath is not None
        chat.beneath.should_trigger_compaction = decide
        call = function_call("quokka_weather", {"city": "Perth"}, call_id="call_1")
        await run(agent_that_says([call], "done", tools=[quokka_weather]), "first", chat.session)
        assert asked[0] == ["user", "function_call", "function_call_output"]
        assert len(chat.compactor.requests) == 1
        assert await chat.session.get_items() == SUMMARY
        assert chat.session._get_deferred_compaction_response_id() is None


@two_kinds
async def test_clearing_and_popping_revoke_a_deferred_compaction(kind: str, request: pytest.FixtureRequest) -> None:
    async with open_chat(kind, request, is_beneath=True) as chat:
        for revoke in (chat.session.clear_session, chat.session.pop_item):
            await chat.session.add_items(questions("one"))
            await chat.session._defer_compaction("resp_1")
            assert chat.session._get_deferred_compaction_response_id() == "resp_1"
            await revoke()
            assert chat.session._get_deferred_compaction_response_id() is None


@two_kinds
async def test_a_compaction_is_left_out_when_another_run_has_written_in_between(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async def meanwhile(_call: Any) -> Any:
        await chat.session.add_items(questions("from another run"))
        return [say("one")]

    async with open_chat(kind, request, is_beneath=True) as chat:
        await run(agent_that_says({"responder": meanwhile}), "first", chat.session)
        assert chat.compactor.requests == []
        assert len(await chat.session.get_items()) == 3


@two_kinds
@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
async def test_what_cannot_be_read_is_never_replaced(
    kind: str, on_unreadable: str, request: pytest.FixtureRequest
) -> None:
    async with open_chat(kind, request, is_beneath=True, on_unreadable=on_unreadable) as chat:
        await chat.session.add_items(questions("before"))
        await stores.write_raw_row(chat.place, CHAT, json.dumps({"role": "user", "content": "never sealed"}))
        rows = await chat.rows()
        with pytest.raises(UnreadableItemsError):
            await chat.session.run_compaction({"force": True})
        assert await chat.rows() == rows
        if on_unreadable == "skip":
            await run(agent_that_says("one"), "first", chat.session)
            assert (await chat.rows())[:2] == rows


@two_kinds
async def test_a_summary_carries_the_newest_timestamp_that_it_replaces(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, is_beneath=True, ttl=7200) as chat:
        await chat.session.add_items(questions("one"))
        newest = int(clock.now)
        clock.now += 3600
        await chat.session.run_compaction({"force": True})
        stamps = {
            int.from_bytes(base64.urlsafe_b64decode(json.loads(row)["payload"])[1:9], "big")
            for row in await chat.rows()
        }
        assert stamps == {newest}


# -- Cut off ------------------------------------------------------------------------------------


@two_kinds
@pytest.mark.parametrize("delay_ms", [0, 0.5, 1, 2, 4, 8, 16])
async def test_a_cancelled_compaction_leaves_the_old_history_or_the_new_one(
    kind: str, delay_ms: float, request: pytest.FixtureRequest
) -> None:
    async with open_chat(kind, request, is_beneath=True) as chat:
        await chat.session.add_items(questions("one", "two"))
        compaction = asyncio.create_task(chat.session.run_compaction({"force": True}))
        await asyncio.sleep(delay_ms / 1000)
        compaction.cancel()
        await asyncio.gather(compaction, return_exceptions=True)
        assert await chat.session.get_items() in (questions("one", "two"), SUMMARY)
        await chat.session.add_items(questions("three"))
        assert (await chat.session.get_items())[-1:] == questions("three")
        await assert_sealed(chat.place)


@two_kinds
async def test_a_compaction_cancelled_while_the_service_thinks_changes_nothing(
    kind: str, request: pytest.FixtureRequest
) -> None:
    thinking = asyncio.Event()

    async def think() -> None:
        thinking.set()
        await asyncio.Event().wait()

    async with open_chat(kind, request, meanwhile=think, is_beneath=True) as chat:
        await chat.session.add_items(questions("one", "two"))
        compaction = asyncio.create_task(chat.session.run_compaction({"force": True}))
        await thinking.wait()
        adding = asyncio.create_task(chat.session.add_items(questions("three")))
        await asyncio.sleep(0.01)
        assert not adding.done(), "what is added during a compaction waits for its end"
        compaction.cancel()
        with pytest.raises(asyncio.CancelledError):
            await compaction
        await adding
        assert await chat.session.get_items() == questions("one", "two", "three")


class FailsOnce(stores.PlainSession):
    """A store whose next `add_items` fails once it is told so."""

    fails_next = False

    async def add_items(self, items: Any) -> None:
        if self.fails_next:
            self.fails_next = False
            raise OSError("disk full")
        await super().add_items(items)


async def test_a_store_that_fails_to_take_the_replacement_gets_its_old_rows_back() -> None:
    rows: list[Any] = []
    async with KeyRing.ephemeral() as ring:
        store = FailsOnce(CHAT, rows)
        session = EncryptedSession(CHAT, compacting(store, Compactor()), ring)
        await session.add_items(questions("one", "two"))
        before = list(rows)
        store.fails_next = True
        with pytest.raises(OSError, match="disk full"):
            await session.run_compaction({"force": True})
        assert rows == before


class Hangs(stores.PlainSession):
    """A store that commits what its next `add_items` gets, and does not answer until it is let."""

    hangs_next = False
    heeds_cancellation = True

    def __init__(self, rows: list[Any]) -> None:
        super().__init__(CHAT, rows)
        self.written = asyncio.Event()
        self.answers = asyncio.Event()

    async def add_items(self, items: Any) -> None:
        await super().add_items(items)
        if self.hangs_next:
            self.hangs_next = False
            self.written.set()
            while not self.answers.is_set():
                try:
                    await self.answers.wait()
                except asyncio.CancelledError:
                    if self.heeds_cancellation:
                        raise


async def cancelled_while_it_hangs(store: Hangs, session: Any) -> asyncio.CancelledError:
    await session.add_items(questions("one", "two"))
    store.hangs_next = True
    caught: list[asyncio.CancelledError] = []

    async def compact() -> None:  # who awaits a cancelled task gets another error on Python 3.10
        with pytest.raises(asyncio.CancelledError) as raised:
            await session.run_compaction({"force": True})
        caught.append(raised.value)

    compaction = asyncio.create_task(compact())
    await store.written.wait()
    compaction.cancel()
    await asyncio.wait_for(compaction, 5)
    return caught[0]


async def test_a_cancelled_compaction_whose_store_hangs_is_broken_off_and_the_old_rows_are_put_back() -> None:
    rows: list[Any] = []
    async with KeyRing.ephemeral() as ring:
        store = Hangs(rows)
        session = EncryptedSession(CHAT, compacting(store, Compactor()), ring)
        error = await cancelled_while_it_hangs(store, session)
        assert error.__cause__ is None
        await session.add_items(questions("three"))
        assert await session.get_items() == questions("one", "two", "three")


async def test_a_cancelled_compaction_whose_store_cannot_be_broken_off_is_let_go_after_shield_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with KeyRing.ephemeral() as ring:
        store = Hangs([])
        store.heeds_cancellation = False
        session = EncryptedSession(CHAT, compacting(store, Compactor()), ring, shield_s=0.2)
        error = await cancelled_while_it_hangs(store, session)
        assert isinstance(error.__cause__, StoreTimeoutError)
        assert error.__cause__.in_doubt
        adding = asyncio.create_task(session.add_items(questions("three")))
        await asyncio.sleep(0.05)
        assert not adding.done(), "the session's next change waits for what goes on"
        store.answers.set()
        await adding
        assert await session.get_items() == [*SUMMARY, *questions("three")]
        assert "abandoned when its caller was cancelled has ended" in caplog.text


# -- The caller's objects -----------------------------------------------------------------------


async def test_the_callers_compaction_session_stays_as_it_is(request: pytest.FixtureRequest) -> None:
    async with open_chat("sqlite", request, is_beneath=True) as chat:
        beneath = chat.beneath
        assert beneath is not None
        store = beneath.underlying_session
        before = (type(beneath), set(vars(beneath)), beneath._mutation_lock)
        await run(agent_that_says("one"), "first", chat.session)
        assert (type(beneath), set(vars(beneath)), beneath._mutation_lock) == before
        assert beneath.underlying_session is store
        envelopes: list[Any] = await beneath.get_items()
        assert [set(row) for row in envelopes] == [{"__enc__", "v", "kid", "payload"}] * 2
        # What it changes, it changes for both: the rows, and what the SDK counts to know of it.
        generation = beneath._mutation_generation
        assert await beneath.pop_item() == envelopes[-1]
        assert beneath._mutation_generation == generation + 1
        assert await chat.session.get_items() == SUMMARY[:1]
        await beneath.clear_session()
        assert await chat.session.get_items() == []
        assert MARK not in repr(vars(beneath)), "no plaintext is left in the caller's object"


async def test_what_the_caller_sets_later_counts(request: pytest.FixtureRequest) -> None:
    async with open_chat("sqlite", request, is_beneath=True) as chat:
        beneath = chat.beneath
        assert beneath is not None
        beneath.should_trigger_compaction = lambda _: False
        await run(agent_that_says("one"), "first", chat.session)
        assert chat.compactor.requests == []
        beneath.should_trigger_compaction = lambda _: True
        beneath.model = "gpt-5"
        await run(agent_that_says("two"), "second", chat.session)
        assert [asked["model"] for asked in chat.compactor.requests] == ["gpt-5"]


async def test_one_compaction_session_serves_several_wrappers(request: pytest.FixtureRequest) -> None:
    """As where a wrapper is made for each request, and the session is kept."""
    async with open_chat("sqlite", request, is_beneath=True) as chat:
        other = EncryptedSession(CHAT, chat.beneath, chat.ring)
        await asyncio.gather(
            *(session.add_items(questions(str(n))) for n in range(10) for session in (chat.session, other))
        )
        assert len(await other.get_items()) == 20
        await other.run_compaction({"force": True})
        assert await chat.session.get_items() == SUMMARY


async def test_the_underlying_session_is_the_store(request: pytest.FixtureRequest) -> None:
    async with open_chat("sqlite", request, is_beneath=True, purge_on_add=8) as chat:
        assert chat.beneath is not None
        assert chat.session.underlying_session is chat.beneath.underlying_session
        assert "store=SQLiteSession" in repr(chat.session)
        with pytest.raises(AttributeError, match=r"session\.underlying_session\.db_path"):
            _ = chat.session.db_path


async def test_another_store_that_is_set_later_is_not_written_past() -> None:
    async with KeyRing.ephemeral() as ring:
        beneath = compacting(bare(), Compactor())
        session = EncryptedSession(CHAT, beneath, ring)
        beneath.underlying_session = bare()
        for call in (session.get_items, session.pop_item, session.clear_session):
            with pytest.raises(RuntimeError, match="Make another wrapper"):
                await call()
        with pytest.raises(RuntimeError, match="Make another wrapper"):
            await session.add_items(questions("one"))
        with pytest.raises(RuntimeError, match="Make another wrapper"):
            _ = session.run_compaction


async def test_limits_come_from_the_compaction_session_and_then_from_the_store(request: pytest.FixtureRequest) -> None:
    async with open_chat("sqlite", request, is_beneath=True) as chat:
        assert chat.beneath is not None
        await chat.session.add_items(questions("one", "two", "three"))
        chat.session.underlying_session.session_settings = SessionSettings(limit=2)
        assert chat.session.session_settings == SessionSettings(limit=2)
        assert await chat.session.get_items() == questions("two", "three")
        chat.session.session_settings = SessionSettings(limit=1)
        assert chat.beneath.session_settings == SessionSettings(limit=1)
        assert await chat.session.get_items() == questions("three")
        assert (await chat.session.read()).items == questions("three")
        assert await chat.session.get_items(3) == questions("one", "two", "three")
        assert await chat.session.get_items(0) == []


# -- Classes made from ours, and from the SDK's ---------------------------------------------------


class Counting(OpenAIResponsesCompactionSession):
    """A compaction session of an application, with a way of its own to add, and a context from the Runner."""

    added = 0

    async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
        self.added += len(items)
        assert all("role" in item for item in items), "it sees items, and no envelopes"
        await super().add_items(items)


async def test_a_class_made_from_the_sdks_is_served(request: pytest.FixtureRequest) -> None:
    place = stores.new_place("sqlite", request)
    async with stores.open_store(place, CHAT) as store, KeyRing.ephemeral() as ring:
        beneath = Counting(CHAT, store, client=Compactor(), compaction_mode="input")  # type: ignore[arg-type]  # scripted
        session = EncryptedSession.wrap(beneath, ring, ttl=60)
        await session.add_items(questions("one", "two"))
        await session.run_compaction({"force": True})
        assert await session.get_items() == SUMMARY
        assert beneath.added == 2
        await assert_sealed(place)


async def test_a_class_made_from_ours_keeps_its_methods(request: pytest.FixtureRequest) -> None:
    class Shows(EncryptedSession):
        async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[Any]:
            return [item for item in await super().get_items(limit, wrapper=wrapper) if "secret" not in str(item)]

    place = stores.new_place("sqlite", request)
    decided: list[Any] = []
    async with stores.open_store(place, CHAT) as store, KeyRing.ephemeral() as ring:
        beneath = compacting(store, Compactor())
        beneath.should_trigger_compaction = lambda context: decided.append(context["session_items"]) or False  # type: ignore[func-returns-value]  # that is None
        session = Shows(CHAT, beneath, ring)
        await session.add_items(questions("one", "secret"))
        await session._defer_compaction("resp_1")  # type: ignore[attr-defined]  # the SDK's
        assert decided == [questions("one")], "compaction goes by what the class shows, as with the SDK's"
        assert len(await stores.raw_rows(place, CHAT)) == 2


def test_every_hook_of_the_installed_sdk_is_passed_on() -> None:
    """What its Runner asks a session for by name, and its compaction session has."""
    asked = {
        node.args[1].value
        for node in ast.walk(ast.parse(inspect.getsource(session_persistence)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id == "session"
        and isinstance(node.args[1], ast.Constant)
    }
    hooks = {
        str(name)
        for name in asked
        if str(name).startswith("_") and callable(getattr(OpenAIResponsesCompactionSession, str(name), None))
    }
    assert hooks >= {"_defer_compaction", "_add_items_with_generation"}
    around = EncryptedSession(CHAT, compacting(bare(), Compactor()), KeyRing.ephemeral())
    without = EncryptedSession(CHAT, bare(), KeyRing.ephemeral())
    for name in sorted({*hooks, "run_compaction"}):
        assert callable(getattr(around, name))
        assert not hasattr(without, name), "the SDK would take it for a session that compacts"


async def test_a_run_that_is_resumed_after_an_approval_compacts(request: pytest.FixtureRequest) -> None:
    @function_tool(needs_approval=True)
    def quokka_refund(order: str) -> str:
        """Give the money back."""
        return f"{MARK} refunded {order}"

    async with open_chat("sqlite", request, is_beneath=True) as chat:
        call = function_call("quokka_refund", {"order": "5"}, call_id="call_1")
        agent: Agent[Any] = Agent("desk", model=ScriptedModel([[call], [say("done")]]), tools=[quokka_refund])
        paused = await run(agent, "refund me", chat.session)
        state = paused.to_state()
        state.approve(state.get_interruptions()[0])
        result = await Runner.run(agent, state, session=chat.session, run_config=RunConfig(tracing_disabled=True))
        assert result.final_output == f"{MARK} done"
        assert "refunded" in texts_of(chat.compactor.requests[-1]["input"])
        assert await chat.session.get_items() == SUMMARY
        await assert_sealed(chat.place)


# -- Refused in words ---------------------------------------------------------------------------


class Foreign(stores.PlainSession):
    """Compacts, and hides its store."""

    async def run_compaction(self, args: Any = None) -> None: ...


class Around:
    """A session that wraps another, as the SDK's own wrappers do."""

    def __init__(self, underlying_session: Any) -> None:
        self.session_id = CHAT
        self.underlying_session = underlying_session

    def __getattr__(self, name: str) -> Any:
        return getattr(bare(), name)


class SecondName(OpenAIResponsesCompactionSession):
    """Keeps its store under a name of its own, and writes to it."""

    def __init__(self, store: Any) -> None:
        super().__init__(CHAT, store)
        self.database = store


def encrypted(store: Any) -> EncryptedSession:
    return EncryptedSession(CHAT, store, KeyRing.ephemeral())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Foreign(CHAT, []), r"Foreign compacts.*OpenAIResponsesCompactionSession\(.*EncryptedSession\("),
        (lambda: Around(compacting(bare(), None)), "OpenAIResponsesCompactionSession compacts.*other way round"),
        (lambda: compacting(Foreign(CHAT, []), None), "Foreign compacts"),
        (lambda: compacting(compacting(bare(), None), None), "OpenAIResponsesCompactionSession compacts"),
        (lambda: compacting(encrypted(bare()), None), "seals already.*Use it as it is"),
        (lambda: compacting(Around(encrypted(bare())), None), "seals already.*Use it as it is"),
        (lambda: encrypted(compacting(bare(), None)), "seals already.*Use it as it is"),
        (lambda: SecondName(bare()), "SecondName also holds its store as database.*other way round"),
    ],
    ids=[
        "a foreign class",
        "not at the top",
        "a foreign class beneath",
        "two compactions",
        "sealed beneath",
        "sealed further beneath",
        "around a wrapper that compacts",
        "a second way to the store",
    ],
)
def test_what_cannot_be_put_in_order_is_refused_in_words(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EncryptedSession(CHAT, make(), KeyRing.ephemeral())
    with pytest.raises(ValueError, match=words):
        EncryptedSession.wrap(make(), KeyRing.ephemeral(), ttl=None)


def test_a_compaction_session_around_no_session_is_refused() -> None:
    no_session: Any = "agents.db"
    beneath = OpenAIResponsesCompactionSession(CHAT, no_session)
    with pytest.raises(TypeError, match="underlying_session of OpenAIResponsesCompactionSession must be a session"):
        encrypted(beneath)


def test_a_compaction_session_over_memory_is_taken() -> None:
    with closing(SQLiteSession(CHAT)) as store:
        assert encrypted(compacting(store, None)).underlying_session is store

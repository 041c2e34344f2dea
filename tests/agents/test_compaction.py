"""The SDK's compaction over encrypted sessions: only ciphertext at rest, and nothing lost.

`OpenAIResponsesCompactionSession(session_id, EncryptedSession(store, …))`, through the Runner and
on demand, over every kind of store. The compaction service is scripted; no request leaves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agents import SessionSettings, function_tool
from agents.testing import function_call

from encrypted_sessions import EncryptedSession, EncryptedSessionError, KeyRing, UnreadableItemsError
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
from encrypted_sessions_tests.fake_clock import NOW, FakeClock
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import KINDS, ROW_ADDRESSABLE, Row

every_kind = pytest.mark.parametrize("kind", distinct(KINDS))
every_policy = pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
row_addressable = pytest.mark.parametrize("kind", distinct(ROW_ADDRESSABLE))
without_rows = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ROW_ADDRESSABLE])


def timestamp_of(row: Row) -> int:
    """The Fernet token's time: bytes 1 to 8, big endian."""
    token = base64.urlsafe_b64decode(json.loads(row)["payload"])
    return int.from_bytes(token[1:9], "big")


# -- Unreadable rows, one of each kind ----------------------------------------------------------


async def _sealed_elsewhere(ring: KeyRing, **options: Any) -> str:
    rows: list[Row] = []
    await EncryptedSession(CHAT, stores.PlainSession(CHAT, rows), ring, **options).add_items(questions("unreadable"))
    return str(rows[0])


async def _unknown_key(_ring: KeyRing, _clock: FakeClock) -> str:
    async with KeyRing.ephemeral() as other:
        return await _sealed_elsewhere(other)


async def _altered(ring: KeyRing, _clock: FakeClock) -> str:
    envelope = json.loads(await _sealed_elsewhere(ring))
    token = bytearray(base64.urlsafe_b64decode(envelope["payload"]))
    token[-1] ^= 1
    return json.dumps({**envelope, "payload": base64.urlsafe_b64encode(token).decode()})


async def _from_the_future(ring: KeyRing, clock: FakeClock) -> str:
    clock.now += 3600
    row = await _sealed_elsewhere(ring)
    clock.now -= 3600
    return row


async def _of_a_later_version(ring: KeyRing, _clock: FakeClock) -> str:
    return json.dumps({**json.loads(await _sealed_elsewhere(ring)), "v": 3})


async def _plaintext(_ring: KeyRing, _clock: FakeClock) -> str:
    return json.dumps({"role": "user", "content": "never sealed"})


async def _malformed(_ring: KeyRing, _clock: FakeClock) -> str:
    return '{"__enc__": 1}'


async def _no_json(_ring: KeyRing, _clock: FakeClock) -> str:
    return "{no json"


UNREADABLE: dict[str, Callable[[KeyRing, FakeClock], Awaitable[str]]] = {
    "unknown_key": _unknown_key,
    "unauthentic": _altered,
    "not_yet_valid": _from_the_future,
    "unsupported": _of_a_later_version,
    "plaintext": _plaintext,
    "malformed": _malformed,
}
every_unreadable = pytest.mark.parametrize("outcome", UNREADABLE)


# -- What is written ----------------------------------------------------------------------------


@every_kind
async def test_automatic_compaction_gives_the_history_of_a_bare_store(
    kind: str, request: pytest.FixtureRequest
) -> None:
    @function_tool
    def quokka_weather(city: str) -> str:
        """Look up the weather."""
        return f"{MARK} sun over {city}"

    async def converse(session: Any) -> list[Any]:
        call = function_call("quokka_weather", {"city": "Perth"}, call_id=f"call_{MARK}")
        agent = agent_that_says("one", [call], "three", "four", tools=[quokka_weather])
        seen = []
        for text in ("first", "second", "third"):
            await run(agent, text, session)
            seen.append(await session.get_items())
        seen.extend(call.input for call in agent.model.calls)  # type: ignore[union-attr]  # it is a ScriptedModel
        return seen

    bare_place, bare_compactor = stores.new_place(kind, request), Compactor()
    async with stores.open_store(bare_place, CHAT) as store:
        expected = await converse(compacting(store, bare_compactor))
    async with open_chat(kind, request) as chat:
        assert await converse(chat.session) == expected
        assert chat.compactor.requests == bare_compactor.requests
        assert len(chat.compactor.requests) == 3
        assert len(await chat.rows()) == len(await stores.raw_rows(bare_place, CHAT))
        await assert_sealed(chat.place)


@every_kind
async def test_only_ciphertext_is_at_rest_before_during_and_after_automatic_compaction(
    kind: str, request: pytest.FixtureRequest
) -> None:
    looks: list[int] = []

    async def look() -> None:
        await assert_sealed(chat.place)
        looks.append(len(await chat.rows()))

    async with open_chat(kind, request, meanwhile=look) as chat:
        agent = agent_that_says("one", "two")
        await run(agent, "first", chat.session)
        await look()
        await run(agent, "second", chat.session)
        await look()
        assert looks == [2, 2, 4, 2]
        assert await chat.encrypted.get_items() == SUMMARY
    async with stores.open_store(chat.place, CHAT) as store:
        assert "summary" not in texts_of(await store.get_items())


@every_kind
async def test_only_ciphertext_is_at_rest_before_during_and_after_compaction_on_demand(
    kind: str, request: pytest.FixtureRequest
) -> None:
    looks: list[int] = []

    async def look() -> None:
        await assert_sealed(chat.place)
        looks.append(len(await chat.rows()))

    async with open_chat(kind, request, meanwhile=look) as chat:
        await chat.session.add_items(questions("one", "two", "three"))
        await look()
        await chat.session.run_compaction({"force": True})
        await look()
        assert looks == [3, 3, 2]
        assert await chat.encrypted.get_items() == SUMMARY
        assert texts_of(questions("one", "two", "three")) == texts_of(chat.compactor.requests[0]["input"])
        await chat.session.run_compaction({"force": True})
        assert await chat.encrypted.get_items() == SUMMARY


@every_kind
async def test_automatic_compaction_carries_the_newest_timestamp_that_it_replaces(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async def an_hour_passes() -> None:
        clock.now += 3600

    async with open_chat(kind, request, meanwhile=an_hour_passes, ttl=7200) as chat:
        await chat.encrypted.add_items(questions("long ago"))
        clock.now += 100
        await run(agent_that_says("one"), "first", chat.session)
        assert await chat.encrypted.get_items() == SUMMARY
        assert {timestamp_of(row) for row in await chat.rows()} == {NOW + 100}
        clock.now = NOW + 100 + 7200
        assert await chat.encrypted.get_items() == SUMMARY
        clock.now += 1
        assert await chat.encrypted.get_items() == []


@every_kind
async def test_compaction_on_demand_carries_the_newest_timestamp_that_it_replaces(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, ttl=7200) as chat:
        for text in ("one", "two", "three"):
            await chat.session.add_items(questions(text))
            clock.now += 100
        await chat.session.run_compaction({"force": True})
        assert {timestamp_of(row) for row in await chat.rows()} == {NOW + 200}


@every_kind
async def test_compaction_on_demand_replaces_expired_rows_too_and_gives_them_no_new_life(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, ttl=60) as chat:
        await chat.session.add_items(questions("expired"))
        clock.now += 61
        await chat.session.add_items(questions("live"))
        await chat.session.run_compaction({"force": True})
        assert "expired" not in texts_of(chat.compactor.requests[0]["input"])
        assert await chat.encrypted.get_items() == SUMMARY
        assert {timestamp_of(row) for row in await chat.rows()} == {NOW + 61}
        clock.now += 61
        await chat.session.run_compaction({"force": True})
        assert await chat.encrypted.get_items() == [], "nothing was live, so nothing is"


# -- Rows that cannot be read -------------------------------------------------------------------


@every_kind
@every_unreadable
@every_policy
async def test_compaction_on_demand_refuses_a_history_with_an_unreadable_row(
    kind: str, outcome: str, on_unreadable: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, on_unreadable=on_unreadable) as chat:
        await chat.session.add_items(questions("before"))
        await stores.write_raw_row(chat.place, CHAT, await UNREADABLE[outcome](chat.ring, clock))
        await chat.session.add_items(questions("after"))
        rows = await chat.rows()
        with pytest.raises(UnreadableItemsError) as refused:
            await chat.session.run_compaction({"force": True})
        assert refused.value.outcomes[outcome] == 1
        assert await chat.rows() == rows


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain"])  # which has no settings
async def test_compaction_on_demand_refuses_an_unreadable_row_beyond_the_limit_of_the_session(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, on_unreadable="skip") as chat:
        await stores.write_raw_row(chat.place, CHAT, await UNREADABLE["plaintext"](chat.ring, clock))
        await chat.session.add_items(questions("one", "two", "three"))
        rows = await chat.rows()
        chat.encrypted.session_settings = SessionSettings(limit=2)
        with pytest.raises(UnreadableItemsError):
            await chat.session.run_compaction({"force": True})
        assert await chat.rows() == rows


@row_addressable
@every_policy
async def test_compaction_on_demand_refuses_a_row_that_the_store_would_hide(
    kind: str, on_unreadable: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, on_unreadable=on_unreadable) as chat:
        await chat.session.add_items(questions("before"))
        await stores.write_raw_row(chat.place, CHAT, await _no_json(chat.ring, clock))
        rows = await chat.rows()
        with pytest.raises(UnreadableItemsError):
            await chat.session.run_compaction({"force": True})
        assert await chat.rows() == rows


@row_addressable
@every_unreadable
async def test_automatic_compaction_keeps_an_older_unreadable_row_before_what_it_replaces(
    kind: str, outcome: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, on_unreadable="skip") as chat:
        await chat.session.add_items(questions("before"))
        await stores.write_raw_row(chat.place, CHAT, await UNREADABLE[outcome](chat.ring, clock))
        kept = await chat.rows()
        await run(agent_that_says("one"), "first", chat.session)
        rows = await chat.rows()
        assert rows[:2] == kept
        assert await chat.encrypted.get_items() == [*questions("before"), *SUMMARY]
        assert "before" not in texts_of(chat.compactor.requests[0]["input"])


@row_addressable
@every_unreadable
async def test_automatic_compaction_keeps_an_unreadable_row_that_lies_beyond_the_limit_under_raise(
    kind: str, outcome: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request) as chat:
        await stores.write_raw_row(chat.place, CHAT, await UNREADABLE[outcome](chat.ring, clock))
        kept = await chat.rows()
        await chat.session.add_items(questions("before"))
        await run(agent_that_says("one"), "first", chat.session, session_settings=SessionSettings(limit=1))
        rows = await chat.rows()
        assert rows[:1] == kept
        assert await chat.encrypted.get_items(2) == SUMMARY
        assert len(rows) == 3


def call_and_late_output() -> tuple[list[Any], list[Any]]:
    """A call that waited for an approval while the conversation went on, and what came after it."""
    call = {"type": "function_call", "call_id": "call_1", "name": "quokka_refund", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": f"{MARK} refunded"}
    return [*questions("refund me"), call], [*questions("meanwhile"), output, *questions("thanks")]


@row_addressable
async def test_an_output_whose_call_lies_before_an_unreadable_row_is_not_replaced_unseen(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    before, after = call_and_late_output()
    async with open_chat(kind, request, on_unreadable="skip") as chat:
        await chat.encrypted.add_items(before)
        await stores.write_raw_row(chat.place, CHAT, await UNREADABLE["plaintext"](chat.ring, clock))
        await chat.encrypted.add_items(after)
        await run(agent_that_says("one"), "first", chat.session)
        history = await chat.encrypted.get_items()
        assert after[1] in history or "refunded" in texts_of([asked["input"] for asked in chat.compactor.requests])


@every_kind
async def test_an_output_whose_call_lies_beyond_the_limit_is_not_replaced_unseen(
    kind: str, request: pytest.FixtureRequest
) -> None:
    before, after = call_and_late_output()
    async with open_chat(kind, request) as chat:
        await chat.encrypted.add_items([*before, *after])
        await run(agent_that_says("one"), "first", chat.session, session_settings=SessionSettings(limit=len(after)))
        assert (await chat.encrypted.get_items())[:4] == [*before, *after[:2]]


@without_rows
@every_unreadable
async def test_automatic_compaction_is_left_out_with_a_warning_where_rows_cannot_be_addressed(
    kind: str, outcome: str, request: pytest.FixtureRequest, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_chat(kind, request, on_unreadable="skip") as chat:
        await stores.write_raw_row(chat.place, CHAT, await UNREADABLE[outcome](chat.ring, clock))
        await run(agent_that_says("one"), "first", chat.session)
        assert len(await chat.rows()) == 3
        assert chat.compactor.requests == []
        assert "Skipped automatic compaction" in caplog.text


@every_kind
@every_unreadable
@every_policy
async def test_an_unreadable_row_that_arrives_during_the_turn_leaves_compaction_out_and_the_turn_goes_on(
    kind: str,
    outcome: str,
    on_unreadable: str,
    request: pytest.FixtureRequest,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_chat(kind, request, on_unreadable=on_unreadable) as chat:

        async def meanwhile(_call: Any) -> Any:
            await stores.write_raw_row(chat.place, CHAT, await UNREADABLE[outcome](chat.ring, clock))
            return [say("one")]

        with caplog.at_level(logging.WARNING):
            result = await run(agent_that_says({"responder": meanwhile}), "first", chat.session)
        assert result.final_output == f"{MARK} one"
        assert len(await chat.rows()) == 3, "question, unreadable row, answer"
        assert chat.compactor.requests == []
        assert [record for record in caplog.records if record.levelno == logging.WARNING]


# -- Other processes ----------------------------------------------------------------------------


@every_kind
async def test_what_another_process_appends_during_automatic_compaction_is_not_lost(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async def append() -> None:
        await chat.elsewhere("from elsewhere")

    async with open_chat(kind, request, meanwhile=append) as chat:
        try:
            await run(agent_that_says("one"), "first", chat.session)
        except EncryptedSessionError:
            assert kind not in ROW_ADDRESSABLE, "automatic compaction ended the turn"
        history = texts_of(await chat.encrypted.get_items())
        for text in ("first", "one", "from elsewhere"):
            assert text in history


@every_kind
@pytest.mark.parametrize("before", [[], ["one"], ["one", "two", "three"]], ids=["empty", "one", "three"])
async def test_what_another_process_appends_during_compaction_on_demand_is_not_lost(
    kind: str, before: list[str], request: pytest.FixtureRequest
) -> None:
    async def append() -> None:
        await chat.elsewhere("from elsewhere")

    async with open_chat(kind, request, meanwhile=append) as chat:
        await chat.session.add_items(questions(*before))
        with pytest.raises(EncryptedSessionError):
            await chat.session.run_compaction({"force": True})
        assert await chat.encrypted.get_items() == questions(*before, "from elsewhere")


@every_kind
async def test_one_compaction_does_not_vouch_for_what_another_of_the_same_session_has_read(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async def append_and_read() -> None:
        await chat.elsewhere("from elsewhere")
        reading = asyncio.create_task(chat.encrypted._read_compaction_items(None))
        assert "from elsewhere" in texts_of((await reading)[0])

    async with open_chat(kind, request, meanwhile=append_and_read) as chat:
        await chat.session.add_items(questions("one"))
        with pytest.raises(EncryptedSessionError):
            await chat.session.run_compaction({"force": True})
        assert await chat.encrypted.get_items() == questions("one", "from elsewhere")


@row_addressable
async def test_appends_between_any_two_steps_of_compaction_on_demand_are_not_lost(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with open_chat(kind, request) as chat:
        await chat.session.add_items(questions("first"))
        done = asyncio.Event()

        async def append() -> None:
            async with stores.open_store(chat.place, CHAT) as store:
                elsewhere = EncryptedSession(CHAT, store, chat.ring)
                for number in range(20):
                    await elsewhere.add_items(questions(f"append {number}!"))
                    await asyncio.sleep(0.001 * (number % 4))
            done.set()

        appending = asyncio.create_task(append())
        summarised: list[dict[str, Any]] = []
        while not done.is_set():
            chat.compactor.requests.clear()
            try:
                await chat.session.run_compaction({"force": True})
            except EncryptedSessionError:
                continue
            summarised.extend(chat.compactor.requests)
        await appending
        history = texts_of(await chat.encrypted.get_items()) + json.dumps(summarised)
        assert [number for number in range(20) if f"append {number}!" not in history] == []


@every_kind
@pytest.mark.parametrize("delay_ms", [0, 0.5, 1, 2, 4, 8, 16])
async def test_a_cancelled_compaction_leaves_the_old_history_or_the_new_one(
    kind: str, delay_ms: float, request: pytest.FixtureRequest
) -> None:
    async with open_chat(kind, request) as chat:
        await chat.session.add_items(questions("one", "two"))
        compaction = asyncio.create_task(chat.session.run_compaction({"force": True}))
        await asyncio.sleep(delay_ms / 1000)
        compaction.cancel()
        await asyncio.gather(compaction, return_exceptions=True)
        assert await chat.encrypted.get_items() in (questions("one", "two"), SUMMARY)
        await assert_sealed(chat.place)


@without_rows
@pytest.mark.parametrize("step", ["clear_session", "add_items"])
async def test_a_compaction_cancelled_between_clearing_and_adding_finishes_first(
    kind: str, step: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_chat(kind, request) as chat:
        await chat.encrypted.add_items(questions("one", "two"))
        # Without the SDK around it, which waits for a replacement that has begun.
        compaction = asyncio.create_task(chat.encrypted._atomic_replace_items(SUMMARY))
        carry_out = getattr(chat.encrypted.underlying_session, step)

        async def cancelled_here(*items: Any) -> None:
            compaction.cancel()
            await asyncio.sleep(0)
            await carry_out(*items)

        monkeypatch.setattr(chat.encrypted.underlying_session, step, cancelled_here)
        with pytest.raises(asyncio.CancelledError):
            await compaction
        assert await chat.encrypted.get_items() == SUMMARY


# -- The seam to the SDK ------------------------------------------------------------------------


@every_kind
async def test_the_seams_are_on_the_type_where_the_sdk_looks_for_them(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with open_chat(kind, request) as chat:
        for seam in ("_read_compaction_items", "_get_compaction_snapshot", "_atomic_replace_items"):
            assert callable(getattr(type(chat.encrypted), seam))
        snapshot = await chat.encrypted._get_compaction_snapshot(10)
        assert (snapshot is None) == (kind not in ROW_ADDRESSABLE)


@every_kind
@pytest.mark.parametrize("before", [[], ["one", "two"]], ids=["empty", "two"])
@pytest.mark.parametrize("output", [[], SUMMARY], ids=["nothing", "summary"])
async def test_replacing_everything_is_answered_with_true(
    kind: str, before: list[str], output: list[Any], request: pytest.FixtureRequest
) -> None:
    async with open_chat(kind, request) as chat:
        await chat.encrypted.add_items(questions(*before))
        assert await chat.encrypted._atomic_replace_items(output) is True
        assert await chat.encrypted.get_items() == output
        assert len(await chat.rows()) == len(output)


@row_addressable
@every_policy
async def test_replacing_everything_is_never_answered_with_false(
    kind: str, on_unreadable: str, request: pytest.FixtureRequest
) -> None:
    """False would make the SDK clear the store."""
    async with open_chat(kind, request, on_unreadable=on_unreadable) as chat:
        await chat.encrypted.add_items(questions("one"))
        await chat.encrypted._read_compaction_items(None)
        await chat.elsewhere("two")
        with pytest.raises(EncryptedSessionError):
            await chat.encrypted._atomic_replace_items(SUMMARY)
        await stores.write_raw_row(chat.place, CHAT, "{}")
        with pytest.raises(UnreadableItemsError):
            await chat.encrypted._atomic_replace_items(SUMMARY)
        assert len(await chat.rows()) == 3


@row_addressable
async def test_a_suffix_that_has_changed_is_not_replaced(kind: str, request: pytest.FixtureRequest) -> None:
    async with open_chat(kind, request) as chat:
        await chat.encrypted.add_items(questions("one", "two"))
        appended = await chat.encrypted._get_compaction_snapshot(10)
        await chat.elsewhere("three")
        rows = await chat.rows()
        assert await appended.replace_suffix(1, SUMMARY) is False
        popped = await chat.encrypted._get_compaction_snapshot(10)
        await chat.encrypted.pop_item()
        assert await popped.replace_suffix(1, SUMMARY) is False
        altered = await chat.encrypted._get_compaction_snapshot(10)
        await stores.replace_raw_row(chat.place, CHAT, 1, rows[0])
        assert await altered.replace_suffix(1, SUMMARY) is False
        assert await chat.rows() == [rows[0], rows[0]]


class FailsOnce(stores.PlainSession):
    """A store whose next `add_items` fails once it is told so."""

    fails_next = False

    async def add_items(self, items: Any) -> None:
        if self.fails_next:
            self.fails_next = False
            raise OSError("disk full")
        await super().add_items(items)


async def test_a_store_that_fails_to_take_the_replacement_gets_its_old_rows_back() -> None:
    rows: list[Row] = []
    async with KeyRing.ephemeral() as ring:
        store = FailsOnce(CHAT, rows)
        encrypted = EncryptedSession(CHAT, store, ring)
        await encrypted.add_items(questions("one", "two"))
        before = list(rows)
        store.fails_next = True
        with pytest.raises(OSError, match="disk full"):
            await compacting(encrypted, Compactor()).run_compaction({"force": True})
        assert rows == before
        assert await encrypted.get_items() == questions("one", "two")

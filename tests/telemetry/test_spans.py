"""Spans: one an operation, one a call to a provider, and what sessions are called in them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from encrypted_sessions import EncryptedSession, Key, KeyRing, KeyUnavailableError, UnreadableItemsError
from encrypted_sessions.events.pseudonyms import pseudonym
from encrypted_sessions.maintenance import inventory, open_store
from encrypted_sessions_tests.keyring_fakes import ACTIVE, ScriptedKeys, impatient_ring
from encrypted_sessions_tests.sealed_rows import message
from encrypted_sessions_tests.telemetry import Exported, exported
from keyproviders.local import StaticKeyProvider

OPERATION, CONVERSATION, ERROR = "encrypted_sessions.operation", "gen_ai.conversation.id", "error.type"


@pytest.fixture
def kept() -> Iterator[Exported]:
    with exported(spans=True) as kept:
        yield kept


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    with closing(KeyRing.ephemeral()) as ring:
        yield ring


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteSession]:
    with closing(SQLiteSession("müller", tmp_path / "agents.db")) as store:
        yield store


def named(kept: Exported, name: str) -> ReadableSpan:
    (span,) = (span for span in kept.spans() if span.name == name)
    return span


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def number(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_an_operation_is_a_span_that_is_current_while_it_runs(
    kept: Exported, ring: KeyRing, store: SQLiteSession, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Any] = []
    first = SQLiteSession.get_items

    async def noticed(self: SQLiteSession, *args: Any, **kwargs: Any) -> Any:
        seen.append(trace.get_current_span())
        return await first(self, *args, **kwargs)

    monkeypatch.setattr(SQLiteSession, "get_items", noticed)
    session = EncryptedSession.wrap(store, ring, ttl=600)
    with kept.tracers.get_tracer("application").start_as_current_span("turn") as turn:
        await session.add_items([message("one")])
        await session.get_items()
        assert trace.get_current_span() is turn
    span = named(kept, "encrypted_sessions.get_items")
    assert span.kind is SpanKind.INTERNAL
    assert span.attributes == {OPERATION: "get_items"}
    assert span.parent == turn.get_span_context()
    assert span.status.status_code is StatusCode.UNSET
    assert all(one.get_span_context() == span.context for one in seen)


async def test_an_operation_that_raises_is_a_span_with_its_error(kept: Exported, ring: KeyRing, store: SQLiteSession):
    await store.add_items([message("plain")])
    with pytest.raises(UnreadableItemsError):
        await EncryptedSession.wrap(store, ring, ttl=600).get_items()
    span = named(kept, "encrypted_sessions.get_items")
    assert span.attributes is not None
    assert span.attributes[ERROR] == "UnreadableItemsError"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_call_is_one_span_linked_to_all_operations_that_wait_for_it(kept: Exported, tmp_path: Path):
    asked, free = threading.Event(), threading.Event()

    class Slow(ScriptedKeys):
        def active(self) -> Key:
            asked.set()
            assert free.wait(30)
            with kept.tracers.get_tracer("http").start_as_current_span("GET"):
                return super().active()

    stores = [SQLiteSession(name, tmp_path / "agents.db") for name in ("a", "b", "c")]
    with closing(KeyRing(Slow(Key.generate("1")))) as ring:
        sessions = [EncryptedSession.wrap(store, ring, ttl=600) for store in stores]
        first = asyncio.create_task(sessions[0].add_items([message("one")]))
        await asyncio.to_thread(asked.wait, 30)
        others = [asyncio.create_task(session.add_items([message("one")])) for session in sessions[1:]]
        await asyncio.sleep(0)
        for _ in range(10_000):  # until the others wait, too
            if len(_waiters(ring)) == 3:
                break
            await asyncio.sleep(0.001)
        free.set()
        await asyncio.gather(first, *others)
        await sessions[0].add_items([message("with the key in hand")])
    for store in stores:
        store.close()
    call = named(kept, "keyproviders.active")
    adding = [span for span in kept.spans() if span.name == "encrypted_sessions.add_items"]
    assert call.kind is SpanKind.CLIENT
    assert call.parent is None
    assert linked(call) == {number(span) for span in adding[:3]}
    assert call.attributes == {
        "keyproviders.scheme": "other",
        "keyproviders.place": "scripted keys",
        "keyproviders.question": "active",
    }
    assert named(kept, "GET").parent == call.context


def _waiters(ring: KeyRing) -> list[Any]:
    calls = ring._engine.calls
    call = calls.get("")
    return [] if call is None else call.waiters


async def test_a_call_that_fails_is_a_span_with_its_error_and_each_attempt_is_one(kept: Exported):
    keys = ScriptedKeys(Key.generate("1"))
    keys.fail(ACTIVE, KeyUnavailableError)
    with closing(impatient_ring(keys)) as ring, pytest.raises(KeyUnavailableError):
        await ring.active()
    span = named(kept, "keyproviders.active")
    assert span.attributes is not None
    assert span.attributes[ERROR] == "KeyUnavailableError"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert span.links == ()


async def test_a_run_is_a_span_and_its_calls_are_linked_to_it(kept: Exported, tmp_path: Path, store: SQLiteSession):
    with closing(KeyRing.ephemeral()) as ring:
        async with open_store(f"sqlite:///{tmp_path / 'agents.db'}") as whole:
            await inventory(whole, ring, ttl=600)
    run = named(kept, "encrypted_sessions.inventory")
    assert run.attributes == {OPERATION: "inventory"}
    assert linked(named(kept, "keyproviders.active")) == {number(run)}


async def test_without_being_told_no_span_is_made(ring: KeyRing, store: SQLiteSession):
    with exported() as kept:
        await EncryptedSession.wrap(store, ring, ttl=600).add_items([message("one")])
        assert kept.spans() == []


async def test_ids_are_left_out_plain_or_hashed(ring: KeyRing, store: SQLiteSession):
    key = Key.generate("p")
    session = EncryptedSession.wrap(store, ring, ttl=600)

    async def conversation(kept: Exported) -> object:
        kept.spans_kept.clear()
        await session.get_items()
        return (named(kept, "encrypted_sessions.get_items").attributes or {}).get(CONVERSATION)

    with exported(spans=True) as kept:
        assert await conversation(kept) is None
    with exported(spans=True, session_ids="plain") as kept:
        assert await conversation(kept) == "müller"
    with (
        closing(KeyRing(StaticKeyProvider(key))) as keys,
        exported(spans=True, session_ids="hashed", pseudonym_keys=keys) as kept,
    ):
        # The first one only has the key fetched, and waits for nothing.
        names = [await conversation(kept)]
        while names[-1] is None:
            await asyncio.sleep(0.01)
            names.append(await conversation(kept))
        assert names[-1] == pseudonym("müller", key)


async def test_a_place_of_pseudonyms_that_hangs_or_has_gone_holds_up_nobody(ring: KeyRing, store: SQLiteSession):
    free = threading.Event()

    class Hanging(ScriptedKeys):
        def active(self) -> Key:
            assert free.wait(30)
            return super().active()

    session = EncryptedSession.wrap(store, ring, ttl=600)
    with closing(KeyRing(Hanging(Key.generate("1")))) as keys:
        with exported(spans=True, session_ids="hashed", pseudonym_keys=keys) as kept:
            await asyncio.wait_for(session.get_items(), 10)
            assert CONVERSATION not in (named(kept, "encrypted_sessions.get_items").attributes or {})
        free.set()


async def test_a_ring_of_pseudonyms_that_was_made_here_is_closed_here(
    ring: KeyRing, store: SQLiteSession, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PSEUDONYM_KEYS", Key.generate().reveal_base64())
    made: list[KeyRing] = []
    first = KeyRing.from_url
    monkeypatch.setattr(KeyRing, "from_url", lambda url: made.append(first(url)) or made[-1])
    with exported(spans=True, session_ids="hashed", pseudonym_keys="env:PSEUDONYM_KEYS"):
        await EncryptedSession.wrap(store, ring, ttl=600).get_items()
    assert "closed" in repr(made[0])


async def test_nothing_secret_is_in_any_metric_or_span(store: SQLiteSession):
    content, words, secret = "the " + "content", "the " + "words", os.urandom(32)

    class Failing(ScriptedKeys):
        def get(self, name: str) -> Key:
            raise ConnectionError(words)

    keys = Failing(Key("1", secret))
    with closing(impatient_ring(keys)) as ring, exported(spans=True) as kept:
        session = EncryptedSession.wrap(store, ring, ttl=600)
        await session.add_items([message(content)])
        await session.get_items()
        with pytest.raises(ConnectionError):
            await ring.get("2~00000000")
        (sealed,) = await store.get_items()
        await store.add_items([{**sealed, "payload": "AAAA"}, {**sealed, "kid": "\x1b[31m<b>\n"}, message(content)])  # type: ignore[typeddict-item]
        await session.read()
        text = kept.text()
    key = Key("1", secret)
    for sentinel in (content, words, key.reveal_base64(), secret.hex(), "müller", "m\\u00fcller", "\\u001b", "<b>"):
        assert sentinel not in text, sentinel
    assert "ConnectionError" in text

"""An application that changes one import: what behaves differently from the SDK's own class.

Each test stands for one row of the tables of docs/differences.md, and shows
both classes side by side. The last test holds rows and tests together: neither may lack the other.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import agents.memory
import pytest
from agents import Agent, Runner, SQLiteSession
from agents.extensions.memory import EncryptedSession as SdkEncryptedSession
from agents.memory import OpenAIConversationsSession, OpenAIResponsesCompactionSession, SessionSettings
from agents.testing import ScriptedModel, assistant_message
from cryptography.fernet import Fernet, InvalidToken
from pydantic import BaseModel

from encrypted_sessions import (
    EncryptedSession,
    Key,
    KeyRing,
    LongSessionIdWarning,
    UnreadableItemsError,
    WeakKeyWarning,
)
from encrypted_sessions.errors import HistoryChangedError, ScanBudgetError
from encrypted_sessions_tests.documents import ROOT, prose, rows
from encrypted_sessions_tests.stores import (
    PlainSession,
    StoreLocation,
    new_place,
    open_store,
    raw_rows,
    replace_raw_row,
    write_raw_row,
)

DIFFERENCES = ROOT / "docs" / "differences.md"

KEY = Key.generate().reveal_base64()
OTHER_KEY = Key.generate().reveal_base64()
SESSION_ID = "user-1"
TTL = 600

# Tests hand both classes what their signatures do not allow.
SdkSession: Any = SdkEncryptedSession
CompactionSession: Any = OpenAIResponsesCompactionSession

TESTED: set[str] = set()


def row(title: str) -> Callable[[Any], Any]:
    """The first cell of the page's row that a test stands for."""

    def note(test: Any) -> Any:
        assert test.__name__.startswith("test_")
        assert title not in TESTED, title
        TESTED.add(title)
        return test

    return note


class Clock:
    """One clock for both classes. It stands in for the module `time` where the SDK's side asks."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("encrypted_sessions.session._now", clock.time)
    monkeypatch.setattr("cryptography.fernet.time", clock)
    monkeypatch.setattr("agents.extensions.memory.encrypt_session.time", clock)
    return clock


@dataclass
class Both:
    """The same history for both classes, each over a store of its own or both over one."""

    theirs: Any
    ours: Any
    places: tuple[StoreLocation, StoreLocation]

    async def add(self, *items: Any) -> None:
        """Add with the class that reads it: the bytes are the same."""
        for session in self._writers():
            await session.add_items(list(items))

    async def write(self, data: str | bytes) -> None:
        """A row as an attacker or a bug would write it."""
        for place in self._distinct():
            await write_raw_row(place, SESSION_ID, data)

    async def write_sealed(self, content: bytes, *, key: str = KEY, at: float | None = None, **parts: Any) -> None:
        """An authentic envelope around any content, with some parts replaced."""
        cipher: Fernet = SdkSession(SESSION_ID, PlainSession(SESSION_ID, []), key).cipher
        token = cipher.encrypt(content) if at is None else cipher.encrypt_at_time(content, int(at))
        envelope = {"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": token.decode("ascii")}
        await self.write(json.dumps(envelope | parts))

    async def alter_newest(self) -> None:
        """One character of the newest payload becomes another."""
        for place in self._distinct():
            envelope = json.loads((await raw_rows(place, SESSION_ID))[-1])
            payload = envelope["payload"]
            envelope["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
            await replace_raw_row(place, SESSION_ID, -1, json.dumps(envelope))

    async def count(self) -> tuple[int, int]:
        """How many rows lie in their store and in ours."""
        theirs, ours = self.places
        return len(await raw_rows(theirs, SESSION_ID)), len(await raw_rows(ours, SESSION_ID))

    def _distinct(self) -> tuple[StoreLocation, ...]:
        return self.places if self.places[0] is not self.places[1] else self.places[:1]

    def _writers(self) -> tuple[Any, ...]:
        return (self.theirs, self.ours) if self.places[0] is not self.places[1] else (self.ours,)


@asynccontextmanager
async def both_over_one_store(
    request: pytest.FixtureRequest, kind: str = "sqlite", *, ttl: Any = TTL, **options: Any
) -> AsyncIterator[Both]:
    place = new_place(kind, request)
    async with open_store(place, SESSION_ID) as store:
        yield Both(
            SdkSession(SESSION_ID, store, KEY, ttl, **options),
            EncryptedSession(SESSION_ID, store, KEY, ttl, **options),
            (place, place),
        )


@asynccontextmanager
async def both_apart(
    request: pytest.FixtureRequest, kind: str = "sqlite", *, ttl: Any = TTL, wrap: Any = lambda store: store
) -> AsyncIterator[Both]:
    places = (new_place(kind, request), new_place(kind, request))
    async with AsyncExitStack() as stack:
        stores = [wrap(await stack.enter_async_context(open_store(place, SESSION_ID))) for place in places]
        yield Both(
            SdkSession(SESSION_ID, stores[0], KEY, ttl), EncryptedSession(SESSION_ID, stores[1], KEY, ttl), places
        )


def says(text: str) -> Any:
    return {"role": "user", "content": text}


def bare() -> PlainSession:
    """The five members of a session, and no more."""
    return PlainSession(SESSION_ID, [])


class SettledSession(PlainSession):
    """A structural session that also has what the SDK's class asks for."""

    session_settings: SessionSettings | None = None


class Summaries:
    """A client whose responses.compact answers with one summary; `meanwhile` runs while it thinks."""

    def __init__(self, meanwhile: Callable[[], Any] | None = None) -> None:
        self.responses = self
        self._meanwhile = meanwhile

    async def compact(self, **_: Any) -> Any:
        if self._meanwhile is not None:
            await self._meanwhile()
        return SimpleNamespace(output=[assistant_message("a summary").model_dump()], usage=None)


async def compact_on_demand(session: Any, client: Any = None) -> None:
    compacting = CompactionSession(SESSION_ID, session, client=client or Summaries())
    await compacting.run_compaction({"force": True, "compaction_mode": "input"})


async def run_one_turn_that_compacts(session: Any) -> None:
    compacting = CompactionSession(
        SESSION_ID,
        session,
        client=Summaries(),
        should_trigger_compaction=lambda _: True,
        compaction_mode="input",
    )
    agent = Agent(name="helper", model=ScriptedModel([[assistant_message("an answer")]]))
    await Runner.run(agent, "a question", session=compacting)


def texts(items: list[Any]) -> list[str]:
    """What each item says, whoever says it."""
    return [item["content"] if isinstance(item["content"], str) else item["content"][0]["text"] for item in items]


# -- Making one ------------------------------------------------------------------------------


@row("a store with the five members and no `session_settings`")
async def test_a_store_needs_no_session_settings() -> None:
    theirs, ours = SdkSession(SESSION_ID, bare(), KEY), EncryptedSession(SESSION_ID, bare(), KEY)
    with pytest.raises(AttributeError, match="session_settings"):
        await theirs.get_items()
    await ours.add_items([says("hello")])
    assert texts(await ours.get_items()) == ["hello"]
    assert ours.session_settings is None


@row("an `underlying_session` that is not a session")
def test_what_is_wrapped_must_be_a_session() -> None:
    SdkSession(SESSION_ID, "agents.db", KEY)
    with pytest.raises(TypeError, match="underlying_session must be a session"):
        EncryptedSession(SESSION_ID, "agents.db", KEY)


@row("an `OpenAIConversationsSession`, which keeps its items at OpenAI, as the underlying session")
def test_a_store_at_openai_takes_no_sealed_items() -> None:
    store = OpenAIConversationsSession(openai_client=SimpleNamespace())  # type: ignore[arg-type]  # never asked
    SdkSession(SESSION_ID, store, KEY)
    with pytest.raises(ValueError, match="keeps its items at OpenAI"):
        EncryptedSession(SESSION_ID, store, KEY)


@row("a compacting class of your own as the underlying session")
def test_a_foreign_compaction_belongs_above_the_encryption() -> None:
    class Compacts(SettledSession):
        async def run_compaction(self, args: Any = None) -> None: ...

    class MadeFromTheSdks(OpenAIResponsesCompactionSession):
        pass

    compacting = Compacts(SESSION_ID, [])
    assert callable(SdkSession(SESSION_ID, compacting, KEY).run_compaction)
    with pytest.raises(ValueError, match="Wrap the other way round"):
        EncryptedSession(SESSION_ID, compacting, KEY)
    for taken in (CompactionSession, MadeFromTheSdks):
        session: Any = EncryptedSession(SESSION_ID, taken(SESSION_ID, bare()), KEY)
        assert callable(session.run_compaction)


@row("a compaction session that holds its store in a second attribute")
async def test_there_is_no_second_way_to_the_store() -> None:
    class SecondName(OpenAIResponsesCompactionSession):
        def __init__(self, store: Any) -> None:
            super().__init__(SESSION_ID, store)
            self.database = store

        async def add_items(self, items: list[Any]) -> None:
            await self.database.add_items(items)

    store = SettledSession(SESSION_ID, [])
    await SdkSession(SESSION_ID, SecondName(store), KEY).add_items([says("one")])
    assert "one" not in str(await store.get_items())
    with pytest.raises(ValueError, match="SecondName also holds its store as database"):
        EncryptedSession(SESSION_ID, SecondName(store), KEY)


@row("a compaction session that wraps an encrypted session, as the underlying session of another")
def test_nothing_is_sealed_twice_around_a_compaction() -> None:
    SdkSession(SESSION_ID, CompactionSession(SESSION_ID, SdkSession(SESSION_ID, bare(), KEY)), KEY)
    with pytest.raises(ValueError, match="seals already"):
        EncryptedSession(SESSION_ID, CompactionSession(SESSION_ID, EncryptedSession(SESSION_ID, bare(), KEY)), KEY)


@row("a session id that is empty or contains a NUL")
@pytest.mark.parametrize("session_id", ["", "user\0one"])
def test_session_ids_are_checked(session_id: str) -> None:
    SdkSession(session_id, bare(), KEY)
    with pytest.raises(ValueError, match="session_id"):
        EncryptedSession(session_id, bare(), KEY)


@row("a session id that is not a str, or contains a lone surrogate")
@pytest.mark.parametrize(
    ("session_id", "theirs", "ours"),
    [(5, AttributeError, TypeError), (None, AttributeError, TypeError), ("\ud800", UnicodeEncodeError, ValueError)],
)
def test_a_wrong_session_id_is_named(session_id: Any, theirs: type[Exception], ours: type[Exception]) -> None:
    with pytest.raises(theirs) as raised:
        SdkSession(session_id, bare(), KEY)
    assert "session_id" not in str(raised.value)
    with pytest.raises(ours, match="session_id"):
        EncryptedSession(session_id, bare(), KEY)


@row("a key that contains a lone surrogate")
def test_a_key_must_fit_into_utf_8() -> None:
    with pytest.raises(UnicodeEncodeError):
        SdkSession(SESSION_ID, bare(), "\ud800")
    with pytest.raises(ValueError, match="encryption_key") as raised:
        EncryptedSession(SESSION_ID, bare(), "\ud800")
    assert not isinstance(raised.value, UnicodeEncodeError)


@row("a key of `None`, as `os.environ.get` returns it")
def test_no_key_is_a_type_error() -> None:
    no_key: Any = None
    with pytest.raises(ValueError, match="not set"):
        SdkSession(SESSION_ID, bare(), no_key)
    with pytest.raises(TypeError, match="not None"):
        EncryptedSession(SESSION_ID, bare(), no_key)


@row("a session id that differs from the store's")
def test_a_session_id_that_is_not_the_stores_warns() -> None:
    SdkSession("user-2", bare(), KEY)
    with pytest.warns(UserWarning, match="is not its store's"):
        EncryptedSession("user-2", bare(), KEY)


@row("a session id of more than 64 bytes of UTF-8")
def test_a_long_session_id_warns() -> None:
    session_id = "é" * 33
    SdkSession(session_id, PlainSession(session_id, []), KEY, ttl=TTL)
    with pytest.warns(LongSessionIdWarning, match="more than 64 bytes"):
        EncryptedSession(session_id, PlainSession(session_id, []), KEY, ttl=TTL)


@row("a key as `bytes`")
def test_a_key_is_a_str() -> None:
    SdkSession(SESSION_ID, bare(), KEY.encode())
    with pytest.raises(TypeError, match="encryption_key"):
        EncryptedSession(SESSION_ID, bare(), KEY.encode())


@row("a key that is a URL, such as `env:NAME`")
def test_a_url_does_not_become_the_key() -> None:
    SdkSession(SESSION_ID, bare(), "env:SESSION_KEYS")
    with pytest.raises(ValueError, match=re.escape("KeyRing.from_url('env:...')")):
        EncryptedSession(SESSION_ID, bare(), "env:SESSION_KEYS")


@row("a key that is not 32 bytes in base64, such as a password")
def test_a_weak_key_works_and_warns() -> None:
    SdkSession(SESSION_ID, bare(), "correct horse")
    with pytest.warns(WeakKeyWarning, match="keygen"):
        EncryptedSession(SESSION_ID, bare(), "correct horse")


@row("a `KeyRing` as the key")
async def test_a_key_ring_is_taken() -> None:
    keys = KeyRing.ephemeral()
    with pytest.raises(AttributeError):
        SdkSession(SESSION_ID, bare(), keys)
    session = EncryptedSession(SESSION_ID, bare(), keys)
    await session.add_items([says("hello")])
    assert texts(await session.get_items()) == ["hello"]


@row("a ttl that is 0, negative, a float, a str or a bool, even if it is set later")
@pytest.mark.parametrize(
    ("ttl", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("9", TypeError), (True, TypeError)]
)
def test_a_ttl_is_checked(ttl: Any, error: type[Exception]) -> None:
    SdkSession(SESSION_ID, bare(), KEY, ttl).ttl = ttl
    with pytest.raises(error, match="ttl"):
        EncryptedSession(SESSION_ID, bare(), KEY, ttl)
    session = EncryptedSession(SESSION_ID, bare(), KEY)
    with pytest.raises(error, match="ttl"):
        session.ttl = ttl
    assert session.ttl == 600


@row("`ttl=None`")
async def test_without_a_ttl_nothing_expires_and_compaction_works(request: pytest.FixtureRequest, clock: Clock) -> None:
    async with both_apart(request, ttl=None) as both:
        await both.add(says("long ago"))
        clock.now += 10**9
        assert texts(await both.theirs.get_items()) == texts(await both.ours.get_items()) == ["long ago"]
        with pytest.raises(TypeError):
            await run_one_turn_that_compacts(both.theirs)
        await run_one_turn_that_compacts(both.ours)
        assert texts(await both.ours.get_items()) == ["a summary"]


@row("a `max_scan_items` that is not an int")
@pytest.mark.parametrize("budget", [True, 2.0])
def test_the_budget_is_an_int(budget: Any) -> None:
    SdkSession(SESSION_ID, bare(), KEY, max_scan_items=budget)
    with pytest.raises(TypeError, match="max_scan_items"):
        EncryptedSession(SESSION_ID, bare(), KEY, max_scan_items=budget)


# -- Writing ---------------------------------------------------------------------------------


async def add_to_both(item: Any) -> tuple[list[Any], Callable[[], Any]]:
    """What the SDK's class gives back for an item, and a call that adds it to ours."""
    theirs = SdkSession(SESSION_ID, SettledSession(SESSION_ID, []), KEY)
    await theirs.add_items([item])
    store = bare()

    async def add() -> None:
        try:
            await EncryptedSession(SESSION_ID, store, KEY).add_items([says("before"), item])
        finally:
            assert await store.get_items() == []  # all of the batch, or nothing

    return await theirs.get_items(), add


@row("a value that is not JSON, such as a datetime")
async def test_a_value_that_is_not_json_is_refused() -> None:
    item = says("when") | {"at": datetime(2026, 1, 2, tzinfo=timezone.utc)}
    came_back, add = await add_to_both(item)
    assert came_back[0]["at"] == "2026-01-02 00:00:00+00:00"
    with pytest.raises(TypeError, match="not JSON"):
        await add()


@row("a dict key that is not a str")
async def test_a_key_that_is_no_str_is_refused() -> None:
    came_back, add = await add_to_both(says("x") | {"counts": {1: "one"}})
    assert came_back[0]["counts"] == {"1": "one"}
    with pytest.raises(TypeError, match="JSON keys are str"):
        await add()


@row("NaN or infinity")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    came_back, add = await add_to_both(says("x") | {"score": value})
    assert str(came_back[0]["score"]) == str(value)
    with pytest.raises(TypeError, match="NaN"):
        await add()


@row("a lone surrogate in a string")
async def test_a_lone_surrogate_comes_back() -> None:
    item = says("half an emoji: \ud83d")
    with pytest.raises(UnicodeEncodeError):
        await SdkSession(SESSION_ID, bare(), KEY).add_items([item])
    ours = EncryptedSession(SESSION_ID, bare(), KEY)
    await ours.add_items([item])
    assert await ours.get_items() == [item]


@row("nesting deeper than 500 levels")
async def test_deep_nesting_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    came_back, add = await add_to_both(deep)
    assert came_back == [deep]
    with pytest.raises(TypeError, match="500 levels"):
        await add()


@row("an integer of more than 4,300 digits, or an item that contains itself")
async def test_what_neither_class_can_write_is_a_type_error() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    for item in ({"number": 10**5000}, loop):
        with pytest.raises(ValueError, match=r"limit|Circular"):
            await SdkSession(SESSION_ID, bare(), KEY).add_items([item])
        with pytest.raises(TypeError, match="nothing was written"):
            await EncryptedSession(SESSION_ID, bare(), KEY).add_items([item])


@row("a Pydantic model")
async def test_pydantic_items_are_dumped_in_json_mode() -> None:
    class Note(BaseModel):
        at: datetime
        data: bytes

    item: Any = Note(at=datetime(2026, 1, 2, tzinfo=timezone.utc), data=b"raw")
    theirs = SdkSession(SESSION_ID, SettledSession(SESSION_ID, []), KEY)
    ours = EncryptedSession(SESSION_ID, bare(), KEY)
    await theirs.add_items([item])
    await ours.add_items([item])
    assert await theirs.get_items() == [{"at": "2026-01-02 00:00:00+00:00", "data": "b'raw'"}]
    assert await ours.get_items() == [{"at": "2026-01-02T00:00:00Z", "data": "raw"}]


@row("an item that is neither a dict nor a Pydantic model, such as a dataclass")
@pytest.mark.parametrize("item", [SimpleNamespace(role="user", content="x"), [("role", "user"), ("content", "x")]])
async def test_an_item_is_a_dict_or_a_pydantic_model(item: Any) -> None:
    came_back, add = await add_to_both(item)
    assert came_back == [says("x")]
    with pytest.raises(TypeError, match="a dict or a Pydantic model"):
        await add()


@row("items that are not a list, such as a generator")
async def test_items_are_a_list() -> None:
    theirs = SdkSession(SESSION_ID, SettledSession(SESSION_ID, []), KEY)
    await theirs.add_items(says(text) for text in "ab")
    assert texts(await theirs.get_items()) == ["a", "b"]
    with pytest.raises(TypeError, match="items must be a list"):
        await EncryptedSession(SESSION_ID, bare(), KEY).add_items(says(text) for text in "ab")


@row("the timestamp of a batch")
async def test_what_is_added_together_expires_together(
    request: pytest.FixtureRequest, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick() -> float:
        clock.now += 1
        return clock.now

    async with both_apart(request) as both:
        with monkeypatch.context() as ticking:
            ticking.setattr(clock, "time", tick)
            ticking.setattr("encrypted_sessions.session._now", tick)
            await both.add(says("a"), says("b"), says("c"))

        def times(rows: list[Any]) -> set[int]:
            tokens = (json.loads(row)["payload"] for row in rows)
            return {int.from_bytes(base64.urlsafe_b64decode(token)[1:9], "big") for token in tokens}

        theirs, ours = [times(await raw_rows(place, SESSION_ID)) for place in both.places]
        assert len(theirs) == 3
        assert len(ours) == 1


# -- Reading ---------------------------------------------------------------------------------


@row("a wrong key, or an altered row")
async def test_a_wrong_key_raises_instead_of_emptying_the_history(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("one"), says("two"))
        store = both.ours.underlying_session
        assert await SdkSession(SESSION_ID, store, OTHER_KEY).get_items() == []
        wrong = EncryptedSession(SESSION_ID, store, OTHER_KEY)
        with pytest.raises(UnreadableItemsError, match="altered, or sealed with another key") as raised:
            await wrong.get_items()
        assert raised.value.outcomes == {"ok": 0, "unauthentic": 2}

        await both.alter_newest()
        assert texts(await both.theirs.get_items()) == ["one"]
        with pytest.raises(UnreadableItemsError, match="unauthentic"):
            await both.ours.get_items()
        skipping = EncryptedSession(SESSION_ID, store, KEY, on_unreadable="skip")
        assert texts(await skipping.get_items()) == ["one"]


@row("a plaintext row")
async def test_plaintext_raises_unless_it_is_let_in(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.write(json.dumps(says("from before")))
        await both.add(says("sealed"))
        assert texts(await both.theirs.get_items()) == ["sealed"]
        with pytest.raises(UnreadableItemsError, match="plaintext='read' returns it"):
            await both.ours.get_items()
        moving = EncryptedSession(SESSION_ID, both.ours.underlying_session, KEY, plaintext="read")
        assert texts(await moving.get_items()) == ["from before", "sealed"]


@row("an envelope with a missing field, or a row that is not an object")
@pytest.mark.parametrize("data", ['{"__enc__": 1, "v": 1, "kid": "hkdf-v1"}', "[]", "7"])
async def test_what_is_neither_an_envelope_nor_an_item_is_malformed(request: pytest.FixtureRequest, data: str) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("one"))
        await both.write(data)
        assert texts(await both.theirs.get_items()) == ["one"]
        with pytest.raises(UnreadableItemsError, match="malformed"):
            await both.ours.get_items()


@row("a row whose payload is not a string")
async def test_a_damaged_envelope_does_not_break_the_call(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("one"))
        await both.write(json.dumps({"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": 7}))
        with pytest.raises(AttributeError):
            await both.theirs.get_items()
        with pytest.raises(UnreadableItemsError, match="malformed"):
            await both.ours.get_items()
        assert texts((await both.ours.read()).items) == ["one"]


@row("a row that the store itself cannot read (invalid JSON or UTF-8)")
async def test_a_row_that_the_store_drops_is_told(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("one"))
        await both.write("{no JSON")
        assert texts(await both.theirs.get_items()) == ["one"]
        assert (await both.ours.read()).outcomes == {"ok": 1, "malformed": 1}
    async with both_over_one_store(request, "advanced-sqlite") as both:
        await both.add(says("one"))
        await both.write("{no JSON")
        assert (await both.ours.read()).outcomes == {"ok": 1}, "the store dropped the row before we saw it"


@row("authentic content that is not a JSON object")
async def test_content_that_is_no_object_is_malformed(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.write_sealed(b'["no", "item"]')
        assert await both.theirs.get_items() == [["no", "item"]]
        assert (await both.ours.read()).outcomes == {"ok": 0, "malformed": 1}
        await both.write_sealed(b"no JSON")
        with pytest.raises(ValueError, match="Expecting value"):
            await both.theirs.get_items()
        assert (await both.ours.read()).outcomes == {"ok": 0, "malformed": 2}


@row("an envelope in another form (`__enc__` of `true`, stray characters in base64, a `kid` that is not a string)")
@pytest.mark.parametrize("change", [{"__enc__": True}, {"kid": 5}, {"v": "1"}, {"payload": None}])
async def test_an_envelope_has_one_form(request: pytest.FixtureRequest, change: dict[str, Any]) -> None:
    async with both_over_one_store(request) as both:
        if "payload" in change:
            cipher: Fernet = both.theirs.cipher
            change = {"payload": " ".join(cipher.encrypt(json.dumps(says("one")).encode()).decode())}
        await both.write_sealed(json.dumps(says("one")).encode(), **change)
        assert texts(await both.theirs.get_items()) == ["one"]
        assert (await both.ours.read()).outcomes == {"ok": 0, "malformed": 1}


@row("an envelope of a later version (`v` above 2)")
async def test_a_later_version_says_upgrade(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.write_sealed(json.dumps(says("one")).encode(), v=3)
        assert texts(await both.theirs.get_items()) == ["one"]
        with pytest.raises(UnreadableItemsError, match="Upgrade"):
            await both.ours.get_items()


@row("a row whose timestamp is more than 60 s in the future")
async def test_a_row_from_the_future_raises_also_without_a_ttl(request: pytest.FixtureRequest, clock: Clock) -> None:
    async with both_over_one_store(request) as both:
        await both.write_sealed(json.dumps(says("soon")).encode(), at=clock.now + 60)
        assert texts(await both.theirs.get_items()) == texts(await both.ours.get_items()) == ["soon"]
        await both.write_sealed(json.dumps(says("later")).encode(), at=clock.now + 61)
        assert texts(await both.theirs.get_items()) == ["soon"]
        with pytest.raises(UnreadableItemsError, match="clock is skewed"):
            await both.ours.get_items()
        both.theirs.ttl = None
        both.ours.ttl = None
        assert texts(await both.theirs.get_items()) == ["soon", "later"]
        with pytest.raises(UnreadableItemsError, match="not_yet_valid"):
            await both.ours.get_items()


@row("a tool output whose call has expired")
async def test_an_output_goes_where_its_call_went(request: pytest.FixtureRequest, clock: Clock) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
    async with both_over_one_store(request) as both:
        await both.add(call)
        clock.now += TTL
        await both.add(output, says("and?"))
        clock.now += 1
        assert await both.theirs.get_items() == [output, says("and?")]
        assert await both.ours.get_items() == [says("and?")]
        assert (await both.ours.read()).outcomes == {"ok": 1, "expired": 1, "unpaired": 1}


@row("`get_items(limit=n)`, and 64 consecutive rows that expired more than 2 minutes ago")
async def test_a_heap_of_expired_rows_ends_the_search(request: pytest.FixtureRequest, clock: Clock) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("older row, newer time"))
        clock.now -= TTL + 121
        await both.add(*(says("expired") for _ in range(64)))
        clock.now += TTL + 121
        assert texts(await both.theirs.get_items(1)) == ["older row, newer time"]
        assert await both.ours.get_items(1) == []
        assert texts(await both.ours.get_items()) == ["older row, newer time"], "without a limit all rows are read"


@row("a negative limit")
async def test_a_negative_limit_is_refused(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("one"), says("two"))
        assert texts(await both.theirs.get_items(-1)) == ["one", "two"]
        with pytest.raises(ValueError, match="limit"):
            await both.ours.get_items(-1)


@row("a limit that is not an int")
@pytest.mark.parametrize("limit", [True, 1.0])
async def test_a_limit_is_an_int(limit: Any) -> None:
    store = SettledSession(SESSION_ID, [])
    theirs, ours = SdkSession(SESSION_ID, store, KEY), EncryptedSession(SESSION_ID, store, KEY)
    await ours.add_items([says("one"), says("two")])
    if limit is True:
        assert texts(await theirs.get_items(limit)) == ["two"]
    else:
        with pytest.raises(TypeError) as raised:
            await theirs.get_items(limit)
        assert "limit" not in str(raised.value)
    with pytest.raises(TypeError, match="limit must be an int"):
        await ours.get_items(limit)


@row("a limit of 0")
async def test_a_limit_of_0_gives_nothing_and_asks_nobody() -> None:
    class GivesAllForZero(SettledSession):
        asked = 0

        async def get_items(self, limit: int | None = None) -> list[Any]:
            self.asked += 1
            return await super().get_items(limit or None)

    store = GivesAllForZero(SESSION_ID, [])
    theirs, ours = SdkSession(SESSION_ID, store, KEY), EncryptedSession(SESSION_ID, store, KEY)
    await ours.add_items([says("one")])
    assert texts(await theirs.get_items(0)) == ["one"]
    assert await ours.get_items(0) == []
    assert store.asked == 1


@row("a `get_items` that was replaced on the store object, for example by a mock")
async def test_rows_are_read_by_statements_of_this_library(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both_over_one_store(request) as both:
        await both.add(says("one"))
        read = AsyncMock(return_value=[])
        monkeypatch.setattr(both.ours.underlying_session, "get_items", read)
        assert await both.theirs.get_items() == []
        assert read.await_count == 1
        assert texts(await both.ours.get_items()) == ["one"]
        assert read.await_count == 1


@row("what `max_scan_items` counts")
async def test_the_budget_counts_each_row_once(request: pytest.FixtureRequest, clock: Clock) -> None:
    async with both_over_one_store(request, max_scan_items=8) as both:
        await both.add(says("one"))
        clock.now -= TTL + 1
        await both.add(*(says("expired") for _ in range(5)))
        clock.now += TTL + 1
        with pytest.raises(RuntimeError):  # it has read the newest row, the newest 2, the newest 4: that makes 7
            await both.theirs.get_items(1)
        assert texts(await both.ours.get_items(1)) == ["one"]
        both.ours.max_scan_items = 5
        with pytest.raises(ScanBudgetError) as raised:
            await both.ours.get_items(1)
        assert isinstance(raised.value, RuntimeError)


@row("more than 1,000 expired rows in a read without a limit")
async def test_a_heap_of_expired_rows_is_told_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = SettledSession(SESSION_ID, [])
    theirs, ours = SdkSession(SESSION_ID, store, KEY), EncryptedSession(SESSION_ID, store, KEY)
    await ours.add_items([says("expired")] * 1001)
    clock.now += TTL + 1
    with caplog.at_level(logging.WARNING):
        assert await theirs.get_items() == []
        assert not caplog.records
        for _ in range(2):
            assert await ours.get_items() == []
    assert [record.name for record in caplog.records] == ["encrypted_sessions"]
    assert "1001 expired items" in caplog.text


# -- Popping ---------------------------------------------------------------------------------


@row("a wrong key, or an altered newest row, on a `SQLiteSession`")
async def test_a_pop_with_a_wrong_key_says_so(request: pytest.FixtureRequest) -> None:
    async with both_apart(request) as both:
        await both.add(says("one"), says("two"))
        await both.alter_newest()
        with pytest.raises(InvalidToken):
            await both.theirs.pop_item()
        with pytest.raises(UnreadableItemsError, match="It is the next to pop, and it stays where it is"):
            await both.ours.pop_item()
        assert await both.count() == (2, 2)


@row("the same on any other store")
@pytest.mark.parametrize("kind", ["async-sqlite", "sqlalchemy-sqlite", "advanced-sqlite"])
async def test_a_pop_with_a_wrong_key_deletes_nothing(request: pytest.FixtureRequest, kind: str) -> None:
    async with both_apart(request, kind) as both:
        await both.add(says("one"), says("two"))
        await both.alter_newest()
        assert await both.theirs.pop_item() == says("one")
        with pytest.raises(UnreadableItemsError):
            await both.ours.pop_item()
        assert await both.count() == (0, 2)
        both.ours = EncryptedSession(SESSION_ID, both.ours.underlying_session, KEY, on_unreadable="skip")
        with pytest.raises(UnreadableItemsError):
            await both.ours.pop_item()
        assert await both.count() == (0, 2)


@row("a newest row that is plaintext, from the future, or not JSON")
@pytest.mark.parametrize("tail", ["plaintext", "not_yet_valid", "malformed"])
async def test_a_pop_keeps_what_it_cannot_read(request: pytest.FixtureRequest, clock: Clock, tail: str) -> None:
    async with both_apart(request) as both:
        await both.add(says("one"))
        if tail == "not_yet_valid":
            await both.write_sealed(b"{}", at=clock.now + 61)
        else:
            await both.write("{no JSON" if tail == "malformed" else json.dumps(says("plain")))
        assert await both.theirs.pop_item() == says("one")
        with pytest.raises(UnreadableItemsError, match=tail):
            await both.ours.pop_item()
        assert await both.count() == (0, 2)


@row("the same on a subclass of `SQLiteSession`, or in memory")
@pytest.mark.parametrize("where", ["memory", "subclass"])
async def test_elsewhere_a_pop_looks_first_and_puts_back_what_came_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    class Subclass(SQLiteSession):
        pass

    def newest(store: SQLiteSession) -> Any:
        with store._locked_connection() as connection:
            return connection.execute("SELECT max(id), message_data FROM agent_messages").fetchone()

    store = SQLiteSession(SESSION_ID) if where == "memory" else Subclass(SESSION_ID, tmp_path / "agents.db")
    ours, stranger = EncryptedSession(SESSION_ID, store, KEY), SdkSession(SESSION_ID, store, OTHER_KEY)
    look = store.get_items

    async def look_and_write(limit: int | None = None) -> Any:
        seen = await look(limit)
        await stranger.add_items([says("in between")])
        return seen

    try:
        await stranger.add_items([says("one")])
        before = newest(store)
        with pytest.raises(InvalidToken):
            await SdkSession(SESSION_ID, store, KEY).pop_item()
        with pytest.raises(UnreadableItemsError):
            await ours.pop_item()
        assert newest(store) == before

        await ours.add_items([says("readable")])
        monkeypatch.setattr(store, "get_items", look_and_write)
        with pytest.raises(UnreadableItemsError):
            await ours.pop_item()
        monkeypatch.undo()
        assert newest(store)[0] == before[0] + 3, "a new row id, in the same place"
        assert len(await look()) == 3
        assert await stranger.pop_item() == says("in between")
        assert await ours.pop_item() == says("readable")
    finally:
        store.close()


# -- Compaction ------------------------------------------------------------------------------


@row("on demand, over a history with rows that cannot be read")
async def test_compaction_on_demand_keeps_what_it_cannot_read(request: pytest.FixtureRequest) -> None:
    async with both_apart(request) as both:
        await both.add(says("one"), says("two"))
        await both.alter_newest()
        await both.add(says("three"))
        both.ours = EncryptedSession(SESSION_ID, both.ours.underlying_session, KEY, on_unreadable="skip")
        await compact_on_demand(both.theirs)
        with pytest.raises(UnreadableItemsError, match="The history was not compacted"):
            await compact_on_demand(both.ours)
        assert await both.count() == (1, 3)


@row("automatic, over a history with rows that cannot be read, on a store without snapshots")
async def test_automatic_compaction_keeps_what_it_cannot_read(request: pytest.FixtureRequest) -> None:
    async with both_apart(request, "advanced-sqlite") as both:
        await both.add(says("one"), says("two"))
        await both.alter_newest()
        both.ours = EncryptedSession(SESSION_ID, both.ours.underlying_session, KEY, on_unreadable="skip")
        await run_one_turn_that_compacts(both.theirs)
        await run_one_turn_that_compacts(both.ours)
        assert texts(await both.theirs.get_items()) == ["a summary"]
        assert texts(await both.ours.get_items()) == ["one", "a question", "an answer"]
        assert await both.count() == (1, 4)


@row("on demand, when the write fails")
async def test_compaction_on_demand_is_one_step(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both_apart(request) as both:
        await both.add(says("one"), says("two"))
        before = [await raw_rows(place, SESSION_ID) for place in both.places]
        seen: list[int] = []

        def fail(connection: Any, items: list[Any]) -> None:
            raise OSError("the disk is full")

        async def clear(store: Any = both.theirs.underlying_session) -> None:
            await type(store).clear_session(store)
            seen.append(len(await raw_rows(both.places[0], SESSION_ID)))

        monkeypatch.setattr(both.theirs.underlying_session, "clear_session", clear)
        with monkeypatch.context() as broken:
            for session in (both.theirs, both.ours):
                broken.setattr(session.underlying_session, "_insert_items", fail)
                with pytest.raises(OSError, match="disk is full"):
                    await compact_on_demand(session)
        after = [await raw_rows(place, SESSION_ID) for place in both.places]
        assert seen, "the SDK's class clears the store, and then writes"
        assert seen[0] == 0
        assert after[0] == []
        assert after[1] == before[1]


@row("on demand, while another process writes")
async def test_compaction_on_demand_replaces_nothing_unseen(request: pytest.FixtureRequest) -> None:
    async with both_apart(request) as both:
        await both.add(says("one"))

        async def another_process_writes() -> None:
            await both.add(says("two"))

        client = Summaries(another_process_writes)
        await compact_on_demand(both.theirs, client)
        assert texts(await both.theirs.get_items()) == ["a summary"]
        await both.ours.pop_item()
        with pytest.raises(HistoryChangedError, match="nothing was replaced"):
            await compact_on_demand(both.ours, client)
        assert texts(await both.ours.get_items()) == ["one", "two"]


@row("the lifetime of a summary")
async def test_a_summary_lives_no_longer_than_what_it_replaces(request: pytest.FixtureRequest, clock: Clock) -> None:
    async with both_apart(request) as both:
        await both.add(says("one"))
        clock.now += TTL
        await compact_on_demand(both.theirs)
        await compact_on_demand(both.ours)
        clock.now += 1
        assert texts(await both.theirs.get_items()) == ["a summary"]
        assert await both.ours.get_items() == []


@row("automatic, with more than about 1,000 expired rows before the replaced ones")
@pytest.mark.parametrize("expired", [10, 1100])
async def test_compaction_does_not_reclaim_a_heap_of_expired_rows_yet(
    request: pytest.FixtureRequest, clock: Clock, expired: int
) -> None:
    async with both_apart(request) as both:
        await both.add(*(says("expired") for _ in range(expired)))
        clock.now += TTL + 1
        await run_one_turn_that_compacts(both.theirs)
        await run_one_turn_that_compacts(both.ours)
        assert texts(await both.theirs.get_items()) == texts(await both.ours.get_items()) == ["a summary"]
        theirs, ours = await both.count()
        assert theirs == 1
        assert (ours > 1) == (expired > 1000)


@row("automatic, on a `RedisSession`, when the model saw only the newest items")
async def test_compaction_replaces_a_part_of_a_redis_history(request: pytest.FixtureRequest) -> None:
    async with both_apart(request, "redis") as both:
        await both.add(says("one"), says("two"))
        for session in (both.theirs, both.ours):
            session.session_settings = SessionSettings(limit=1)
            await run_one_turn_that_compacts(session)
            session.session_settings = None
        assert texts(await both.theirs.get_items()) == ["one", "two", "a question", "an answer"]
        assert texts(await both.ours.get_items()) == ["one", "a summary"]


@row("what a wrapped compaction session is given to add")
async def test_a_compaction_session_beneath_sees_items() -> None:
    class Looks(OpenAIResponsesCompactionSession):
        seen: Any = None

        async def add_items(self, items: list[Any]) -> None:
            self.seen = items
            await super().add_items(items)

    stores = SettledSession(SESSION_ID, []), SettledSession(SESSION_ID, [])
    theirs, ours = (Looks(SESSION_ID, store) for store in stores)
    await SdkSession(SESSION_ID, theirs, KEY).add_items([says("one")])
    await EncryptedSession(SESSION_ID, ours, KEY).add_items([says("one")])
    assert set(theirs.seen[0]) == {"__enc__", "v", "kid", "payload"}
    assert ours.seen == [says("one")]
    for store in stores:
        assert set((await store.get_items())[0]) == {"__enc__", "v", "kid", "payload"}


@row("`session.underlying_session`, when it wraps a compaction session")
def test_the_underlying_session_is_the_store() -> None:
    store = bare()
    beneath = CompactionSession(SESSION_ID, store)
    assert SdkSession(SESSION_ID, beneath, KEY).underlying_session is beneath
    assert EncryptedSession(SESSION_ID, beneath, KEY).underlying_session is store


@row("the store of a wrapped compaction session, when it is replaced later")
async def test_the_store_of_a_compaction_session_stays() -> None:
    beneath = CompactionSession(SESSION_ID, SettledSession(SESSION_ID, []))
    theirs, ours = SdkSession(SESSION_ID, beneath, KEY), EncryptedSession(SESSION_ID, beneath, KEY)
    beneath.underlying_session = SettledSession(SESSION_ID, [])
    assert await theirs.get_items() == []
    with pytest.raises(RuntimeError, match="Make another wrapper"):
        await ours.get_items()


# -- The object ------------------------------------------------------------------------------


@row("setting `session_id` or `underlying_session` later")
def test_a_session_stays_what_it_is() -> None:
    theirs, ours = SdkSession(SESSION_ID, bare(), KEY), EncryptedSession(SESSION_ID, bare(), KEY)
    for name, value in (("session_id", "user-2"), ("underlying_session", bare())):
        setattr(theirs, name, value)
        with pytest.raises(AttributeError, match=name):
            setattr(ours, name, value)


@row("an attribute of the store, such as `session.db_path`")
async def test_attributes_are_not_forwarded(request: pytest.FixtureRequest) -> None:
    async with both_over_one_store(request) as both:
        assert both.theirs.db_path == both.places[0].where
        with pytest.raises(AttributeError, match=re.escape("session.underlying_session.db_path")):
            _ = both.ours.db_path


@row("`session.cipher`")
def test_there_is_no_cipher_to_take() -> None:
    assert isinstance(SdkSession(SESSION_ID, bare(), KEY).cipher, Fernet)
    with pytest.raises(AttributeError):
        _ = EncryptedSession(SESSION_ID, bare(), KEY).cipher


@row("`pickle` and `copy`")
def test_no_key_is_pickled_or_copied() -> None:
    theirs = SdkSession(SESSION_ID, bare(), KEY)
    assert theirs.cipher._signing_key in pickle.dumps(theirs)
    ours = EncryptedSession(SESSION_ID, bare(), KEY)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds keys"):
            attempt(ours)


@row("`repr(session)`")
def test_a_repr_names_the_session() -> None:
    assert SESSION_ID not in repr(SdkSession(SESSION_ID, bare(), KEY))
    ours = EncryptedSession(SESSION_ID, bare(), KEY)
    assert repr(ours) == f"EncryptedSession(session_id={SESSION_ID!r}, store=PlainSession, ttl=600)"


@row("local variables in a traceback")
async def test_a_traceback_keeps_no_plaintext() -> None:
    def kept(error: BaseException, module: str) -> str:
        steps, found = error.__traceback__, ""
        while steps is not None:
            if steps.tb_frame.f_globals["__name__"].startswith(module):
                found += repr(steps.tb_frame.f_locals)
            steps = steps.tb_next
        return found

    with pytest.raises(UnicodeEncodeError) as theirs:
        await SdkSession(SESSION_ID, bare(), KEY).add_items([says("a secret \ud800")])
    assert "a secret" in kept(theirs.value, "agents")
    with pytest.raises(TypeError) as ours:
        await EncryptedSession(SESSION_ID, bare(), KEY).add_items([says("a secret") | {"at": object()}])
    assert "a secret" not in kept(ours.value, "encrypted_sessions")


@row("`isinstance(session, SessionABC)`")
def test_a_session_by_structure() -> None:
    theirs, ours = SdkSession(SESSION_ID, bare(), KEY), EncryptedSession(SESSION_ID, bare(), KEY)
    assert isinstance(theirs, agents.memory.SessionABC)
    assert not isinstance(ours, agents.memory.SessionABC)
    assert isinstance(ours, agents.memory.Session)


# -- The page --------------------------------------------------------------------------------


def test_each_row_of_the_page_has_its_test_and_each_test_its_row() -> None:
    titles = [cells[0] for cells in rows(prose(DIFFERENCES))]
    assert len(titles) == len(set(titles)), "a row stands twice"
    assert set(titles) - TESTED == set(), "rows without a test"
    assert TESTED - set(titles) == set(), "tests without a row"

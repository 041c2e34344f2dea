"""One event for each operation of a session: what was sealed, opened, judged, refused and removed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from encrypted_sessions import (
    EncryptedSession,
    Finding,
    KeyRing,
    KeyRings,
    SessionEvent,
    StoreError,
    UnreadableItemsError,
    audit_context,
    observe,
)
from encrypted_sessions.events.hooks import Recorder
from encrypted_sessions.events.listening import current
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.compaction import CHAT, Compactor, compacting
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import PlainSession, StoreLocation, raw_rows

ODD = ("expired", "expired_unverified", "erased", "key_disabled", "unknown_key", "unauthentic", "plaintext")

in_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


def uses(event: SessionEvent) -> dict[tuple[str | None, str], int]:
    return {(use.kid, use.outcome): use.items for use in event.uses}


async def filled(place: StoreLocation, sealer: Sealer, *kinds: str) -> None:
    async with sealer.session(place):  # so that the tables are there
        await write_rows(place, SESSION, [sealer.of(kind) for kind in kinds])


async def test_each_operation_is_one_event_with_what_it_did(place: StoreLocation, sealer: Sealer):
    told: list[SessionEvent] = []
    active = sealer.active.kid
    async with sealer.session(place, on_event=told.append) as session:
        store = type(session.underlying_session).__name__
        began = datetime.now(timezone.utc)
        with audit_context(actor="u-17"):
            await session.add_items([message(str(number)) for number in range(5)])
        await session.get_items()
        await session.get_items(2)
        await session.read()
        await session.pop_item()
        assert await session.purge_expired() == 0
        await session.clear_session()
        assert await session.get_items(0) == []
        assert await session.pop_item() is None
    assert [event.operation for event in told] == [
        *("add_items", "get_items", "get_items", "read", "pop_item"),
        *("purge_expired", "clear_session", "get_items", "pop_item"),
    ]
    # What a store without single rows has expired is looked at; that nothing has is known there by opening all.
    purged: dict[tuple[str | None, str], int] = {(active, "ok"): 4}
    assert [uses(event) for event in told] == [
        {(active, "sealed"): 5},
        {(active, "ok"): 5},
        {(active, "ok"): 2},
        {(active, "ok"): 5},
        {(active, "ok"): 1},
        purged,
        {},
        {},
        {},
    ]
    assert [event.removed for event in told] == [0, 0, 0, 0, 1, 0, None, 0, 0]
    assert {event.refused for event in told} == {0}
    assert {event.error for event in told} == {None}
    assert {(event.session, event.store, event.findings) for event in told} == {(SESSION, store, ())}
    assert [event.context for event in told] == [{"actor": "u-17"}, *[{}] * 8]
    numbers = [event.sequence for event in told]
    assert numbers == list(range(numbers[0], numbers[0] + 9))
    assert all(began - timedelta(seconds=5) <= event.at <= datetime.now(timezone.utc) for event in told)
    assert all(0 < event.took_s < 60 for event in told)


async def test_rows_are_counted_by_kid_and_outcome_and_named(place: StoreLocation, sealer: Sealer):
    await filled(place, sealer, "ok", *ODD, "malformed: a list", "ok")
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append) as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
        found = await session.read()
    expected = {(sealer.kid_of(kind), outcome_of(kind)): 1 for kind in (*ODD, "malformed: a list")}
    expected[sealer.active.kid, "ok"] = 2
    assert [uses(event) for event in told] == [expected, expected]
    assert [event.error for event in told] == ["UnreadableItemsError", None]
    assert [event.refused for event in told] == [5, 5]
    assert [event.findings for event in told] == [raised.value.findings, found.findings]
    assert told[0].findings[0] == Finding(1, "malformed", None)


@in_sqlite
async def test_rows_of_two_keys_and_one_that_is_refused_between_them_are_each_counted_as_what_they_are(
    place: StoreLocation, sealer: Sealer
):
    ours, others = sealer.row(message("a")), sealer.row(message("b"), sealer.older)
    async with sealer.session(place):
        await write_rows(place, SESSION, [ours, others, others, sealer.of("unauthentic"), ours, ours, others])
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append, on_unreadable="skip") as session:
        await session.get_items()
        await session.get_items()
    kid = sealer.active.kid
    for event in told:
        assert uses(event) == {(kid, "ok"): 3, (sealer.older.kid, "ok"): 3, (kid, "unauthentic"): 1}
        assert event.findings == (Finding(3, "unauthentic", kid),)


@in_sqlite
async def test_plaintext_that_is_let_in_is_not_refused_and_has_no_kid(place: StoreLocation, sealer: Sealer):
    await filled(place, sealer, "plaintext", "ok")
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append, plaintext="read", ttl=None) as session:
        await session.get_items()
        await session.purge_expired()
    assert uses(told[0]) == {(None, "plaintext"): 1, (sealer.active.kid, "ok"): 1}
    assert told[0].refused == 0
    async with sealer.session(place, on_event=told.append, plaintext="read") as session:
        await session.purge_expired()
    assert uses(told[-1]) == uses(told[0])
    assert told[-1].refused == 0


@in_sqlite
async def test_a_kid_that_is_none_is_not_shown_and_twenty_rows_are_named(place: StoreLocation, sealer: Sealer):
    rows = [json.dumps({**sealer.envelope(message("a")), "kid": f"\x1b[31m<b>{number}\n"}) for number in range(25)]
    async with sealer.session(place):
        await write_rows(place, SESSION, rows)
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append, on_unreadable="skip") as session:
        assert await session.get_items() == []
    (event,) = told
    assert uses(event) == {(None, "unknown_key"): 25}
    assert (event.refused, len(event.findings)) == (25, 20)
    assert "\x1b" not in repr(event)


@in_sqlite
async def test_a_read_with_a_limit_counts_what_it_judged(place: StoreLocation, sealer: Sealer):
    await filled(place, sealer, *["ok"] * 5, *["expired"] * 3)
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append) as session:
        assert len(await session.get_items(2)) == 2
    judged = uses(told[0])
    assert judged[sealer.active.kid, "expired"] == 3
    assert judged[sealer.active.kid, "ok"] >= 2


async def test_a_pop_counts_what_it_removed_and_what_stopped_it(place: StoreLocation, sealer: Sealer):
    await filled(place, sealer, "ok", "unauthentic", "ok", "expired", "expired")
    told: list[SessionEvent] = []
    active = sealer.active.kid
    async with sealer.session(place, on_event=told.append) as session:
        assert await session.pop_item() is not None
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
    assert [uses(event) for event in told] == [
        {(active, "expired"): 2, (active, "ok"): 1},
        {(active, "unauthentic"): 1},
    ]
    assert [event.removed for event in told] == [3, 0]
    assert [event.refused for event in told] == [0, 1]
    assert [event.error for event in told] == [None, "UnreadableItemsError"]
    assert len(await raw_rows(place, SESSION)) == 2


async def test_a_purge_counts_what_expired_as_expired_and_what_it_removed(place: StoreLocation, sealer: Sealer):
    kinds = ("expired", "ok", "unauthentic", "expired", "unauthentic, and old", "expired_unverified", "ok")
    await filled(place, sealer, *kinds)
    told: list[SessionEvent] = []
    active = sealer.active.kid
    async with sealer.session(place, on_event=told.append) as session:
        with contextlib.suppress(StoreError if place.kind != "plain" else Exception):
            await session.purge_expired()
    (event,) = told
    assert uses(event) == {
        (active, "ok"): 2,
        (active, "expired"): 2,
        (active, "unauthentic"): 2,
        (sealer.unknown.kid, "expired_unverified"): 1,
    }
    expected = (0, "PurgeRefusedError") if place.kind == "plain" else (2, None)
    assert (event.removed, event.error) == expected
    assert len(await raw_rows(place, SESSION)) == len(kinds) - expected[0]


@in_sqlite
async def test_purge_on_add_is_a_part_of_adding(place: StoreLocation, sealer: Sealer):
    await filled(place, sealer, "expired", "ok", "expired")
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append, purge_on_add=1) as session:
        await session.add_items([message("new")])
    (event,) = told
    assert (event.operation, event.removed) == ("add_items", 1)
    assert uses(event) == {(sealer.active.kid, "sealed"): 1, (sealer.active.kid, "expired"): 2}


class Broken(PlainSession):
    """A store that fails, or hangs, when it is told to."""

    def __init__(self) -> None:
        super().__init__(SESSION, [])
        self.failure: BaseException | None = None
        self.hangs = asyncio.Event()

    async def add_items(self, items: Any) -> None:
        if self.failure is not None:
            raise self.failure
        await super().add_items(items)

    async def pop_item(self) -> Any:
        popped = await super().pop_item()
        self.hangs.set()
        await asyncio.sleep(0.05)
        return popped


async def test_what_failed_is_told_with_the_class_of_its_error_alone(sealer: Sealer):
    store, told = Broken(), list[SessionEvent]()
    session = EncryptedSession.wrap(store, sealer.ring, ttl=60, on_event=told.append)
    store.failure = OSError("words of a driver that quote a row")
    with pytest.raises(StoreError):
        await session.add_items([message("a")])
    with pytest.raises(TypeError):
        await session.add_items([message("a"), {"content": b"bytes"}])
    with pytest.raises(TypeError):
        await session.get_items("all")  # type: ignore[arg-type]  # what is tested
    assert [event.error for event in told] == ["StoreUnavailableError", "TypeError", "TypeError"]
    assert [uses(event) for event in told] == [{(sealer.active.kid, "sealed"): 1}, {}, {}]
    assert "quote" not in repr(told)


async def test_a_pop_that_was_cancelled_and_undone_has_removed_nothing(sealer: Sealer):
    store, told = Broken(), list[SessionEvent]()
    session = EncryptedSession.wrap(store, sealer.ring, ttl=60, on_event=told.append)
    await session.add_items([message("a")])
    task = asyncio.create_task(session.pop_item())
    await store.hangs.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (told[-1].operation, told[-1].error, told[-1].removed) == ("pop_item", "CancelledError", 0)
    assert len(await store.get_items()) == 1


async def test_what_was_given_up_is_in_doubt(sealer: Sealer):
    store, told = Broken(), list[SessionEvent]()
    session = EncryptedSession.wrap(store, sealer.ring, ttl=60, on_event=told.append, store_timeout_s=0.01)
    await session.add_items([message("a")])
    with pytest.raises(StoreError):
        await session.pop_item()
    assert (told[-1].error, told[-1].removed) == ("StoreTimeoutError", None)
    with contextlib.suppress(StoreError):
        await asyncio.sleep(0.1)
        await session.get_items()


async def two_popping(place: StoreLocation, sealer: Sealer, told: list[SessionEvent]) -> list[Any]:
    async with (
        sealer.session(place, on_event=told.append) as one,
        sealer.session(place, on_event=told.append) as other,
    ):
        await one.add_items([message(str(number)) for number in range(6)])
        told.clear()
        return await asyncio.gather(*(session.pop_item() for session in (one, other) * 3))


async def test_pops_that_had_to_start_again_count_each_item_once(place: StoreLocation, sealer: Sealer):
    told: list[SessionEvent] = []
    popped = await two_popping(place, sealer, told)
    assert len({item["content"] for item in popped}) == 6
    assert [uses(event) for event in told] == [{(sealer.active.kid, "ok"): 1}] * 6
    assert [event.removed for event in told] == [1] * 6


# -- Compaction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("addressable", [True, False])
async def test_a_compaction_that_was_given_is_one_event(addressable: bool, sealer: Sealer, tmp_path: Path):
    told: list[SessionEvent] = []
    with contextlib.closing(SQLiteSession(CHAT, tmp_path / "chat.db")) as file:
        beneath = file if addressable else PlainSession(CHAT, [])
        session = EncryptedSession.wrap(compacting(beneath, Compactor()), sealer.ring, ttl=600, on_event=told.append)
        await session.add_items([message(str(number)) for number in range(3)])
        assert len(await session.get_items()) == 3
        await session.run_compaction({"force": True})
    active = sealer.active.kid
    assert [event.operation for event in told] == ["add_items", "get_items", "run_compaction"]
    assert uses(told[0]) == {(active, "sealed"): 3}
    assert uses(told[1]) == {(active, "ok"): 3}
    assert uses(told[2])[active, "sealed"] == 2
    assert uses(told[2])[active, "ok"] % 3 == 0
    assert told[2].removed == (3 if addressable else None)


async def test_each_step_of_a_compaction_around_a_session_is_told(sealer: Sealer, tmp_path: Path):
    told: list[SessionEvent] = []
    with contextlib.closing(SQLiteSession(CHAT, tmp_path / "chat.db")) as file:
        session = EncryptedSession.wrap(file, sealer.ring, ttl=600, on_event=told.append)
        await session.add_items([message(str(number)) for number in range(3)])
        await compacting(session, Compactor()).run_compaction({"force": True})
    assert {event.operation for event in told[1:]} <= {"run_compaction", "get_items"}
    assert [event.removed for event in told[1:] if event.removed] == [3]
    assert uses(told[-1])[sealer.active.kid, "sealed"] == 2


@in_sqlite
async def test_a_part_of_a_history_that_is_replaced_is_told(place: StoreLocation, sealer: Sealer):
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append) as session:
        await session.add_items([message(str(number)) for number in range(4)])
        snapshot = await session._get_compaction_snapshot(2)
        assert await snapshot.replace_suffix(1, [message("summary")])
    assert [event.operation for event in told[1:]] == ["run_compaction"] * 2
    assert uses(told[1]) == {(sealer.active.kid, "ok"): 2}
    assert (uses(told[2]), told[2].removed) == ({(sealer.active.kid, "sealed"): 1}, 1)


# -- Branches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["branching-sqlite"], indirect=True)
async def test_each_method_of_branches_that_opens_or_changes_rows_is_told_by_its_name(
    place: StoreLocation, sealer: Sealer
):
    told: list[SessionEvent] = []
    async with sealer.session(place, on_event=told.append) as session:
        advanced: Any = session
        await advanced.add_items([message("red fox"), {"role": "assistant", "content": "yes"}, message("grey wolf")])
        await advanced.get_items(branch_id="main")
        await advanced.get_conversation_turns()
        await advanced.find_turns_by_content("wolf")
        await advanced.create_branch_from_content("wolf", "second")
        await advanced.switch_to_branch("main")
        await advanced.create_branch_from_turn(2, "third")
        await advanced.switch_to_branch("main")
        await advanced.delete_branch("third")
        await advanced.list_branches()
        await advanced.get_conversation_by_turns()
        await advanced.store_run_usage(None)
        await advanced.purge_expired()
    active = sealer.active.kid
    assert [event.operation for event in told] == [
        *("add_items", "get_items", "get_conversation_turns", "find_turns_by_content"),
        *("create_branch_from_content", "switch_to_branch", "create_branch_from_turn", "switch_to_branch"),
        "delete_branch",
        *("store_run_usage", "purge_expired"),
    ]
    assert [uses(event) for event in told[1:5]] == [
        {(active, "ok"): 3},
        {(active, "ok"): 2},
        {(active, "ok"): 2},
        {(active, "ok"): 2},
    ]
    assert [event.removed for event in told] == [*[0] * 8, None, 0, 0]


# -- Who is told, and when ----------------------------------------------------------------------


async def test_a_hook_of_the_process_and_of_the_session_is_told_once(sealer: Sealer, observed: list[Any]):
    told: list[Any] = []
    stop = observe(told.append)
    session = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=told.append)
    await session.add_items([message("a")])
    stop()
    await session.get_items()
    assert [event.operation for event in told if isinstance(event, SessionEvent)] == ["add_items", "get_items"]
    assert [event.operation for event in observed] == ["add_items", "get_items"]


async def test_a_hook_is_called_in_the_task_of_the_caller_and_what_it_raises_changes_nothing(
    sealer: Sealer, caplog: pytest.LogCaptureFixture
):
    tasks: list[Any] = []

    def hook(event: SessionEvent) -> None:
        tasks.append((asyncio.current_task(), current.get()))
        raise RuntimeError(event.operation)

    session = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=hook)
    await session.add_items([message("a")])
    assert len(await session.get_items()) == 1
    assert tasks == [(asyncio.current_task(), None)] * 2
    assert sum("failed: RuntimeError" in record.getMessage() for record in caplog.records) == 1


async def test_a_hook_may_use_sessions_rings_and_hooks_for_it_is_called_under_no_lock(sealer: Sealer):
    items: list[object] = []

    def hook(event: SessionEvent) -> None:
        if event.operation == "add_items":
            observe(items.append)()
            sealer.ring.active_sync()
            reading = threading.Thread(target=lambda: items.extend(asyncio.run(session.get_items())), daemon=True)
            reading.start()
            reading.join(30)

    session = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=hook)
    await session.add_items([message("a")])
    assert items == [message("a")]


async def test_one_session_around_another_tells_both(sealer: Sealer):
    told: list[SessionEvent] = []
    inner = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=told.append)
    outer = EncryptedSession.wrap(inner, sealer.ring, ttl=60, on_event=told.append)
    await outer.add_items([message("a")])
    assert [(event.operation, event.store) for event in told] == [
        ("add_items", "PlainSession"),
        ("add_items", "EncryptedSession"),
    ]


async def test_rings_of_tenants_pass_a_hook_on():
    told: list[SessionEvent] = []
    async with KeyRings(lambda tenant: KeyRing.ephemeral()) as rings:
        session = await rings.wrap(PlainSession(SESSION, []), "acme", ttl=60, on_event=told.append)
        await session.add_items([message("a")])
    assert [event.operation for event in told] == ["add_items"]


@pytest.mark.parametrize("on_event", ["log", 7, asyncio.sleep])
def test_what_is_no_function_is_refused_by_a_session(sealer: Sealer, on_event: Any):
    for make in (
        lambda: EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=on_event),
        lambda: EncryptedSession(SESSION, PlainSession(SESSION, []), sealer.ring, on_event=on_event),
    ):
        with pytest.raises(TypeError, match="on_event must be"):
            make()


def test_where_nobody_listens_nothing_is_imported():
    code = """
import asyncio, sys
from agents import SQLiteSession
from encrypted_sessions import EncryptedSession, KeyRing
async def main():
    session = EncryptedSession.wrap(SQLiteSession("s"), KeyRing.ephemeral(), ttl=60)
    await session.add_items([{"role": "user", "content": "a"}])
    await session.get_items()
    await session.pop_item()
asyncio.run(main())
print(sorted(name for name in sys.modules if name.startswith("encrypted_sessions.events.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['encrypted_sessions.events.listening', 'encrypted_sessions.events.telling']"


# -- Recorders ----------------------------------------------------------------------------------


class Notes(Recorder):
    def __init__(self, *failing: str) -> None:
        self.told: list[tuple[str, SessionEvent]] = []
        self.failing = failing

    def __call__(self, event: Any) -> None:
        pass

    def before(self, event: Any) -> Future[None]:
        return self._note("before", event)

    def after(self, event: Any) -> Future[None]:
        return self._note("after", event)

    def _note(self, when: str, event: Any) -> Future[None]:
        self.told.append((when, event))
        answer: Future[None] = Future()
        if when in self.failing:
            answer.set_exception(PermissionError(when))
        else:
            answer.set_result(None)
        return answer


async def test_a_recorder_is_told_before_what_changes_something_and_after_everything(sealer: Sealer):
    notes = Notes()
    session = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=notes)
    await session.add_items([message("a")])
    await session.get_items()
    with pytest.raises(TypeError):
        await session.add_items("a")  # type: ignore[arg-type]  # what is tested
    assert [(when, event.operation, event.error) for when, event in notes.told] == [
        ("before", "add_items", None),
        ("after", "add_items", None),
        ("after", "get_items", None),
        ("before", "add_items", None),
        ("after", "add_items", "TypeError"),
    ]
    intent, result, read = (event for _, event in notes.told[:3])
    assert intent.sequence == result.sequence < read.sequence
    assert (intent.uses, intent.removed) == ((), 0)


async def test_what_a_recorder_refuses_is_not_done(sealer: Sealer):
    notes, store = Notes("before"), PlainSession(SESSION, [])
    session = EncryptedSession.wrap(store, sealer.ring, ttl=60, on_event=notes)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: session.add_items([message("a")]),
        session.pop_item,
        session.clear_session,
        session.purge_expired,
    ]
    for call in calls:
        with pytest.raises(PermissionError, match="before"):
            await call()
        assert notes.told[-1][0] == "after"
        assert notes.told[-1][1].error == "PermissionError"
    assert await store.get_items() == []


async def test_a_read_gives_nothing_back_of_which_a_recorder_took_no_note(sealer: Sealer):
    notes = Notes()
    session = EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=60, on_event=notes)
    await session.add_items([message("a")])
    notes.failing = ("after",)
    for call in (session.get_items, session.read):
        with pytest.raises(PermissionError, match="after"):
            await call()
    with pytest.raises(PermissionError) as raised:
        await session.get_items("a")  # type: ignore[arg-type]  # what is tested
    assert isinstance(raised.value.__cause__, TypeError)

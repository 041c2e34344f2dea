"""Sessions over stores, and what an audit log has of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, audit_context
from encrypted_sessions.audit import AuditFailedError, AuditLog
from encrypted_sessions_tests.audit_files import event, said_in, verdict_of
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer
from encrypted_sessions_tests.stores import StoreLocation, open_store, raw_rows

NewLog = Callable[..., AuditLog]
ITEM: Any = {"role": "user", "content": "".join(("open", "-", "sesame"))}


def failing(patch: pytest.MonkeyPatch) -> None:
    """From now on the disk is full."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr("encrypted_sessions.audit.files.AuditFile.append", fail)


async def test_each_operation_is_a_line_and_no_item_is_in_any(
    folder: Path, new_log: NewLog, place: StoreLocation, sealer: Sealer
):
    log = new_log(session_ids="plain")
    async with open_store(place, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=None, on_event=log)
        with audit_context(actor="u-17"):
            await session.add_items([ITEM, ITEM])
            assert await session.get_items() == [ITEM, ITEM]
            assert await session.pop_item() == ITEM
            await session.clear_session()
    log.close()
    kid = sealer.active.kid
    assert [(line["operation"], line["session"], line.get("uses"), line["context"]) for line in said_in(folder)] == [
        ("add_items", SESSION, [{"kid": kid, "outcome": "sealed", "items": 2}], {"actor": "u-17"}),
        ("get_items", SESSION, [{"kid": kid, "outcome": "ok", "items": 2}], {"actor": "u-17"}),
        ("pop_item", SESSION, [{"kid": kid, "outcome": "ok", "items": 1}], {"actor": "u-17"}),
        ("clear_session", SESSION, None, {"actor": "u-17"}),
    ]
    text = json.dumps(said_in(folder))
    for secret in (ITEM["content"], sealer.active.reveal_base64(), sealer.active.secret.hex()):
        assert secret not in text
    assert verdict_of(folder).problem is None


async def test_refuse_writes_what_is_intended_before_the_store_is_touched(
    folder: Path, new_log: NewLog, place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    log = new_log(on_failure="refuse")
    async with open_store(place, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=None, on_event=log)
        await session.add_items([ITEM])
        assert [line["event"] for line in said_in(folder)] == ["intent", "session"]
        rows = await raw_rows(place, SESSION)
        with monkeypatch.context() as patch:
            failing(patch)
            for change in (session.add_items([ITEM]), session.pop_item(), session.clear_session()):
                with pytest.raises(AuditFailedError) as refused:
                    await change
                assert not refused.value.in_doubt
            assert await raw_rows(place, SESSION) == rows
            with pytest.raises(AuditFailedError):
                await session.get_items()
            with pytest.raises(AuditFailedError):
                await session.read()
        assert await session.get_items() == [ITEM]


async def test_what_was_done_and_cannot_be_written_is_in_doubt(
    folder: Path, new_log: NewLog, file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    log = new_log(on_failure="refuse")
    async with open_store(file, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=None, on_event=log)
        add = store.add_items

        async def add_and_fill_the_disk(items: Any) -> None:
            await add(items)
            failing(monkeypatch)

        monkeypatch.setattr(store, "add_items", add_and_fill_the_disk)
        with pytest.raises(AuditFailedError) as refused:
            await session.add_items([ITEM])
    assert refused.value.in_doubt
    assert len(await raw_rows(file, SESSION)) == 1


async def test_a_slow_disk_does_not_hold_up_the_event_loop(
    folder: Path, new_log: NewLog, file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    write, main = os.write, os.getpid()
    blocked: list[int] = []

    def slow(descriptor: int, data: Any) -> int:
        if threading.current_thread() is threading.main_thread():
            blocked.append(main)
        time.sleep(0.05)
        return write(descriptor, data)

    monkeypatch.setattr("encrypted_sessions.audit.files.os.write", slow)
    monkeypatch.setattr("encrypted_sessions.audit.log._LET_GO_AFTER_S", 60.0)
    log = new_log()
    async with open_store(file, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=None, on_event=log)
        for _ in range(4):
            await session.add_items([ITEM])
            # At most the line of this operation is not written yet.
            assert log._writer._brought - log._writer._done <= 1
    log.close()
    assert blocked == []
    assert [line["operation"] for line in said_in(folder) if line["event"] == "session"] == ["add_items"] * 4


async def test_who_ends_while_a_line_of_another_waits_is_held_up_until_both_are_written(
    folder: Path, new_log: NewLog, file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    """Also where it began before that one ended: whenever the process is killed, one line is missing at most."""
    disk, write = threading.Event(), os.write

    def slow(descriptor: int, data: Any) -> int:
        disk.wait(30)
        return write(descriptor, data)

    log = new_log()
    async with open_store(file, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=None, on_event=log)
        add, began, both_began = store.add_items, list[object](), asyncio.Event()

        async def add_when_both_have_begun(items: Any) -> None:
            began.append(items)
            if len(began) == 2:
                both_began.set()
            await both_began.wait()
            await add(items)

        monkeypatch.setattr(store, "add_items", add_when_both_have_begun)
        monkeypatch.setattr("encrypted_sessions.audit.files.os.write", slow)
        monkeypatch.setattr("encrypted_sessions.audit.log._LET_GO_AFTER_S", 60.0)
        calls = [asyncio.create_task(session.add_items([ITEM])) for _ in range(2)]
        try:
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.05)
            assert [call.done() for call in calls].count(True) == 1
        finally:
            disk.set()
        await asyncio.gather(*calls)


@pytest.mark.parametrize("waits", ["for a store", "for nothing"])
async def test_the_thread_is_told_of_a_line_when_its_caller_begins_to_wait(
    folder: Path, new_log: NewLog, file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch, waits: str
):
    """Who goes on computing is not to share the interpreter with a thread that wakes for it."""
    monkeypatch.setattr("encrypted_sessions.audit.writing._SYNC_S", 60.0)
    if waits == "for a store":
        monkeypatch.setattr("encrypted_sessions.audit.writer._SOON_S", 60.0)
    log = new_log()
    log(event(1))
    until_written(log)
    async with open_store(file, SESSION) as store:
        log(event(2))
        time.sleep(0.05)  # noqa: ASYNC251 - the loop does not turn, and the thread could run
        assert len(said_in(folder)) == 1
        if waits == "for a store":
            await EncryptedSession.wrap(store, sealer.ring, ttl=None).get_items()
        else:
            await asyncio.sleep(0.1)
        until_written(log)
    assert len(said_in(folder)) == 2


async def test_the_thread_is_told_at_once_of_a_second_line(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    """As loops in several threads may bring it, neither of which knew of the other's: a kill loses one at most."""
    monkeypatch.setattr("encrypted_sessions.audit.writing._SYNC_S", 60.0)
    monkeypatch.setattr("encrypted_sessions.audit.writer._SOON_S", 60.0)
    log = new_log()
    log(event(1))
    until_written(log)
    log(event(2))
    assert log.refuses
    log(event(3))
    until_written(log)
    assert len(said_in(folder)) == 3


def test_a_line_is_written_though_its_event_loop_does_not_turn_again(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.audit.writing._SYNC_S", 0.2)
    log = new_log(sync="never")

    async def use() -> None:
        log(event(2))

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for number in range(1, 6):
            log(event(number))
            until_written(log)
            loop.run_until_complete(use())
            until_written(log)
    assert len(said_in(folder)) == 10


def until_written(log: AuditLog) -> None:
    """Wait until no line waits. The event loop makes no turn for it."""
    ends = time.monotonic() + 30
    while log.refuses:
        assert time.monotonic() < ends
        time.sleep(0.002)


async def test_many_at_once_are_all_written(folder: Path, new_log: NewLog, file: StoreLocation, sealer: Sealer):
    log = new_log(on_failure="refuse", rotate_bytes=8_192)
    async with open_store(file, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=None, on_event=log)
        await asyncio.gather(*(session.add_items([ITEM]) for _ in range(20)))
    log.close()
    intents, results = (
        [line["sequence"] for line in said_in(folder) if line["event"] == name] for name in ("intent", "session")
    )
    assert sorted(intents) == sorted(results)
    assert len(set(results)) == 20
    assert verdict_of(folder).problem is None

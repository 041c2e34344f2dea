"""`observe`: who is told, when that ends, and what becomes of a hook that fails."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import Key, KeyRing, observe
from encrypted_sessions.events import hooks
from encrypted_sessions.events.hooks import Recorder, ask, ask_sync, checked_hook, next_sequence, tell, tell_sync
from encrypted_sessions.events.listening import LISTENING
from keyproviders import KeyEvent
from keyproviders import observe as observe_rings
from keyproviders.local import StaticKeyProvider


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_told_at", {})


def use_a_key(**options: Any) -> None:
    with_keys = KeyRing(StaticKeyProvider(Key.generate("one")), **options)
    with_keys.active_sync()
    with_keys.close()


async def a_coroutine_function(event: object) -> None: ...


class WithACoroutine:
    async def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize(
    "hook", [None, "log", 3, a_coroutine_function, WithACoroutine(), partial(a_coroutine_function), WithACoroutine]
)
def test_what_is_no_function_is_refused(hook: Any):
    for check in (observe, checked_hook):
        with pytest.raises(TypeError, match="must be"):
            check(hook)
    assert hook not in LISTENING.hooks


@pytest.mark.parametrize("hook", ["log", a_coroutine_function, WithACoroutine()])
def test_a_ring_refuses_it_too(hook: Any):
    with pytest.raises(TypeError, match="on_event must be"):
        use_a_key(on_event=hook)
    with pytest.raises(TypeError, match="hook must be"):
        observe_rings(hook)


def test_every_ring_of_the_process_is_heard_until_the_end():
    told: list[KeyEvent] = []
    stop = observe(told.append)
    use_a_key(name="acme")
    assert [(event.what, event.ring) for event in told] == [("fetched", "acme")]
    assert told[0].at is not None
    assert told[0].at.utcoffset() is not None
    assert told[0].took_s is not None
    assert told[0].took_s >= 0
    stop()
    stop()
    use_a_key()
    assert len(told) == 1


def test_a_hook_that_is_given_twice_is_told_once_until_the_last_is_stopped():
    told: list[KeyEvent] = []
    stops = [observe(told.append), observe(told.append)]
    use_a_key(on_event=told.append)
    assert len(told) == 1
    stops[0]()
    use_a_key()
    assert len(told) == 2
    stops[1]()
    use_a_key()
    assert len(told) == 2
    assert LISTENING.hooks == ()


def test_a_hook_that_fails_is_in_the_log_once_a_minute_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def fails(event: object) -> None:
        raise ValueError("the secret words of an error")

    told: list[object] = []
    stops = [observe(fails), observe(told.append)]
    try:
        for _ in range(3):
            tell_sync(LISTENING.hooks, "event")
        assert told == ["event"] * 3
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
        assert "fails failed: ValueError" in lines[0]
        assert f"{Path(__file__).name}:" in lines[0]
        assert "secret" not in caplog.text
        monkeypatch.setattr(hooks, "_REST_S", 0.0)
        tell_sync(LISTENING.hooks, "event")
        assert "2 more since" in caplog.records[-1].getMessage()
        assert caplog.records[-1].levelno == logging.ERROR
    finally:
        for stop in stops:
            stop()


def test_a_function_that_gives_a_coroutine_is_told_of(caplog: pytest.LogCaptureFixture):
    tell_sync((lambda event: a_coroutine_function(event),), "event")  # noqa: PLW0108 - no coroutine function itself
    assert "which is not awaited" in caplog.text


class Notes(Recorder):
    """A recorder whose answers can be made to fail."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.failing: set[str] = set()

    def _note(self, when: str, event: object) -> Future[None]:
        self.told.append((when, event))
        answer: Future[None] = Future()
        if when in self.failing:
            answer.set_exception(OSError(when))
        else:
            answer.set_result(None)
        return answer

    def __call__(self, event: Any) -> object:
        return self.told.append(("called", event))

    def before(self, event: Any) -> Future[None]:
        return self._note("before", event)

    def after(self, event: Any) -> Future[None]:
        return self._note("after", event)


def test_a_recorder_is_asked_before_and_told_after_and_is_a_plain_hook_where_it_refuses_nothing():
    notes, plain = Notes(), list[object]()
    both = (notes, plain.append)

    async def a_run() -> None:
        await ask(both, 1)
        await tell(both, 2)

    asyncio.run(a_run())
    ask_sync(both, 3)
    tell_sync(both, 4)
    assert notes.told == [("before", 1), ("after", 2), ("before", 3), ("after", 4)]
    assert plain == [2, 4]
    notes.refuses = False
    ask_sync(both, 5)
    tell_sync(both, 6)
    assert notes.told[4:] == [("called", 6)]


def test_what_a_recorder_raises_is_raised_once_all_others_are_told():
    notes, other, plain = Notes(), Notes(), list[object]()
    notes.failing = {"before", "after"}
    with pytest.raises(OSError, match="before"):
        ask_sync((notes, other), 1)
    with pytest.raises(OSError, match="after"):
        asyncio.run(tell((notes, other, plain.append), 2))
    assert ("after", 2) in other.told
    assert plain == [2]


def test_a_line_that_waits_to_be_written_is_not_taken_back_by_whoever_is_cancelled():
    class Slow(Notes):
        def after(self, event: Any) -> Future[None]:
            self.answer: Future[None] = Future()
            return self.answer

    slow = Slow()

    async def cancelled() -> None:
        task = asyncio.create_task(tell((slow,), 1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(cancelled())
    assert not slow.answer.cancelled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_counts_from_one():
    assert next_sequence() < next_sequence()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, str(next_sequence()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 20) == b"1"
    os.close(reader)
    os.close(writer)

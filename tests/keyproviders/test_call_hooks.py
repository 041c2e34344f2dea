"""Who watches rings: calls to providers as they are made, and all rings at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from contextvars import ContextVar
from datetime import datetime, timezone

import pytest

from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.keyring_fakes import ACTIVE, ScriptedKeys, impatient_ring
from keyproviders import (
    Key,
    KeyNotFoundError,
    KeyRing,
    KeyUnavailableError,
    ProviderCall,
    observe_calls,
    snapshot_rings,
)
from keyproviders.local import StaticKeyProvider

_who: ContextVar[str] = ContextVar("who", default="nobody")


class Calls:
    """A hook that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str | None, str | None]] = []
        self.waiters: list[list[str]] = []

    def __call__(self, call: ProviderCall) -> Callable[[BaseException | None], None]:
        thread = threading.current_thread()

        def end(error: BaseException | None) -> None:
            assert threading.current_thread() is thread
            self.told.append((call.place, call.question, call.kid, None if error is None else type(error).__name__))
            self.waiters.append([waiter.run(_who.get) for waiter in call.waiters])

        return end


def test_each_call_is_told_with_who_waits_and_how_it_ended():
    calls, keys = Calls(), ScriptedKeys(Key.generate("1"))
    stop = observe_calls(calls)
    try:
        with closing(impatient_ring(keys)) as ring:
            token = _who.set("somebody")
            ring.active_sync()
            with pytest.raises(KeyNotFoundError):
                ring.get_sync("2~00000000")
            _who.reset(token)
            stop()
            keys.fail(ACTIVE, KeyUnavailableError)
        with closing(impatient_ring(keys)) as ring, pytest.raises(KeyUnavailableError):
            ring.active_sync()
    finally:
        stop()
    assert calls.told == [
        ("scripted keys", "active", None, None),
        ("scripted keys", "get", "2~00000000", "KeyNotFoundError"),
    ]
    assert calls.waiters == [["somebody"], ["somebody"]]


def test_nobody_waits_for_what_is_asked_in_the_background():
    calls, clock = Calls(), FakeClock()
    with closing(KeyRing(ScriptedKeys(Key.generate("1")), clock=clock)) as ring:
        ring.active_sync()
        stop = observe_calls(calls)
        clock.now += 299
        ring.active_sync()
        while not calls.waiters:
            pass
        stop()
    assert calls.waiters == [[]]


def test_each_attempt_and_each_place_is_a_call():
    calls, first, second = Calls(), ScriptedKeys(Key.generate("1")), StaticKeyProvider(older := Key.generate("2"))
    first.fail("2", KeyUnavailableError)
    stop = observe_calls(calls)
    with closing(KeyRing(first, also_read=[second], sleep=lambda _: first.work("2"))) as ring:
        assert ring.get_sync(older.kid) == older
    stop()
    # A place that lists its names is asked for these first.
    assert [(place, question, error) for place, question, _, error in calls.told] == [
        ("the keys given in code", "names", None),
        ("scripted keys", "get", "KeyUnavailableError"),
        ("the keys given in code", "get", None),
    ]


def test_a_hook_that_fails_changes_nothing_and_its_words_are_not_logged(caplog: pytest.LogCaptureFixture):
    def failing(_: ProviderCall) -> Callable[[BaseException | None], None]:
        def end(_: BaseException | None) -> None:
            raise RuntimeError("the words")

        return end

    def broken(_: ProviderCall) -> None:
        raise ValueError("the words")

    calls = Calls()
    stops = [observe_calls(hook) for hook in (failing, broken, calls)]
    with closing(KeyRing.ephemeral()) as ring:
        ring.active_sync()
    for stop in stops:
        stop()
    assert len(calls.told) == 1
    failed = [record.message for record in caplog.records if "hook failed" in record.message]
    assert failed == [
        f"a hook failed on a call to the keys given in code: {kind}" for kind in ("ValueError", "RuntimeError")
    ]
    assert "the words" not in caplog.text


def test_what_cannot_be_called_is_no_hook():
    with pytest.raises(TypeError, match="hook must be callable, not str"):
        observe_calls("print")  # type: ignore[arg-type]


def test_a_snapshot_has_each_ring_that_is_in_use_and_uses_none():
    made, clock = datetime(2026, 1, 2, tzinfo=timezone.utc), FakeClock()
    key = Key("1", Key.generate().secret, created_at=made)
    with closing(KeyRing(StaticKeyProvider(key), clock=clock, name="one of many")) as ring:
        (unused,) = (one for one in snapshot_rings() if one.ring == "one of many")
        assert unused.is_resting
        ring.active_sync()
        (used,) = (one for one in snapshot_rings() if one.ring == "one of many")
        assert (used.place, used.created_at, used.is_resting) == ("the keys given in code", {key.kid: made}, False)
        assert used.health.active_kid == key.kid
        clock.now += 6 * 3600
        snapshot_rings()
        (rested,) = (one for one in snapshot_rings() if one.ring == "one of many")
        assert rested.is_resting
    assert "one of many" not in {one.ring for one in snapshot_rings()}

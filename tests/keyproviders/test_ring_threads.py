"""A ring with real threads, event loops and time."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Container, Hashable
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyproviders import (
    CachePolicy,
    Key,
    KeyNotAskedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.ring.cache import CacheEntry
from keyproviders.ring.calls import InFlightCall
from keyproviders.testing import FakeKeyProvider

from .conftest import Unlisted

FOR_EVER = 3600.0


def until(holds: Callable[[], object]) -> None:
    """Wait for what another thread brings about."""
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


class Gate(FakeKeyProvider):
    """Lets nobody through before it is opened; counts those inside."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.inside = self.most = 0

    def _answer(self, question: str, name: str) -> Key:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(60)
        with self._lock:
            self.inside -= 1
        return super()._answer(question, name)


def test_no_more_than_four_calls_are_made_at_once_by_one_ring() -> None:
    place = Gate()
    keys = [place.key(), *(place.rotate() for _ in range(30))]
    ring = KeyRing(place)
    place.open.set()
    assert [ring.get_sync(key.kid) for key in keys] == keys
    place.open.clear()
    place.most = 0
    for entry in ring._engine.cache.by_kid.values():
        entry.ask_at = 0  # due, and used a moment ago
    assert [ring.get_sync(key.kid) for key in keys] == keys
    until(lambda: place.inside == 4)
    place.open.set()
    until(lambda: not ring.health().counts["waiting"])
    assert place.most == 4
    ring.close()


def test_no_more_than_two_of_them_look_for_keys_that_were_never_found_and_one_for_each_asker() -> None:
    place = Gate()
    keys = [place.key(), *(place.rotate() for _ in range(30))]
    ring = KeyRing(place, retry=RetryPolicy(deadline_s=60))
    with ThreadPoolExecutor(31) as pool:
        found = [pool.submit(ring.get_sync, key.kid, asker="one") for key in keys[:15]]
        until(lambda: place.inside == 1)
        time.sleep(0.05)
        assert place.inside == 1
        found += [pool.submit(ring.get_sync, key.kid, asker=key.name) for key in keys[15:]]
        until(lambda: place.inside == 2)
        place.open.set()
        assert [one.result(60) for one in found] == keys
    assert place.most == 2
    ring.close()


class Slow(Unlisted):
    """Every key that it lacks takes it a moment."""

    def _answer(self, question: str, name: str) -> Key:
        if name not in self._keys and name != "active":
            time.sleep(0.02)
        return super()._answer(question, name)


async def test_invented_kids_of_one_asker_hold_up_another_by_no_more_than_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Slow()
    keys = [place.key(), *(place.rotate() for _ in range(3))]
    ring = KeyRing(place, retry=RetryPolicy(deadline_s=2))
    lookups = ring._engine.calls.lookups
    join, take = lookups.join, lookups.take
    log: list[str] = []  # written under the ring's lock: a loaded machine changes nothing of the order

    def joined(call: InFlightCall, asker: Hashable) -> None:
        if asker == "another":
            log.append(f"wants {call.name}")
        join(call, asker)

    def taken(names: Container[str], now: float) -> InFlightCall | None:
        call = take(names, now)
        if call is not None:
            log.append(call.name)
        return call

    monkeypatch.setattr(lookups, "join", joined)
    monkeypatch.setattr(lookups, "take", taken)
    junk = [asyncio.ensure_future(ring.get(f"junk{number}~00000000", asker="junk")) for number in range(200)]
    await asyncio.to_thread(until, lambda: len(place.asked) > 2)
    assert [await ring.get(key.kid, asker="another", wait_s=60) for key in keys] == keys
    for key in keys:
        assert log.index(key.name) - log.index(f"wants {key.name}") <= 2, log  # one of the other's, and then it
    ends = await asyncio.gather(*junk, return_exceptions=True)
    assert {type(end) for end in ends} <= {KeyNotFoundError, KeyNotAskedError, KeyUnavailableError}
    await ring.aclose()


async def test_while_look_ups_hang_the_active_key_and_held_ones_are_still_asked_for() -> None:
    class Stuck(Unlisted):
        let_go = threading.Event()

        def get(self, name: str) -> Key:
            if name.startswith("junk"):
                self.let_go.wait(60)
            return super().get(name)

    place = Stuck()
    older = place.key()
    place.rotate()
    ring = KeyRing(place, retry=RetryPolicy(deadline_s=0.5))
    assert await ring.get(older.kid) is older
    junk = [asyncio.ensure_future(ring.get(f"junk{at}~00000000", asker=f"junk{at}")) for at in range(50)]
    await asyncio.sleep(0.05)
    newer = place.rotate()
    assert await ring.refresh() is newer
    entry = ring._engine.cache.by_kid[older.kid]
    entry.used_at = entry.healthy_at = entry.ask_at = -1e9  # idle: it is asked for first
    place.asked.clear()
    assert await ring.get(older.kid) is older
    assert place.asked == [older.name]
    ends = await asyncio.gather(*junk, return_exceptions=True)
    assert [type(end) for end in ends].count(KeyUnavailableError) == 2
    assert [type(end) for end in ends].count(KeyNotAskedError) == 48
    place.let_go.set()
    await ring.aclose()


async def test_what_nobody_waits_for_any_more_is_not_asked_for() -> None:
    place = Gate()
    ring = KeyRing(place, retry=RetryPolicy(deadline_s=60))
    older = place.key()
    place.rotate()
    first = asyncio.ensure_future(ring.get(older.kid, asker="one"))
    await asyncio.to_thread(until, lambda: place.inside == 1)
    others = [asyncio.ensure_future(ring.get(f"{older.name}~{at:08x}", asker="one")) for at in range(5)]
    others += [asyncio.ensure_future(ring.get(place.rotate().kid, asker="one")) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert ring.health().counts["waiting"] == 6
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert ring.health().counts["waiting"] == 1
    place.open.set()
    assert await first is older
    assert place.asked == [older.name]
    await ring.aclose()


async def test_an_idle_key_waits_three_seconds_at_most_for_a_place_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyproviders.ring.flows._ASK_FIRST_S", 0.2)
    place = Gate()
    place.open.set()
    ring = KeyRing(place)
    key = await ring.active()
    place.open.clear()
    entry = CacheEntry(key, ring._engine.clock() - 2 * 3600)
    ring._engine.cache.by_kid[key.kid] = entry
    began = time.monotonic()
    assert await ring.get(key.kid) is key
    assert 0.15 < time.monotonic() - began < 5
    place.open.set()
    await ring.aclose()


async def test_thirty_good_older_keys_at_once_all_open_with_one_call_each() -> None:
    place = FakeKeyProvider()
    keys = [place.key(), *(place.rotate() for _ in range(29))]
    place.slow_down(0.005)
    async with KeyRing(place) as ring:
        found = await asyncio.gather(*(ring.get(key.kid) for key in keys for _ in range(10)))
        assert set(found) == set(keys)
    assert sorted(place.asked) == sorted(["active", *(key.name or "" for key in keys[:-1])])


async def test_five_older_keys_needed_at_once_by_a_cold_process_cost_one_call_each() -> None:
    place = FakeKeyProvider()
    keys = [place.key(), *(place.rotate() for _ in range(4))]
    place.rotate()
    ring = KeyRing(place)
    await asyncio.gather(*(ring.get(key.kid) for key in keys for _ in range(100)))
    assert sorted(place.asked) == ["1", "2", "3", "4", "5"]
    await ring.aclose()


async def test_two_thousand_invented_kids_at_once_cost_at_most_five_calls_a_second() -> None:
    place = Unlisted()
    ring = KeyRing(place, retry=RetryPolicy(deadline_s=1))
    kids = [f"invented{number}~{number:08x}" for number in range(2000)]
    began = time.monotonic()
    ends = await asyncio.gather(*(ring.get(kid) for kid in kids), return_exceptions=True)
    assert 5 <= len(place.asked) <= 5 + 5 * (time.monotonic() - began)
    for kid, end in zip(kids, ends, strict=True):
        asked = kid.partition("~")[0] in place.asked
        # Its time may be over just when it is asked for.
        assert type(end) in ({KeyNotFoundError, KeyUnavailableError} if asked else {KeyNotAskedError})
    await ring.aclose()


async def test_two_thousand_invented_kids_at_once_cost_a_place_that_knows_all_it_has_one_reading_at_a_time() -> None:
    class Counting(FakeKeyProvider):
        readings = 0

        def names(self) -> dict[str, str | None]:
            self.readings += 1
            time.sleep(0.2)
            return super().names()

    place = Counting()
    ring = KeyRing(place)
    kids = [f"invented{number}~{number:08x}" for number in range(2000)]
    began = time.monotonic()
    ends = await asyncio.gather(*(ring.get(kid, wait_s=60) for kid in kids), return_exceptions=True)
    assert {type(end) for end in ends} == {KeyNotFoundError}
    assert place.asked == []
    assert place.readings <= 1 + (time.monotonic() - began) / 0.2 < 100
    await ring.aclose()


async def test_a_warm_ring_answers_while_its_place_hangs() -> None:
    place = FakeKeyProvider()
    ring = KeyRing(place, cache=CachePolicy(fresh_s=0.05, stale_write_s=60))
    key = await ring.active()
    place.slow_down(FOR_EVER)
    await asyncio.to_thread(until, lambda: len(place.asked) == 2)
    assert await ring.active() is key
    assert ring.active_sync() is key
    assert await ring.get(key.kid) is key
    assert len(place.asked) == 2
    place.come_back()
    await ring.aclose()


async def test_a_rotation_is_noticed_by_the_timer_without_any_use() -> None:
    place = FakeKeyProvider()
    seen: list[str | None] = []
    ring = KeyRing(place, cache=CachePolicy(fresh_s=0.1), on_event=lambda event: seen.append(event.kid))
    await ring.active()
    newer = place.rotate()
    await asyncio.to_thread(until, lambda: newer.kid in seen)
    assert await ring.active() is newer
    await ring.aclose()


async def test_writing_stops_and_reading_goes_on_in_real_time() -> None:
    place = FakeKeyProvider()
    once = RetryPolicy(attempts=1)
    ring = KeyRing(place, cache=CachePolicy(fresh_s=0.1, stale_write_s=0.4, stale_read_s=4.0), retry=once)
    key = await ring.active()
    place.go_down()
    await asyncio.to_thread(until, lambda: not ring.health().can_write)
    with pytest.raises(KeyUnavailableError, match="too long ago to write"):
        await ring.active()
    assert await ring.get(key.kid) is key
    await asyncio.to_thread(until, lambda: ring.health().held == ())
    with pytest.raises(KeyUnavailableError):
        await ring.get(key.kid)
    await ring.aclose()


async def test_a_stuck_call_shows_in_health_and_the_next_caller_does_not_wait_for_it() -> None:
    place = FakeKeyProvider()
    place.slow_down(FOR_EVER)
    ring = KeyRing(place, retry=RetryPolicy(deadline_s=0.05))
    with pytest.raises(KeyUnavailableError, match=r"did not answer within 0\.05 s"):
        await ring.active()
    await asyncio.to_thread(until, lambda: ring.health().stuck == ("active() for 0 s",))
    assert ring.health().counts["waiting"] == 1
    with pytest.raises(KeyUnavailableError, match="did not answer"):
        ring.active_sync()
    assert place.asked == ["active"]
    place.come_back()
    await asyncio.to_thread(until, lambda: ring.health().can_write)
    assert ring.health().stuck == ()
    await ring.aclose()


def test_close_waits_three_seconds_at_most_and_names_what_it_leaves(caplog: pytest.LogCaptureFixture) -> None:
    place = Unlisted()
    older = place.key()
    place.rotate()
    ring = KeyRing(place)
    ring.active_sync()
    place.slow_down(FOR_EVER)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ring.get_sync, older.kid)
        until(lambda: len(place.asked) == 2)
        ring.close()
        with pytest.raises(KeyProviderError, match="is closed"):
            waiting.result(60)
    assert f"close() returned while calls were still running: {older.kid} for " in caplog.text
    place.come_back()
    until(lambda: not ring._engine.calls.running)
    assert ring.health().held == ()


async def test_a_provider_whose_close_hangs_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(FakeKeyProvider):
        let_go = threading.Event()

        def close(self) -> None:
            self.let_go.wait(10)

    ring = KeyRing(Hanging())
    await ring.active()
    await ring.aclose()
    assert "close() returned while the provider's own close() was still running" in caplog.text
    Hanging.let_go.set()


async def test_a_provider_whose_close_fails_is_closed_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(FakeKeyProvider):
        def close(self) -> None:
            raise RuntimeError("hunter2")

    async with KeyRing(Failing()):
        pass
    assert "failed: RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


def test_short_lived_loops_share_a_ring() -> None:
    place = FakeKeyProvider()
    older = place.key()
    place.rotate()
    ring = KeyRing(place)
    for _ in range(50):
        assert asyncio.run(ring.active()) is place.key()
        assert asyncio.run(ring.get(older.kid)) is older
    assert place.asked == ["active", "1"]
    ring.close()


def test_a_loop_that_ends_while_it_waits_harms_nobody() -> None:
    place = Gate()
    ring = KeyRing(place)

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ring.active(), 0.05)

    asyncio.run(give_up())
    place.open.set()
    assert ring.active_sync() is place.key()
    assert place.asked == ["active"]
    ring.close()


def test_it_works_under_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    place = FakeKeyProvider()
    older = place.key()
    place.rotate()

    async def use() -> None:
        async with KeyRing(place) as ring:
            found = await asyncio.gather(*(ring.get(older.kid) for _ in range(100)))
            assert set(found) == {older}
            assert await ring.refresh() is place.key()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(use())
    finally:
        loop.close()
    assert place.asked == ["active", "1", "active"]


async def test_a_refresh_that_begins_while_a_call_is_under_way_asks_again() -> None:
    place = Gate()
    place.open.set()
    ring = KeyRing(place)
    await ring.active()
    place.open.clear()
    first = asyncio.ensure_future(ring.refresh())
    await asyncio.to_thread(until, lambda: place.inside == 1)
    others = [asyncio.ensure_future(ring.refresh()) for _ in range(10)]
    await asyncio.sleep(0.05)
    place.open.set()
    await asyncio.gather(first, *others)
    assert place.asked == ["active"] * 3
    await ring.aclose()


def test_a_ring_that_is_forgotten_is_collected_with_its_keys() -> None:
    ring = KeyRing(FakeKeyProvider())
    gone = weakref.ref(ring)
    key_gone = weakref.ref(ring.active_sync())
    del ring
    until(lambda: gc.collect() >= 0 and gone() is None and key_gone() is None)


def test_rings_that_are_gone_are_forgotten_by_the_fork_hooks() -> None:
    from keyproviders.ring import forks

    gc.collect()
    before = len(forks._members)
    rings = [KeyRing(FakeKeyProvider()) for _ in range(10)]
    assert len(forks._members) == before + 10
    del rings
    gc.collect()
    assert len(forks._members) <= before


async def test_many_waiters_get_errors_of_their_own() -> None:
    place = FakeKeyProvider()
    place.deny()
    ring = KeyRing(place)
    ends = await asyncio.gather(*(ring.active() for _ in range(5)), return_exceptions=True)
    assert len({id(end) for end in ends}) == 5
    assert {str(end) for end in ends} == {f"{place.place} was told to fail"}
    await ring.aclose()


async def test_a_foreign_error_reaches_the_caller_and_what_would_end_a_waiter_does_not() -> None:
    class Odd(FakeKeyProvider):
        error: BaseException = LookupError("foreign")

        def active(self) -> Key:
            raise self.error

    place = Odd()
    ring = KeyRing(place)
    for _ in range(2):
        with pytest.raises(LookupError, match="foreign"):
            await ring.active()
    for error in (SystemExit(1), asyncio.CancelledError(), StopIteration()):
        place.error = error
        with pytest.raises(RuntimeError):
            await ring.active()
    await ring.aclose()


def test_after_a_fork_the_provider_is_renewed_before_its_first_call_and_its_failure_is_raised() -> None:
    class Renewed(FakeKeyProvider):
        ready = False
        renewed = 0

        def after_fork(self) -> None:
            self.renewed += 1
            if not self.ready:
                raise ProviderConfigError("this client cannot be used in a forked process; pass a factory")

    place = Renewed()
    ring = KeyRing(place)
    # The hooks themselves, as in a child: a fork of the process that runs the tests helps nobody.
    ring._engine._before_fork()
    ring._engine._after_fork_in_child()
    for _ in range(2):
        with pytest.raises(ProviderConfigError, match="cannot be used in a forked process"):
            ring.active_sync()
    place.ready = True
    assert ring.active_sync() is place.key()
    assert place.renewed == 3
    ring.close()


def test_two_public_ids_of_one_name_are_asked_for_one_after_the_other() -> None:
    key = Key.generate("v1")
    asking: list[str] = []
    together: list[int] = []

    class Place:
        def active(self) -> Key:
            return key

        def get(self, name: str) -> Key:
            asking.append(name)
            together.append(asking.count(name))
            time.sleep(0.05)
            asking.remove(name)
            return key

    kids = [key.kid, *(f"v1~{number:08x}" for number in range(5))]
    with ThreadPoolExecutor(len(kids)) as threads:
        ring = KeyRing(Place())
        answers = [threads.submit(ring.get_sync, kid) for kid in kids]
    assert answers[0].result() == key
    for answer in answers[1:]:
        with pytest.raises(KeyNotFoundError, match="this name now means another key"):
            answer.result()
    # What it said of the name holds for all of them; who comes first may have asked for another.
    assert together in ([1], [1, 1])
    ring.close()

"""The rules of a ring, one test for each, with a clock that only the test moves."""

from __future__ import annotations

import base64
import logging
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TYPE_CHECKING, Any

import pytest

from keyproviders import (
    CachePolicy,
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotAskedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
)
from keyproviders.ring.cache import KeyCache
from keyproviders.ring.lookups import TokenBucket
from keyproviders.testing import FakeKeyProvider

from .conftest import Unlisted

if TYPE_CHECKING:
    from collections.abc import Callable

    Making = Callable[..., Any]

HOUR = 3600.0
DAY = 24 * HOUR
# Failures that say nothing about whether the key may be used.
COASTING = [
    KeyUnavailableError("down"),
    InvalidKeyError("junk"),
    ProviderConfigError("broken"),
    RuntimeError("foreign"),
]
DENIALS = [KeyAccessDeniedError("no"), KeyNotFoundError("gone")]
ENDS = [KeyDisabledError("disabled"), KeyDestroyedError("destroyed")]


def ids(errors: list[Any]) -> list[str]:
    return [type(error).__name__ for error in errors]


class Failing(Unlisted):
    """Raises what it is told to, for everything or for one question."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, Exception] = {}

    def _answer(self, question: str, name: str) -> Key:
        key = super()._answer(question, name)
        error = self.errors.get(question) or self.errors.get("*")
        if error is not None:
            raise copy(error)  # the same one would keep the frames of each time that it was raised
        return key


def two_keys(still: Making, **kwargs: Any) -> tuple[Any, Key, Key]:
    """A ring that holds an older key and the active one."""
    s = still(provider=Failing(), **kwargs)
    older = s.place.key()
    active = s.place.rotate()
    assert s.ring.active_sync() is active
    assert s.ring.get_sync(older.kid) is older
    s.place.asked.clear()
    s.events.clear()
    return s, older, active


# The active key.


def test_a_fresh_active_key_is_not_asked_for_again(still: Making) -> None:
    s = still()
    for _ in range(239):
        s.ring.active_sync()
        s.run(1)
    assert s.place.asked == ["active"]


def test_it_is_refreshed_in_the_background_from_eighty_percent_of_its_freshness(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.run(239)
    assert s.place.asked == ["active"]
    s.run(1)
    assert s.place.asked == ["active", "active"]
    assert s.reported() == ["fetched", "refreshed"]


def test_each_freshness_is_drawn_from_ten_percent_around() -> None:
    drawn = set()
    for _ in range(300):
        cache = KeyCache(CachePolicy(), "here")
        cache.put_active(Key.generate("a"), 0.0)
        drawn.add(cache.write_valid_without_check_until(0.0))
    assert 216 <= min(drawn) < 220
    assert 260 < max(drawn) <= 264
    assert len(drawn) > 200


def test_a_token_bucket_counts_no_time_twice() -> None:
    bucket = TokenBucket(2, every_s=10.0)
    assert bucket.take(0.0)
    assert bucket.take(0.0)
    assert bucket.next_in_s(9.0) == pytest.approx(1.0)
    assert bucket.next_in_s(0.0) == pytest.approx(1.0)
    assert bucket.next_in_s(9.0) == pytest.approx(1.0)
    assert not bucket.take(9.0)
    assert bucket.take(10.0)


def test_the_timer_runs_while_the_ring_was_used_within_six_hours(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.run(6 * HOUR, step=10)
    asked = len(s.place.asked)
    assert asked == 1 + 6 * 15
    s.run(6 * HOUR, step=10)
    assert len(s.place.asked) == asked
    s.ring.active_sync()
    assert len(s.place.asked) == asked + 1


def test_a_rotation_is_noticed_and_the_former_key_is_still_held(still: Making) -> None:
    s = still()
    former = s.ring.active_sync()
    newer = s.place.rotate()
    s.run(239)
    assert s.ring.active_sync() is former
    s.run(2)
    assert s.ring.active_sync() is newer
    assert s.ring.get_sync(former.kid) is former
    # Without waiting for it: how old the last confirmation was, a place that keeps copies alone knows.
    assert s.place.asked == ["active", "active", "1"]


@pytest.mark.parametrize("error", COASTING, ids=ids(COASTING))
def test_while_the_place_fails_writing_ends_after_900_s_and_reading_after_24_h(still: Making, error: Exception) -> None:
    s, older, active = two_keys(still)
    s.place.errors["*"] = error
    s.time.pass_by(899)
    assert s.ring.active_sync() is active
    s.time.pass_by(1)
    with pytest.raises(type(error), match=str(error)):
        s.ring.active_sync()
    assert s.ring.get_sync(active.kid) is active
    s.run(DAY - 900 - 60, step=60)
    s.run(59)
    for key in (active, older):
        assert s.ring.get_sync(key.kid) is key
    s.time.pass_by(1)
    for key in (active, older):
        with pytest.raises(type(error)):
            s.ring.get_sync(key.kid)
    assert s.ring.health().held == ()


def test_the_error_at_the_end_of_writing_says_how_old_the_key_is(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.place.go_down()
    s.time.pass_by(900)
    with pytest.raises(KeyUnavailableError, match="was last confirmed 900 s ago: too long ago to write"):
        s.ring.active_sync()


@pytest.mark.parametrize("error", [*COASTING, *DENIALS], ids=ids([*COASTING, *DENIALS]))
def test_a_failure_never_extends_a_clock(still: Making, error: Exception) -> None:
    s, _, active = two_keys(still)
    s.place.errors["*"] = error
    for _ in range(898):
        s.time.pass_by(1)
        try:
            assert s.ring.active_sync() is active
        except type(error):
            assert error in DENIALS
    s.time.pass_by(2)
    with pytest.raises(type(error)):
        s.ring.active_sync()


def test_the_place_coming_back_ends_an_outage_by_itself(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.place.go_down()
    s.run(2000)
    assert not s.ring.health().can_write
    s.place.come_back()
    s.run(25)
    assert s.ring.health().can_write
    assert s.ring.active_sync() is s.place.key()


def test_failed_refreshes_are_at_least_ten_seconds_apart(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.place.go_down()
    s.run(240)
    for _ in range(68):
        before = len(s.place.asked)
        s.run(9.5, step=0.5)
        s.ring.active_sync()
        assert len(s.place.asked) <= before + 1
    assert len(s.place.asked) == 2 + 64


def test_a_refresh_waits_as_long_as_the_place_asks_but_no_longer_than_a_minute(still: Making) -> None:
    for asked_s, pause_s in ((25, 25), (500, 60), (1, 10)):
        s = still(provider=Failing())
        s.ring.active_sync()
        s.place.errors["*"] = KeyUnavailableError("later", retry_after_s=asked_s)
        s.run(240)
        assert len(s.place.asked) == 2
        s.run(pause_s - 1)
        assert len(s.place.asked) == 2
        s.run(1)
        assert len(s.place.asked) == 3


def test_use_beyond_freshness_is_told_once_in_an_outage(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.place.go_down()
    for _ in range(60):
        s.run(10)
        s.ring.active_sync()
    assert s.reported().count("served stale") == 1
    s.place.come_back()
    s.run(30)
    s.place.go_down()
    s.run(400)
    s.ring.active_sync()
    assert s.reported().count("served stale") == 2


# Denial.


@pytest.mark.parametrize("error", DENIALS, ids=ids(DENIALS))
def test_a_denial_of_the_active_key_coasts_for_its_grace_and_then_drops_all_keys(
    still: Making, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    s, older, active = two_keys(still)
    s.place.errors["active"] = error
    s.run(240)
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    s.run(299)
    assert s.ring.active_sync() is active
    assert [s.ring.get_sync(key.kid) for key in (active, older)] == [active, older]
    s.run(1)
    assert s.ring.health().held == ()
    with pytest.raises(type(error)):
        s.ring.active_sync()
    assert s.reported()[-2:] == ["dropped", "denied" if isinstance(error, KeyAccessDeniedError) else "failed"]


def test_a_denial_that_ends_within_its_grace_is_forgotten(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    for _ in range(5):
        s.place.deny()
        s.run(240 + 280)
        s.place.come_back()
        s.run(11)
    assert s.ring.active_sync() is s.place.key()
    assert "dropped" not in s.reported()


def test_an_outage_after_a_denial_does_not_prolong_its_grace(still: Making) -> None:
    s = still()
    s.ring.active_sync()
    s.place.deny()
    s.run(240)
    s.place.go_down()
    s.run(299)
    assert s.ring.health().can_write
    s.run(1)
    assert not s.ring.health().can_write
    assert s.ring.health().held == ()


@pytest.mark.parametrize("error", DENIALS, ids=ids(DENIALS))
def test_a_denial_of_an_older_key_drops_that_key_only(still: Making, error: Exception) -> None:
    s, older, active = two_keys(still)
    s.place.errors[older.name or ""] = error
    s.run(HOUR)
    assert s.ring.get_sync(older.kid) is older
    s.run(299)
    assert s.ring.get_sync(older.kid) is older
    s.run(1)
    with pytest.raises(type(error)):
        s.ring.get_sync(older.kid)
    assert s.ring.active_sync() is active
    assert s.ring.get_sync(active.kid) is active


@pytest.mark.parametrize("error", ENDS, ids=ids(ENDS))
def test_a_disabled_or_destroyed_key_is_dropped_at_once(still: Making, error: Exception) -> None:
    s, older, active = two_keys(still)
    s.place.errors[older.name or ""] = error
    s.run(HOUR)
    s.ring.get_sync(older.kid)  # asked again in the background
    with pytest.raises(type(error)):
        s.ring.get_sync(older.kid)
    s.place.errors["active"] = s.place.errors[active.name or ""] = error
    s.run(240)
    for find in (s.ring.active_sync, lambda: s.ring.get_sync(active.kid)):
        with pytest.raises(type(error)):
            find()
    assert s.ring.health().held == ()


# How soon a busy process stops. What is done to a key-encryption key is in tests/keyset/test_revocation.py.


def stops_after(s: Any, *uses: Callable[[], Key]) -> float:
    """A process that uses its keys every five seconds: how long until no use goes on."""
    began = s.time.now
    while sum(map(fails, uses)) < len(uses):
        s.run(5, step=5)
        assert s.time.now < began + 3 * HOUR
    return float(s.time.now - began)


def fails(use: Callable[[], Key]) -> bool:
    try:
        use()
    except KeyProviderError:
        return True
    return False


def be_busy(s: Any, for_s: int, jitter: float, *older: str) -> None:
    """Write, and read with these older keys, every five seconds."""
    s.ring._engine.cache._jitter = lambda: jitter
    for _ in range(for_s // 5):
        s.run(5, step=5)
        s.ring.active_sync()
        for kid in older:
            s.ring.get_sync(kid)


@pytest.mark.parametrize("jitter", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("after_s", [0, 5, 100, 235, 240, 260, 3_599, 7_000])
@pytest.mark.parametrize("error", DENIALS, ids=ids(DENIALS))
def test_a_busy_process_stops_within_11_minutes_after_its_access_was_revoked(
    still: Making, error: Exception, after_s: int, jitter: float
) -> None:
    s, older, active = two_keys(still)
    be_busy(s, after_s, jitter, older.kid)
    s.place.errors["*"] = error
    reads = [lambda kid=key.kid: s.ring.get_sync(kid) for key in (older, active)]
    assert stops_after(s, s.ring.active_sync, *reads) <= 11 * 60


@pytest.mark.parametrize("jitter", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("after_s", [0, 5, 100, 235, 240, 260, 3_599, 7_000])
@pytest.mark.parametrize("error", ENDS, ids=ids(ENDS))
def test_a_busy_process_stops_within_6_minutes_after_the_active_key_was_disabled_or_destroyed(
    still: Making, error: Exception, after_s: int, jitter: float
) -> None:
    s, older, active = two_keys(still)
    be_busy(s, after_s, jitter)
    s.place.errors["active"] = s.place.errors[active.name or ""] = error
    assert stops_after(s, s.ring.active_sync, lambda: s.ring.get_sync(active.kid)) <= 6 * 60
    assert s.ring.get_sync(older.kid) is older


@pytest.mark.parametrize("after_s", [0, 5, 3_000, 3_595, 7_000])
@pytest.mark.parametrize("error", ENDS, ids=ids(ENDS))
def test_a_busy_process_reads_no_longer_than_62_minutes_with_an_older_key_that_was_disabled_or_destroyed(
    still: Making, error: Exception, after_s: int
) -> None:
    s, older, active = two_keys(still)
    for _ in range(after_s // 5):
        s.run(5, step=5)
        s.ring.get_sync(older.kid)
    s.place.errors[older.name or ""] = error
    assert stops_after(s, lambda: s.ring.get_sync(older.kid)) <= 62 * 60
    assert s.ring.active_sync() is active


def test_failures_that_a_person_must_mend_are_logged_as_errors_from_the_first(
    still: Making, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (*COASTING[1:], *DENIALS):
        s, _, _ = two_keys(still)
        s.place.errors["*"] = error
        caplog.clear()
        s.run(240)
        assert [record.levelno for record in caplog.records] == [logging.ERROR], error


def test_the_words_of_a_foreign_error_are_not_logged(still: Making, caplog: pytest.LogCaptureFixture) -> None:
    s = still(provider=Failing())
    s.ring.active_sync()
    s.place.errors["*"] = RuntimeError("https://user:hunter2@host")
    s.run(300)
    assert "RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text
    assert not any("hunter2" in event.message for event in s.events)


# Older keys.


def test_an_older_key_is_asked_for_again_when_it_is_used_after_an_hour(still: Making) -> None:
    s, older, _ = two_keys(still)
    s.run(HOUR - 1)
    s.ring.get_sync(older.kid)
    assert older.name not in s.place.asked
    s.run(1)
    s.ring.get_sync(older.kid)
    s.ring.get_sync(older.kid)
    assert s.place.asked.count(older.name) == 1
    s.run(HOUR - 2)
    s.ring.get_sync(older.kid)
    assert s.place.asked.count(older.name) == 1


def test_an_older_key_that_nobody_uses_is_not_asked_for_and_ends_after_24_h(still: Making) -> None:
    s, older, active = two_keys(still)
    for _ in range(24):
        s.ring.active_sync()
        s.run(HOUR - 1, step=60)
    assert older.kid in s.ring.health().held
    s.run(30)
    assert older.name not in s.place.asked
    assert s.ring.health().held == (active.kid,)


def test_an_older_key_that_is_used_lives_on_as_long_as_the_place_confirms_it(still: Making) -> None:
    s, older, _ = two_keys(still)
    for _ in range(72):
        s.run(HOUR, step=60)
        assert s.ring.get_sync(older.kid) is older


def test_an_outage_of_an_older_key_does_not_touch_the_active_one(still: Making) -> None:
    s, older, active = two_keys(still)
    s.place.errors[older.name or ""] = KeyUnavailableError("down")
    for _ in range(23 * 6):
        s.run(600, step=20)
        assert s.ring.get_sync(older.kid) is older
        assert s.ring.active_sync() is active
    assert s.ring.health().can_write


def test_older_keys_behind_one_that_failed_are_not_asked_for_in_an_outage(still: Making) -> None:
    s = still()
    keys = [s.place.key(), *(s.place.rotate() for _ in range(30))]
    s.ring.active_sync()
    for key in keys:
        s.ring.get_sync(key.kid)
    s.run(HOUR)
    s.place.go_down()
    s.place.asked.clear()
    s.workers.hold = True
    for key in keys[:-1]:
        assert s.ring.get_sync(key.kid) is key
    s.workers.let_go()
    assert len(s.place.asked) == 1


def test_in_an_outage_a_use_of_an_older_key_that_is_due_needs_no_thought(still: Making) -> None:
    s, older, active = two_keys(still)
    s.place.go_down()
    s.run(HOUR)
    s.ring.get_sync(older.kid)
    s.ring.get_sync(active.kid)
    for key in (older, active):
        assert s.ring._engine.get_without_check(key.kid) is key


# Keys that were not used for long.


@pytest.mark.parametrize("error", ENDS, ids=ids(ENDS))
def test_a_process_that_was_idle_for_20_h_does_not_read_with_a_key_that_was_revoked(
    still: Making, error: Exception
) -> None:
    s, older, active = two_keys(still)
    s.place.errors["*"] = error
    s.time.pass_by(20 * HOUR)
    for key in (older, active):
        with pytest.raises(type(error)):
            s.ring.get_sync(key.kid)


def test_an_older_key_unused_for_more_than_revalidate_s_is_asked_for_first(still: Making) -> None:
    s, older, _ = two_keys(still)
    s.time.pass_by(HOUR)
    s.workers.hold = True
    assert s.ring.get_sync(older.kid) is older  # in the background: it was used an hour ago
    s.workers.hold = False
    s.workers.let_go()
    s.time.pass_by(HOUR + 1)
    s.place.asked.clear()
    assert s.ring.get_sync(older.kid) is older
    assert s.place.asked == [older.name]
    s.time.pass_by(HOUR - 1)
    assert s.ring.get_sync(older.kid) is older
    assert s.place.asked == [older.name]


@pytest.mark.parametrize("error", COASTING, ids=ids(COASTING))
def test_an_idle_key_coasts_after_one_attempt_when_there_is_no_answer(still: Making, error: Exception) -> None:
    s, older, active = two_keys(still, retry=RetryPolicy())
    s.place.errors["*"] = error
    s.time.pass_by(20 * HOUR)
    s.place.asked.clear()
    for _ in range(3):
        assert s.ring.get_sync(older.kid) is older
        # The next one does not wait for a place that just failed.
        assert s.ring.get_sync(active.kid) is active
    assert s.place.asked == [older.name]
    s.time.pass_by(4 * HOUR)
    with pytest.raises(type(error)):
        s.ring.get_sync(older.kid)


def test_a_denial_of_an_idle_key_coasts_for_its_grace(still: Making) -> None:
    s, older, _ = two_keys(still)
    s.place.deny()
    s.time.pass_by(20 * HOUR)
    assert s.ring.get_sync(older.kid) is older
    s.run(299)
    assert s.ring.get_sync(older.kid) is older
    s.run(1)
    with pytest.raises(KeyAccessDeniedError):
        s.ring.get_sync(older.kid)


# Leases.


@pytest.mark.parametrize("end", ["close", "denial", "destroyed", "age", "no room"])
def test_a_lease_dies_with_the_key(still: Making, end: str) -> None:
    s, older, active = two_keys(still, cache=CachePolicy(max_keys=1))
    lease = s.ring.lease(older)
    derived = {older: "a cipher"}
    watch = weakref.ref(lease, lambda _: derived.pop(older))
    del lease
    s.run(HOUR)
    s.ring.get_sync(older.kid)
    assert s.ring.lease(older) is watch() is not None  # through every refresh
    if end == "close":
        s.ring.close()
    elif end == "denial":
        s.place.deny()
        s.run(240 + 300)
    elif end == "destroyed":
        s.place.errors[older.name or ""] = ENDS[1]
        s.run(HOUR)
        s.ring.get_sync(older.kid)
    elif end == "age":
        s.run(DAY, step=60)
    else:
        third = s.place.rotate()
        s.time.pass_by(1)
        s.ring.get_sync(active.kid)
        s.ring.get_sync(third.kid)
    assert watch() is None
    assert derived == {}
    assert s.ring.lease(older) is None


def test_a_key_that_is_not_the_ring_s_has_no_lease(still: Making) -> None:
    s, _, active = two_keys(still)
    assert s.ring.lease(Key.generate("x")) is None
    assert s.ring.lease(Key(active.name, bytes(32))) is None
    assert s.ring.lease(Key(active.name, active.secret)) is s.ring.lease(active) is not None


def test_no_more_than_the_given_number_of_older_keys_is_held(still: Making) -> None:
    s = still(cache=CachePolicy(max_keys=3))
    keys = [s.place.key(), *(s.place.rotate() for _ in range(5))]
    s.ring.active_sync()
    for key in keys[:3]:
        s.ring.get_sync(key.kid)
        s.time.pass_by(1)
    s.ring.get_sync(keys[0].kid)
    s.time.pass_by(1)
    s.ring.get_sync(keys[3].kid)
    assert set(s.ring.health().held) == {keys[index].kid for index in (0, 2, 3, 5)}
    assert s.reported().count("dropped") == 1


# Kids that are not held.


def miss(s: Any, kid: str, asker: str | None = None) -> type[Exception]:
    # What cannot go at once would wait for ever: nobody moves the clock meanwhile.
    try:
        s.ring.get_sync(kid, asker=asker, wait_s=0.0005)
    except KeyProviderError as error:
        return type(error)
    raise AssertionError("it was found")


def invented(number: int) -> str:
    return f"invented{number}~{number:08x}"


def test_two_thousand_invented_kids_cost_at_most_five_calls_a_second(still: Making) -> None:
    s = still()
    answers = []
    for number in range(2000):
        before = len(s.place.asked)
        answers.append((miss(s, invented(number)), len(s.place.asked) - before))
        s.time.pass_by(10 / 2000)
    assert 50 <= len(s.place.asked) <= 55
    for answer, calls in answers:
        assert answer is (KeyNotFoundError if calls else KeyNotAskedError)


def test_a_kid_that_was_not_asked_for_says_when_it_can_be(still: Making) -> None:
    s = still()
    for number in range(5):
        miss(s, invented(number))
    s.time.pass_by(0.15)
    with pytest.raises(KeyNotAskedError, match="was not asked for invented99~00000063") as caught:
        s.ring.get_sync(invented(99), wait_s=0.0005)
    assert caught.value.retry_after_s == pytest.approx(0.05)
    s.time.pass_by(0.06)
    assert miss(s, invented(99)) is KeyNotFoundError


def test_with_no_time_to_wait_nothing_new_is_asked(still: Making) -> None:
    s = still()
    older = s.place.key()
    s.place.rotate()
    for kid in (older.kid, invented(1)):
        with pytest.raises(KeyNotAskedError):
            s.ring.get_sync(kid, wait_s=0)
    assert s.place.asked == []
    assert s.ring.get_sync(older.kid) is older
    assert miss(s, invented(1)) is KeyNotFoundError
    s.place.asked.clear()
    assert s.ring.get_sync(older.kid, wait_s=0) is older
    with pytest.raises(KeyNotFoundError):
        s.ring.get_sync(invented(1), wait_s=0)
    assert s.place.asked == []


def test_what_was_said_of_a_name_holds_for_every_fingerprint_under_it(still: Making) -> None:
    s = still()
    real = s.place.key()
    s.place.rotate()
    for number in range(100):
        assert miss(s, f"nobody~{number:08x}") is KeyNotFoundError
        assert miss(s, f"{real.name}~{number:08x}") is KeyNotFoundError
    assert s.place.asked == ["nobody", real.name]
    assert s.ring.get_sync(real.kid) is real


def test_a_miss_is_remembered_for_30_s(still: Making) -> None:
    s = still()
    for seconds, calls in ((0, 1), (29, 1), (1, 2)):
        s.time.pass_by(seconds)
        miss(s, invented(1))
        assert len(s.place.asked) == calls


def test_a_thousand_misses_are_remembered(still: Making) -> None:
    s = still(cache=CachePolicy(miss_memory_s=1e6))
    for number in range(1001):
        assert miss(s, invented(number)) is KeyNotFoundError
        s.time.pass_by(10)
    asked = len(s.place.asked)
    assert miss(s, invented(1)) is KeyNotFoundError
    assert len(s.place.asked) == asked
    assert miss(s, invented(0)) is KeyNotFoundError
    assert len(s.place.asked) == asked + 1


def test_without_a_memory_each_miss_is_asked_for(still: Making) -> None:
    s = still(cache=CachePolicy(miss_memory_s=0))
    for calls in (1, 2, 3):
        assert miss(s, invented(1)) is KeyNotFoundError
        assert len(s.place.asked) == calls


def test_what_a_place_lacks_that_knows_all_it_has_costs_no_look_up(still: Making) -> None:
    s = still(provider=FakeKeyProvider())
    older = s.place.key()
    s.place.rotate()
    for number in range(300):
        assert miss(s, invented(number)) is KeyNotFoundError
    assert s.place.asked == []
    assert s.ring.get_sync(older.kid) is older
    assert s.place.asked == [older.name]


def test_a_key_that_is_new_at_a_place_that_knows_all_it_has_is_found_at_once(still: Making) -> None:
    s = still(provider=FakeKeyProvider())
    assert miss(s, invented(1)) is KeyNotFoundError
    newer = s.place.rotate()
    assert s.ring.get_sync(newer.kid) is newer


def test_a_place_that_cannot_list_its_names_is_asked_for_each(still: Making) -> None:
    class Mute(FakeKeyProvider):
        def names(self) -> dict[str, str | None]:
            raise KeyAccessDeniedError("no list for you")

    s = still(provider=Mute())
    older = s.place.key()
    s.place.rotate()
    assert s.ring.get_sync(older.kid) is older
    assert miss(s, invented(1)) is KeyNotFoundError
    assert s.place.asked == [older.name, "invented1"]


async def test_the_kids_of_places_that_know_all_they_have_are_told_whether_held_or_not(still: Making) -> None:
    listing, further, other = FakeKeyProvider(), FakeKeyProvider(), Unlisted()
    s = still(provider=listing, also_read=[other, further])
    older, active = listing.key(), listing.rotate()
    listing.destroy(older.name or "")
    assert await s.ring.kids() == (older.kid, active.kid, further.key().kid)
    newer = listing.rotate()
    assert newer.kid in await s.ring.kids()
    assert s.ring.health().held == ()
    assert listing.asked == other.asked == further.asked == []


async def test_places_that_list_no_names_tell_no_kids(still: Making) -> None:
    s = still(provider=Unlisted())
    assert await s.ring.kids() == ()
    assert s.place.asked == []


async def test_a_place_that_cannot_list_its_names_now_tells_none_and_a_closed_ring_says_so(still: Making) -> None:
    s = still(provider=FakeKeyProvider())
    s.place.go_down()
    assert await s.ring.kids() == ()
    s.ring.close()
    with pytest.raises(KeyProviderError, match="closed"):
        await s.ring.kids()


def test_only_the_places_that_do_not_know_all_they_have_are_asked(still: Making) -> None:
    listing, other = FakeKeyProvider(), Unlisted()
    s = still(provider=listing, also_read=[other])
    assert miss(s, invented(1)) is KeyNotFoundError
    assert listing.asked == []
    assert other.asked == ["invented1"]


@pytest.mark.parametrize("end", ["disable", "destroy"])
def test_what_was_said_about_a_key_is_remembered_with_its_kind(still: Making, end: str) -> None:
    s = still()
    older = s.place.key()
    s.place.rotate()
    getattr(s.place, end)(older.name)
    kinds = {miss(s, older.kid) for _ in range(3)}
    assert kinds == {KeyDisabledError if end == "disable" else KeyDestroyedError}
    assert len(s.place.asked) == 1


def test_a_refresh_forgets_the_misses(still: Making) -> None:
    import asyncio

    s = still()
    older = s.place.key()
    s.place.rotate()
    s.place.disable(older.name)
    assert miss(s, older.kid) is KeyDisabledError
    s.place.enable(older.name)
    assert miss(s, older.kid) is KeyDisabledError
    asyncio.run(s.ring.refresh())
    assert s.ring.get_sync(older.kid) is older


def test_good_keys_cost_no_permits(still: Making) -> None:
    s = still()
    keys = [s.place.key(), *(s.place.rotate() for _ in range(50))]
    assert [s.ring.get_sync(key.kid) for key in keys] == keys
    assert {miss(s, invented(number)) for number in range(5)} == {KeyNotFoundError}


def test_a_look_up_that_was_not_answered_is_not_remembered(still: Making) -> None:
    s = still()
    older = s.place.key()
    s.place.rotate()
    for fail in (s.place.go_down, s.place.deny):
        fail()
        miss(s, older.kid)
    s.place.come_back()
    assert s.ring.get_sync(older.kid) is older


# A ring that has nothing.


def test_a_cold_ring_asks_again_at_each_use_but_does_not_flood_a_place_that_refuses(still: Making) -> None:
    s = still()
    s.place.deny()
    for _ in range(1000):
        with pytest.raises(KeyAccessDeniedError):
            s.ring.active_sync()
        s.time.pass_by(0.01)
    assert len(s.place.asked) <= 31
    s.place.come_back()
    s.time.pass_by(1)
    assert s.ring.active_sync() is s.place.key()


def test_a_place_that_is_back_is_asked_at_the_next_use(still: Making) -> None:
    s = still()
    s.place.go_down()
    for _ in range(5):
        with pytest.raises(KeyUnavailableError):
            s.ring.active_sync()
    s.place.come_back()
    assert s.ring.active_sync() is s.place.key()


def test_an_outage_is_tried_four_times(still: Making) -> None:
    s = still(retry=RetryPolicy())
    s.place.go_down()
    with pytest.raises(KeyUnavailableError):
        s.ring.active_sync()
    assert s.place.asked == ["active"] * 4


# Time, health, events.


def test_a_machine_that_was_suspended_has_aged_its_keys() -> None:
    from keyproviders._support.clock import AgeClock

    wall, monotonic = [1e9], [50.0]
    clock = AgeClock(lambda: wall[0], lambda: monotonic[0])
    start = clock()
    wall[0] += 10
    monotonic[0] += 10
    assert clock() - start == 10
    wall[0] += 3600  # the monotonic clock stood still
    assert clock() - start == 3610
    wall[0] -= 7200  # somebody set the wall clock back
    assert clock() - start == 3610
    monotonic[0] += 5
    wall[0] += 5
    assert clock() - start == 3615


def test_health_tells_what_the_ring_could_do(still: Making) -> None:
    s = still()
    assert s.ring.health()[:4] == (False, False, None, ())
    key = s.ring.active_sync()
    s.time.pass_by(5)
    health = s.ring.health()
    assert health[:4] == (True, True, 5, (key.kid,))
    assert {what: count for what, count in health.counts.items() if count} == {"calls": 1, "fetched": 1}
    s.place.go_down()
    s.time.pass_by(900)
    assert s.ring.health()[:2] == (True, False)
    s.time.pass_by(DAY)
    assert s.ring.health()[:2] == (False, False)


def test_each_event_tells_what_where_and_which(still: Making) -> None:
    s = still()
    key = s.ring.active_sync()
    s.place.go_down()
    s.run(DAY, step=60)
    assert list(dict.fromkeys(s.reported())) == ["fetched", "failed", "degraded", "write_ended", "dropped"]
    for event in s.events:
        assert event.place == s.place.place
        assert event.kid == key.kid
        assert event.message.startswith(event.place)
        assert key.reveal_base64() not in repr(event)
    assert {event.error for event in s.events if event.what == "failed"} == {"KeyUnavailableError"}


def test_an_on_event_that_fails_harms_nobody(still: Making, caplog: pytest.LogCaptureFixture) -> None:
    s = still()
    s.ring._engine._sink._on_event = lambda event: 1 / 0
    assert s.ring.active_sync() is s.place.key()
    assert "on_event failed on 'fetched'" in caplog.text


def test_a_clock_that_fails_leaves_the_lock_free(still: Making) -> None:
    s = still()
    s.ring._engine.clock = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError), s.ring._engine.turn():
        pass
    s.ring._engine.clock = s.time
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(s.ring.active_sync).result(60) is s.place.key()


def test_a_listener_may_use_the_ring(still: Making) -> None:
    s = still()
    found = []
    s.ring._engine._sink._on_event = lambda event: found.append(s.ring.active_sync())
    assert s.ring.active_sync() is s.place.key()
    assert found == [s.place.key()]


def traceback_of(find: Callable[[], object]) -> str:
    """The error of a use of the ring, with all the local variables of its traceback."""
    try:
        find()
    except Exception as error:  # noqa: BLE001 - whatever it raises
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return ""


@pytest.mark.parametrize("error", [*COASTING, *DENIALS, *ENDS], ids=ids([*COASTING, *DENIALS, *ENDS]))
def test_no_mood_of_the_place_brings_a_secret_into_a_log_an_event_an_error_or_a_repr(
    still: Making, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = bytes(range(60, 92))
    sentinel = Key("3", secret)
    s, _, _ = two_keys(still)
    s.place._keys["3"] = sentinel
    s.place._active = "3"
    s.run(300)
    assert s.ring.active_sync() is sentinel
    s.place.errors["*"] = error
    shown: list[str] = []
    for seconds in (300, 700, HOUR, DAY):
        s.run(seconds, step=max(10.0, seconds / 50))
        shown += [traceback_of(s.ring.active_sync), traceback_of(lambda: s.ring.get_sync(sentinel.kid))]
        shown += [repr(s.ring), repr(s.ring.health()), repr(s.place)]
    shown += [repr(event) for event in s.events]
    everything = caplog.text + "".join(shown)
    assert sentinel.kid in everything
    assert type(error).__name__ in everything
    for form in (
        secret.decode("ascii"),
        secret.hex(),
        base64.b64encode(secret).decode()[:40],
        base64.urlsafe_b64encode(secret).decode()[:40],
    ):
        assert form not in everything

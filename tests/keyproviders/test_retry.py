"""The one retry layer, with a clock and a sleep of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from keyproviders import KeyAccessDeniedError, KeyUnavailableError, RetryPolicy
from keyproviders.ring.retry import call_with_retry


class Time:
    """A clock that only sleeping (and a slow call) moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Place:
    """Raises what it is told to, then answers."""

    def __init__(self, time: Time, *errors: Exception, takes_s: float = 0.0) -> None:
        self.time, self.errors, self.takes_s, self.calls = time, iter(errors), takes_s, 0

    def __call__(self) -> str:
        self.calls += 1
        self.time.now += self.takes_s
        error = next(self.errors, None)
        if error is not None:
            raise error
        return "answer"


@pytest.fixture
def time() -> Iterator[Time]:
    return Time()  # type: ignore[return-value] # a plain value


def ask(place: Place, policy: RetryPolicy | None = None) -> str:
    return call_with_retry(place, policy or RetryPolicy(), clock=place.time.clock, sleep=place.time.sleep)


def down(**kwargs: float) -> KeyUnavailableError:
    return KeyUnavailableError("down", **kwargs)


def test_an_answer_comes_back_at_once() -> None:
    time = Time()
    assert ask(Place(time)) == "answer"
    assert time.slept == []


def test_an_outage_is_tried_four_times_and_its_last_error_raised() -> None:
    time = Time()
    errors = [KeyUnavailableError(str(number)) for number in range(5)]
    place = Place(time, *errors)
    with pytest.raises(KeyUnavailableError, match="3"):
        ask(place)
    assert place.calls == 4
    assert len(time.slept) == 3


def test_a_short_outage_is_survived() -> None:
    place = Place(Time(), down(), down(), down())
    assert ask(place) == "answer"
    assert place.calls == 4


@pytest.mark.parametrize("error", [KeyAccessDeniedError("no"), ValueError("foreign"), KeyboardInterrupt()])
def test_nothing_else_is_tried_again(error: BaseException) -> None:
    for errors in ([error], [down(), error]):
        place = Place(Time(), *errors)  # type: ignore[arg-type] # any exception can be raised
        with pytest.raises(type(error)):
            ask(place)
        assert place.calls == len(errors)


def test_waits_are_random_and_between_the_bounds() -> None:
    waits: list[list[float]] = [[], [], []]
    for _ in range(200):
        time = Time()
        with pytest.raises(KeyUnavailableError):
            ask(Place(time, down(), down(), down(), down()))
        for seen, wait in zip(waits, time.slept, strict=True):
            seen.append(wait)
    for seen, highest in zip(waits, (0.4, 0.8, 1.6), strict=True):
        assert 0.1 <= min(seen) < max(seen) <= highest
        assert len(set(seen)) > 100


def test_what_the_place_asks_for_is_honoured_up_to_five_seconds() -> None:
    time = Time()
    assert ask(Place(time, down(retry_after_s=3.0))) == "answer"
    assert time.slept == [3.0]
    time = Time()
    assert ask(Place(time, down(retry_after_s=60))) == "answer"
    assert time.slept == [5.0]


def test_no_attempt_begins_after_the_deadline() -> None:
    time = Time()
    place = Place(time, *[down(retry_after_s=3.0)] * 9)
    with pytest.raises(KeyUnavailableError):
        ask(place)
    assert place.calls == 3
    assert time.now < 8
    time = Time()
    slow = Place(time, *[down()] * 9, takes_s=3.0)
    with pytest.raises(KeyUnavailableError):
        ask(slow)
    assert slow.calls == 3


def test_one_attempt_means_one() -> None:
    place = Place(Time(), down())
    with pytest.raises(KeyUnavailableError):
        ask(place, RetryPolicy(attempts=1))
    assert place.calls == 1


def test_the_retry_library_is_loaded_only_when_a_call_is_repeated() -> None:
    program = """
import sys
from keyproviders import KeyRing, KeyUnavailableError, RetryPolicy
from keyproviders.ring.retry import call_with_retry
KeyRing.ephemeral().active_sync()
assert "tenacity" not in sys.modules
answers = iter([KeyUnavailableError("down"), None])
def call():
    error = next(answers)
    if error:
        raise error
call_with_retry(call, RetryPolicy(), clock=lambda: 0.0, sleep=lambda seconds: None)
assert "tenacity" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)

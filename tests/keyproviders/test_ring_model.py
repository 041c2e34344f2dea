"""A model of the ring's rules against the ring, under random sequences of time, calls and moods.

The model knows only what the place answered, and when. From that it says, for each use of the ring,
whether a key must come, or must not.
"""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from encrypted_sessions_tests.soak import examples
from keyproviders import (
    Key,
    KeyAccessDeniedError,
    KeyDestroyedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
)
from keyproviders.testing import FakeKeyProvider

from .conftest import Still, Unlisted

WRITE_S, READ_S, GRACE_S, REVALIDATE_S = 900.0, 86_400.0, 300.0, 3_600.0
# Nobody moves the clock while a test waits, so what cannot go at once would wait for ever.
SOON_S = 0.001


class Answers:
    """What the place said about one question."""

    def __init__(self) -> None:
        self.key: Key | None = None
        self.healthy_at = -inf
        self.denied_since: float | None = None
        self.used_at = -inf

    def hear(self, answer: Key | Exception, now: float) -> None:
        if isinstance(answer, Key):
            self.used_at = now if self.key is None else self.used_at
            self.key, self.healthy_at, self.denied_since = answer, now, None
        elif isinstance(answer, (KeyDisabledError, KeyDestroyedError)):
            self.key = None
        elif isinstance(answer, (KeyAccessDeniedError, KeyNotFoundError)):
            self.denied_since = now if self.denied_since is None else self.denied_since

    def end(self, stale_s: float) -> float:
        denied = inf if self.denied_since is None else self.denied_since + GRACE_S
        return min(self.healthy_at + stale_s, denied)

    def good(self, stale_s: float, now: float) -> bool:
        return self.key is not None and now < self.end(stale_s)


class Model:
    """What the place said, and what follows from it."""

    def __init__(self) -> None:
        self.active = Answers()
        self.keys: dict[str, Answers] = {}

    def settle(self, now: float) -> None:
        since = self.active.denied_since
        if self.active.key is not None and since is not None and now >= since + GRACE_S:
            self.active = Answers()
            self.keys.clear()
        for name in [name for name, answers in self.keys.items() if not answers.good(READ_S, now)]:
            del self.keys[name]
            if self.active.key is not None and self.active.key.name == name:
                self.active = Answers()

    def hear(self, question: str, answer: Key | Exception, now: float) -> None:
        self.settle(now)
        if question == "active":
            if isinstance(answer, Key):
                self.keys.setdefault(answer.name or "", Answers()).hear(answer, now)
            elif isinstance(answer, (KeyDisabledError, KeyDestroyedError)) and self.active.key is not None:
                self.keys.pop(self.active.key.name or "", None)
            if isinstance(answer, Key) or self.active.key is not None:
                self.active.hear(answer, now)
            return
        if isinstance(answer, Key) or question in self.keys:
            answers = self.keys.setdefault(question, Answers())
            answers.hear(answer, now)
            if answers.key is None:
                del self.keys[question]
                if self.active.key is not None and self.active.key.name == question:
                    self.active = Answers()

    def may_write(self, now: float) -> bool:
        self.settle(now)
        return self.active.good(WRITE_S, now)

    def may_read(self, name: str, now: float) -> bool:
        self.settle(now)
        return name in self.keys

    def is_idle(self, name: str, now: float) -> bool:
        answers = self.keys[name]
        return min(now - answers.used_at, now - answers.healthy_at) > REVALIDATE_S


class Told(FakeKeyProvider):
    """Tells the model each answer, at the moment of it."""

    heard: Any = None

    def _answer(self, question: str, name: str) -> Key:
        try:
            key = super()._answer(question, name)
        except KeyProviderError as error:
            self.heard(question, error)
            raise
        self.heard(question, key)
        return key


class ToldUnlisted(Told, Unlisted):
    """The same, and it does not know all that it has."""


class RingMachine(RuleBasedStateMachine):
    @initialize(lists=st.booleans())
    def begin(self, lists: bool) -> None:
        self.lists = lists
        self.place = Told() if lists else ToldUnlisted()
        self.still = Still(provider=self.place)
        self.ring, self.time = self.still.ring, self.still.time
        self.model = Model()
        self.place.heard = lambda question, answer: self.model.hear(question, answer, self.time.now)
        self.invented = 0
        self.missed: list[float] = []

    def use(self, must: bool, find: Any) -> Key | None:
        """Use the ring: with a usable key in hand it gives that, whatever the mood of the place."""
        key = None
        try:
            key = find()
        except KeyProviderError:
            assert not must, "a usable key was in hand"
        return key

    # Uses.

    @rule()
    def write(self) -> None:
        now = self.time.now
        must, expected = self.model.may_write(now), self.model.active.key
        key = self.use(must, self.ring.active_sync)
        if must:
            assert key == expected
        elif key is not None:
            assert self.model.active.healthy_at == now, "it was not asked for"
            assert key == self.model.active.key

    @rule(at=st.integers(0, 5))
    def read(self, at: int) -> None:
        names = list(self.place._keys)
        wanted = self.place.key(names[at % len(names)])
        now = self.time.now
        name = wanted.name or ""
        must = self.model.may_read(name, now)
        idle = must and self.model.is_idle(name, now)
        key = self.use(must and not idle, lambda: self.ring.get_sync(wanted.kid, asker="reader", wait_s=SOON_S))
        assert key in (wanted, None)
        if idle:
            # It is asked for first; what the place said then counts, and no answer changes nothing.
            assert (key is not None) == self.model.may_read(name, now)
        elif key is not None and not must:
            assert self.model.keys[name].healthy_at == now, "it was not asked for"
        if key is not None and name in self.model.keys:
            self.model.keys[name].used_at = now

    @rule(at=st.integers(0, 5), seconds=st.sampled_from([3599.0, 3601.0, 7200.0]))
    def read_after_a_long_time(self, at: int, seconds: float) -> None:
        self.time.pass_by(seconds)
        self.read(at)

    @rule(at=st.integers(0, 5))
    def read_a_real_key_under_a_made_up_name(self, at: int) -> None:
        names = list(self.place._keys)
        self.is_missing(f"ghost~{self.place.key(names[at % len(names)]).fingerprint}")

    @rule(at=st.integers(0, 5), number=st.integers(0, 2**32 - 1))
    def read_a_made_up_fingerprint_under_a_real_name(self, at: int, number: int) -> None:
        names = list(self.place._keys)
        key = self.place.key(names[at % len(names)])
        fingerprint = f"{number:08x}"
        if fingerprint != key.fingerprint:
            self.is_missing(f"{key.name}~{fingerprint}")

    def is_missing(self, kid: str) -> None:
        heard, self.place.heard = self.place.heard, lambda *_: None  # nothing of it is held
        assert self.use(must=False, find=lambda: self.ring.get_sync(kid, wait_s=SOON_S)) is None
        self.place.heard = heard

    @rule(many=st.sampled_from([1, 5, 25]), again=st.booleans())
    def read_invented_kids(self, many: int, again: bool) -> None:
        self.invented -= many * again
        for _ in range(many):
            self.invented += 1
            self.read_an_invented_kid()

    def read_an_invented_kid(self) -> None:
        name = f"invented{abs(self.invented)}"
        asked = len(self.place.asked)
        try:
            self.ring.get_sync(f"{name}~{abs(self.invented):08x}", asker="reader", wait_s=SOON_S)
        except KeyNotFoundError:
            assert self.lists or name in self.place.asked, "not found, and never asked for"
        except (KeyUnavailableError, KeyAccessDeniedError):
            pass
        else:
            raise AssertionError("an invented key was found")
        self.missed += [self.time.now] * (len(self.place.asked) - asked)

    # Time.

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 60.0, 239.0, 240.0, 299.0, 300.0, 301.0]))
    def time_passes_with_the_timer(self, seconds: float) -> None:
        self.still.run(seconds, step=10.0)

    @rule(seconds=st.sampled_from([30.0, 300.0, 600.0, 899.0, 900.0, 3600.0, 7200.0, 86_399.0, 86_400.0]))
    def the_machine_is_suspended(self, seconds: float) -> None:
        self.time.pass_by(seconds)

    @rule(which=st.integers(0, 9), beside=st.sampled_from([-0.5, 0.0, 0.5]), with_timer=st.booleans())
    def it_is_the_time_of_a_limit(self, which: int, beside: float, with_timer: bool) -> None:
        now = self.time.now
        ends = [self.model.active.end(WRITE_S), *(answers.end(READ_S) for answers in self.model.keys.values())]
        ahead = sorted(end - now + beside for end in ends if now < end + beside < inf)
        if ahead:
            seconds = ahead[which % len(ahead)]
            if with_timer and seconds < 1000:
                self.still.run(seconds, step=10.0)
            else:
                self.time.pass_by(seconds)

    # Moods of the place.

    @rule()
    def it_goes_down(self) -> None:
        self.place.go_down()

    @rule()
    def it_denies_everything_after_a_good_answer(self) -> None:
        self.place.come_back()
        self.use(must=False, find=self.ring.active_sync)
        self.place.deny()
        self.still.run(241, step=1.0)

    @rule()
    def it_comes_back(self) -> None:
        self.place.come_back()

    @rule()
    def it_denies_everything(self) -> None:
        self.place.deny()

    @rule(at=st.integers(0, 5))
    def it_denies_one_key(self, at: int) -> None:
        names = list(self.place._keys)
        self.place.deny(names[at % len(names)])

    @precondition(lambda self: len(self.place._keys) < 6)
    @rule()
    def it_rotates(self) -> None:
        self.place.rotate()

    @rule(at=st.integers(0, 5), for_good=st.booleans())
    def it_ends_a_key(self, at: int, for_good: bool) -> None:
        names = list(self.place._keys)
        (self.place.destroy if for_good else self.place.disable)(names[at % len(names)])

    @rule(at=st.integers(0, 5))
    def it_enables_a_key(self, at: int) -> None:
        names = list(self.place._keys)
        self.place.enable(names[at % len(names)])

    # What holds at any time.

    @invariant()
    def look_ups_of_invented_kids_stay_within_their_rate(self) -> None:
        if self.missed:
            assert len(self.missed) <= 5 + (self.missed[-1] - self.missed[0]) * 5

    @invariant()
    def a_lease_lives_as_long_as_the_key_is_held(self) -> None:
        held = self.ring.health().held
        for key in self.place._keys.values():
            assert (self.ring.lease(key) is not None) == (key.kid in held)

    @invariant()
    def health_agrees_with_the_model(self) -> None:
        health = self.ring.health()
        assert health.can_write == self.model.may_write(self.time.now)
        assert health.can_read == bool(self.model.keys)
        assert health.stuck == ()

    def teardown(self) -> None:
        self.ring.close()


TestTheRing = RingMachine.TestCase
TestTheRing.settings = settings(max_examples=examples(50), stateful_step_count=40, deadline=None)

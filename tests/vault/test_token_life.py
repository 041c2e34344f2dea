"""How a token is kept: renewed in time, replaced when it cannot be, on use and never in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from keyproviders import KeyAccessDeniedError, KeyUnavailableError, ProviderConfigError
from keyproviders._support.clock import AgeClock
from keyproviders.vault.failures import Answer
from keyproviders.vault.login import Login, TokenLease
from keyproviders.vault.token import ReloginGuard, TokenManager

LIFE_S = 3_600


class FakeLogin(Login):
    """Hands out tokens t1, t2 ..., or fails as it is told."""

    label = "the login of a test"
    brings_new = True

    def __init__(self, *, lease_s: float = LIFE_S, renewable: bool = True) -> None:
        self.lease_s, self.renewable = lease_s, renewable
        self.count = 0
        self.failure: Exception | None = None
        self.hold: threading.Event | None = None
        self.entered = threading.Event()

    def log_in(self, send: Any, server: str, /) -> TokenLease:
        self.count += 1
        self.entered.set()
        if self.hold is not None:
            assert self.hold.wait(10)
        if self.failure is not None:
            raise self.failure
        return TokenLease(f"t{self.count}", self.lease_s, renewable=self.renewable)


class FakeServer:
    """Renews as it is told."""

    def __init__(self) -> None:
        self.renewals: list[str] = []
        self.lease_s: float = LIFE_S
        self.status = 200
        self.failure: Exception | None = None

    def send(
        self, method: str, path: str, *, action: str, token: str = "", body: Mapping[str, Any] | None = None
    ) -> Answer:
        assert (method, path) == ("post", "/v1/auth/token/renew-self")
        self.renewals.append(token)
        if self.failure is not None:
            raise self.failure
        if self.status != 200:
            return Answer(self.status, {"errors": ["lease is not renewable"]})
        return Answer(200, {"auth": {"client_token": token, "lease_duration": self.lease_s, "renewable": True}})


class Bench:
    """A keeper with a clock that stands still."""

    def __init__(self, jitter: float = 0.0, **login: Any) -> None:
        self.now = 0.0
        self.login, self.server = FakeLogin(**login), FakeServer()
        self.keeper = TokenManager(
            self.login, self.server.send, "a server", clock=lambda: self.now, jitter=lambda low, high: jitter
        )

    def at(self, now: float) -> str:
        self.now = now
        return self.keeper.current().value


def test_nothing_happens_before_the_first_use():
    bench = Bench()
    assert bench.login.count == 0
    assert bench.at(0) == "t1"
    assert bench.login.count == 1


def test_a_token_is_used_as_it_is_until_two_thirds_of_its_life():
    bench = Bench()
    assert {bench.at(now) for now in (0, 1_000, 2_399)} == {"t1"}
    assert bench.server.renewals == []
    bench.at(2_400)
    assert bench.server.renewals == ["t1"]


def test_jitter_makes_a_renewal_earlier_and_never_later():
    bench = Bench(jitter=0.1)
    bench.at(0)
    bench.at(2_159)
    assert bench.server.renewals == []
    bench.at(2_161)
    assert bench.server.renewals == ["t1"]


def test_the_jitter_is_random_within_a_tenth():
    import random

    drawn = []

    def jitter(low: float, high: float) -> float:
        drawn.append((low, high))
        return random.uniform(low, high)

    keeper = TokenManager(FakeLogin(), FakeServer().send, "a server", clock=lambda: 0.0, jitter=jitter)
    due = keeper.current().due_at
    assert drawn == [(0.0, 0.1)]
    assert 0.9 * 2_400 <= due <= 2_400


def test_a_renewal_starts_the_life_anew():
    bench = Bench()
    bench.at(0)
    bench.at(2_400)
    assert bench.at(4_700) == "t1"
    assert bench.server.renewals == ["t1"]
    bench.at(4_800)
    assert bench.server.renewals == ["t1", "t1"]
    assert bench.login.count == 1


@pytest.mark.parametrize("how", ["no answer", "503", "429"])
def test_a_failed_renewal_is_tried_again_until_the_token_ends(how: str):
    bench = Bench()
    bench.at(0)
    if how == "no answer":
        bench.server.failure = KeyUnavailableError("gone")
    else:
        bench.server.status = int(how)
    for now in range(2_400, 3_600, 10):
        assert bench.at(now) == "t1"
    tries = len(bench.server.renewals)
    assert 8 <= tries <= 100  # each after a tenth of what is left, and never twice at once
    bench.server.failure, bench.server.status = None, 200
    bench.at(3_599)
    assert len(bench.server.renewals) == tries + 1
    assert bench.login.count == 1


def test_a_token_that_ended_is_replaced_by_a_new_login():
    bench = Bench()
    bench.at(0)
    assert bench.at(LIFE_S) == "t2"
    assert bench.server.renewals == []


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_token_that_cannot_be_renewed_is_replaced_before_it_ends(status: int):
    bench = Bench()
    bench.at(0)
    bench.server.status = status
    assert bench.at(2_400) == "t2"
    assert bench.server.renewals == ["t1"]


def test_a_batch_token_is_replaced_without_an_attempt_to_renew_it():
    bench = Bench(renewable=False)
    bench.at(0)
    assert bench.at(2_399) == "t1"
    assert bench.at(2_400) == "t2"
    assert bench.server.renewals == []


def test_a_renewal_up_to_the_maximum_counts_and_one_that_wins_nothing_does_not():
    bench = Bench()
    bench.at(0)  # ends at 3,600
    bench.server.lease_s = 1_800  # capped: now ends at 4,200
    assert bench.at(2_400) == "t1"
    bench.server.lease_s = 600  # at 3,600 it would still end at 4,200
    assert bench.at(3_600) == "t2"
    assert bench.server.renewals == ["t1", "t1"]


def test_a_login_that_fails_before_the_end_leaves_the_token_in_use_and_is_tried_again():
    bench = Bench(renewable=False)
    bench.at(0)
    bench.login.failure = KeyUnavailableError("gone")
    assert bench.at(2_400) == "t1"
    assert bench.at(2_401) == "t1"
    assert bench.login.count == 2
    assert bench.at(2_520) == "t1"
    assert bench.login.count == 3
    bench.login.failure = None
    assert bench.at(2_700) == "t4"


def test_a_denied_login_before_the_end_leaves_the_token_in_use():
    bench = Bench(renewable=False)
    bench.at(0)
    bench.login.failure = KeyAccessDeniedError("no")
    assert bench.at(3_599) == "t1"
    with pytest.raises(KeyAccessDeniedError, match="no"):
        bench.at(3_600)


def test_a_token_without_an_end_is_never_renewed():
    bench = Bench(lease_s=0)
    assert bench.at(0) == bench.at(1e9) == "t1"
    assert bench.server.renewals == []


def test_a_given_token_that_cannot_be_renewed_is_used_to_its_end_with_a_warning(caplog: pytest.LogCaptureFixture):
    bench = Bench()
    bench.login.brings_new = False
    bench.at(0)
    bench.server.status = 400
    with caplog.at_level(logging.WARNING, "keyproviders"):
        assert bench.at(2_400) == bench.at(3_599) == "t1"
    assert "will expire in 1200 s" in caplog.text
    assert bench.server.renewals == ["t1"]
    assert bench.login.count == 1


def test_a_denied_token_is_replaced_once_for_all_threads():
    bench = Bench()
    first = bench.keeper.current()
    second = bench.keeper.replace(first)
    assert second is not None
    assert second.value == "t2"
    third = bench.keeper.replace(first)
    assert third is second
    assert bench.login.count == 2


def test_four_threads_share_one_login():
    bench = Bench()
    bench.login.hold = threading.Event()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(bench.keeper.current().value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert bench.login.entered.wait(10)
    bench.login.hold.set()
    for thread in threads:
        thread.join()
    assert found == ["t1"] * 4
    assert bench.login.count == 1


def test_who_waited_for_a_failed_login_shares_its_failure():
    bench = Bench()
    bench.login.hold = threading.Event()
    bench.login.failure = KeyUnavailableError("gone", retry_after_s=3)
    found: list[BaseException] = []

    def call() -> None:
        try:
            bench.keeper.current()
        except KeyUnavailableError as error:
            found.append(error)

    first = threading.Thread(target=call)
    first.start()
    assert bench.login.entered.wait(10)
    waiting = [threading.Thread(target=call) for _ in range(3)]
    seen = bench.keeper._failures
    for thread in waiting:
        thread.start()
    bench.login.hold.set()
    for thread in [first, *waiting]:
        thread.join()
    assert [str(error) for error in found] == ["gone"] * 4
    assert {error.retry_after_s for error in found} == {3}  # type: ignore[attr-defined]  # all are of that kind
    # A thread that only came after the failure asks again.
    assert seen < bench.keeper._failures <= bench.login.count <= 4


def test_a_renewal_keeps_no_other_thread_waiting():
    bench = Bench()
    bench.at(0)
    bench.now = 2_400.0
    go_on, entered = threading.Event(), threading.Event()

    def slow_send(*args: Any, **kwargs: Any) -> Answer:
        entered.set()
        assert go_on.wait(10)
        return Answer(503, {})

    bench.keeper._send = slow_send
    renewing = threading.Thread(target=bench.keeper.current)
    renewing.start()
    assert entered.wait(10)
    assert bench.keeper.current().value == "t1"
    go_on.set()
    renewing.join()


def test_after_a_fork_the_lock_is_new_and_the_token_is_kept():
    bench = Bench()
    bench.at(0)
    bench.keeper._lock.acquire()
    bench.keeper.after_fork()
    assert bench.at(2_400) == "t1"
    assert bench.server.renewals == ["t1"]


def test_a_token_shows_nothing_of_itself():
    bench = Bench()
    token = bench.keeper.current()
    assert "t1" not in repr(token) + repr(bench.keeper)
    assert not hasattr(token, "__dict__")


def test_a_machine_that_was_suspended_renews_its_token_when_it_wakes(monkeypatch: pytest.MonkeyPatch):
    """The monotonic clock stands still meanwhile, and the server's goes on."""
    wall = [1_000_000.0]
    monkeypatch.setattr(AgeClock.__init__, "__defaults__", (lambda: wall[0], lambda: 50.0))
    server = FakeServer()
    keeper = TokenManager(FakeLogin(), server.send, "a server", jitter=lambda low, high: 0.0)
    keeper.current()
    wall[0] += 2_500
    assert keeper.current().value == "t1"
    assert server.renewals == ["t1"]
    wall[0] += 4_000
    assert keeper.current().value == "t2"


def test_a_renewal_that_meets_a_wrong_setting_leaves_the_token_in_use():
    bench = Bench()
    bench.at(0)
    bench.server.failure = ProviderConfigError("a redirect to nowhere")
    assert bench.at(2_400) == "t1"
    assert bench.login.count == 1


# What was put in the place of something that was denied.


def test_what_has_not_helped_is_not_replaced_again_for_half_a_minute():
    now = [0.0]
    guard = ReloginGuard(clock=lambda: now[0])
    first, second, third = object(), object(), object()
    assert guard.allows(first)
    assert not guard.allows(second)
    now[0] = 29.9
    assert not guard.allows(second)
    now[0] = 30.0
    assert guard.allows(second)
    assert not guard.allows(third)


def test_what_has_helped_may_be_replaced_at_once():
    guard = ReloginGuard(clock=lambda: 0.0)
    first, second = object(), object()
    assert guard.allows(first)
    guard.record_success(second)
    assert guard.allows(second)


def test_all_threads_that_were_denied_the_same_may_replace_it():
    guard = ReloginGuard(clock=lambda: 0.0)
    first = object()
    assert [guard.allows(first) for _ in range(3)] == [True] * 3
    guard.record_success(first)  # for another path
    assert not guard.allows(object())

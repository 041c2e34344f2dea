"""A ring whose time stands still until a test moves it, and whose calls happen at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keyproviders import KeyEvent, KeyRing, RetryPolicy
from keyproviders.testing import FakeKeyProvider


@pytest.fixture(autouse=True)
def _files_are_for_their_owner() -> Iterator[None]:
    """As a service that keeps keys or credentials in files has it; others are warned of."""
    before = os.umask(0o077)
    yield
    os.umask(before)


class Time:
    """A clock that only the test (and a sleep between attempts) moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class InlineWorkers:
    """Runs each job where it is submitted, or keeps it until the test lets it go. Wakes when told."""

    def __init__(self) -> None:
        self.hold = False
        self.held: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        self.held.append(job)
        if not self.hold:
            self.let_go()

    def let_go(self) -> None:
        while self.held:
            self.held.pop(0)()

    def wake_at(self, at: float, owner: object, call: Callable[..., None]) -> None:
        """The test looks at the ring's own time."""

    def forget(self, owner: object) -> None:
        """Likewise."""

    def join_idle(self) -> None:
        pass


class Unlisted(FakeKeyProvider):
    """A place that does not know all that it has, so that it is asked for each name."""

    names = None  # type: ignore[assignment] # what makes it so


class Still:
    """A ring over a fake place, with all that a test needs to move it."""

    def __init__(self, **kwargs: Any) -> None:
        self.time = Time()
        self.place = kwargs.pop("provider", None) or Unlisted()
        self.events: list[KeyEvent] = []
        self.workers = InlineWorkers()
        # One attempt, unless a test is about more: the waits between them would move the clock.
        kwargs.setdefault("retry", RetryPolicy(attempts=1))
        self.ring = KeyRing(self.place, on_event=self.events.append, clock=self.time, sleep=self.time.pass_by, **kwargs)
        self.ring._engine.workers = self.workers  # type: ignore[assignment] # what makes it still
        self.ring._engine.cache._jitter = lambda: 1.0

    def reported(self) -> list[str]:
        return [event.what for event in self.events]

    def wake(self) -> None:
        """What the ring's timer does if its time has come."""
        if self.time.now >= self.ring._engine._alarm_at:
            self.ring._engine._wake()

    def run(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass, with the timer."""
        until = self.time.now + seconds
        while self.time.now < until:
            self.time.pass_by(min(step, until - self.time.now))
            self.wake()


@pytest.fixture
def still() -> type[Still]:
    return Still

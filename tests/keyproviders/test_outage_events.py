"""What a ring tells of an outage, in the fields of its log records: when it begins, what ends, that it is over."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keyproviders import CachePolicy, KeyEvent, KeyProviderError, KeyRing, RetryPolicy, RingHealth
from keyproviders.ring.events import EventSink, report_of
from keyproviders.testing import FakeKeyProvider

from .conftest import Still, Unlisted

DAY = 86_400.0


class Pages(logging.Handler):
    """Whoever is on call: reads the fields of records, their level and their time, and not a word of them."""

    def __init__(self, still: Still) -> None:
        super().__init__()
        self.still = still
        self.began = still.time.now
        self.records: list[logging.LogRecord] = []
        self.told: list[tuple[float, str, str, float | None]] = []
        self.state = "down"
        self.writes = True

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.INFO:
            return
        event, left_s = record.event, record.seconds_left  # type: ignore[attr-defined] # what is tested
        self.records.append(record)
        self.told.append((self.still.time.now - self.began, record.levelname, event, left_s))
        if event in {"write_ended", "recovered"}:
            self.writes = event == "recovered"
        if event == "recovered" or (event == "fetched" and self.state == "down"):
            self.state = "ok" if self.writes else "read_only"
        elif event == "degraded" or (event == "denied" and record.kid is None and self.state == "ok"):
            self.state = "degraded"
        elif event == "write_ended":
            self.state = "read_only" if left_s else "down"
        elif event == "dropped" and left_s == 0:
            self.state = "down"


@pytest.fixture
def watched() -> Iterator[tuple[Any, Pages]]:
    s = Still(name="tenant-7")
    yield from watch(s)


def watch(s: Still) -> Iterator[tuple[Still, Pages]]:
    pages, logger = Pages(s), logging.getLogger("keyproviders")
    before = logger.level
    logger.addHandler(pages)
    logger.setLevel(logging.INFO)
    try:
        yield s, pages
    finally:
        logger.removeHandler(pages)
        logger.setLevel(before)


def test_the_fields_of_the_log_tell_the_whole_story_of_an_outage_with_its_times(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    kid = s.ring.active_sync().kid
    s.run(100)
    s.place.go_down()
    s.run(1_900)
    s.place.rotate()
    s.place.come_back()
    s.run(60)
    transitions = [told for told in pages.told if told[2] != "failed"]
    # Nobody used the ring meanwhile: its own timer tells. The last answer came at 0 s.
    assert transitions == [
        (0, "INFO", "fetched", None),
        (300, "WARNING", "degraded", 600),
        (900, "ERROR", "write_ended", DAY - 900),
        (2010, "INFO", "recovered", None),
        (2010, "INFO", "active_changed", None),
    ]
    lines = [(at, level, left_s) for at, level, what, left_s in pages.told if what == "failed"]
    assert lines[:2] == [(240, "WARNING", 660), (360, "WARNING", 540)]
    assert lines[-1] == (1980, "ERROR", DAY - 1980)
    assert {one.ring for one in pages.records} == {"tenant-7"}  # type: ignore[attr-defined] # what is tested
    changed = pages.records[-1]
    newer = s.ring.active_sync().kid
    assert (changed.kid, changed.from_kid, changed.to_kid) == (newer, kid, newer)  # type: ignore[attr-defined] # what is tested
    assert not hasattr(pages.records[0], "to_kid")


def test_repeated_lines_of_an_outage_are_logged_once_a_minute_and_hooks_get_each(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    s.ring.active_sync()
    s.place.go_down()
    s.run(3_000)
    times = [told[0] for told in pages.told]
    # Every ten seconds it asks in vain.
    assert s.reported().count("failed") == 277
    assert all(later - earlier >= 60 for earlier, later in pairwise(times[1:]))
    assert len(times) <= 2 + 3_000 / 60


def test_so_are_those_of_a_ring_without_a_key_and_of_older_keys(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    s.place.go_down()
    for number in range(50):
        s.time.pass_by(1.9)
        for use in (s.ring.active_sync, partial(s.ring.get_sync, f"old{number}~00000000")):
            with suppress(KeyProviderError):
                use()
    assert [told[1:3] for told in pages.told] == [("WARNING", "failed")] * 4  # two questions, a minute and a half
    assert s.reported().count("failed") == 100


def test_a_denial_is_one_error_and_what_ends_by_it_is_another(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    s.ring.active_sync()
    s.place.deny()
    s.run(600)
    assert pages.told[1:3] == [(240, "ERROR", "denied", 300), (300, "ERROR", "denied", 240)]
    assert pages.told[-2:] == [(540, "ERROR", "write_ended", 0), (540, "ERROR", "dropped", 0)]
    assert s.reported()[:3] == ["fetched", "denied", "degraded"]
    assert s.ring.health().state == "down"
    s.place.come_back()
    s.ring.active_sync()
    assert pages.told[-1] == (600, "INFO", "recovered", None)
    # The key that came is the one that was active: it is told once that it is there.
    assert s.reported()[-2:] == ["fetched", "recovered"]


def test_events_of_before_are_still_given_to_hooks_and_the_log_has_one_record_for_both(
    watched: tuple[Any, Pages],
) -> None:
    s, pages = watched
    s.ring.active_sync()
    s.place.go_down()
    for _ in range(40):
        s.run(10)
        s.ring.active_sync()
    s.place.come_back()
    s.run(20)
    assert [what for what in s.reported() if what != "failed"] == [
        "fetched",
        "degraded",
        "served stale",
        "refreshed",
        "recovered",
    ]
    assert [told[2] for told in pages.told if told[2] != "failed"] == ["fetched", "degraded", "recovered"]


def test_a_call_that_hangs_is_told_as_one_that_fails(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    s.ring.active_sync()
    s.workers.hold = True
    s.run(1_000)
    assert [told[:3] for told in pages.told[1:]] == [(300, "WARNING", "degraded"), (900, "ERROR", "write_ended")]
    s.workers.let_go()
    assert pages.told[-1][2] == "recovered"


def test_nobody_is_called_for_a_ring_that_nobody_uses() -> None:
    for s, pages in watch(Still(retry=RetryPolicy(attempts=1, deadline_s=0.01))):
        s.ring.active_sync()
        s.run(3 * DAY, step=60)
        s.workers.hold = True
        with pytest.raises(KeyProviderError):  # it is asked for at once, and this test lets nobody answer
            s.ring.active_sync()
        assert [told[1:3] for told in pages.told] == [("INFO", "fetched"), ("WARNING", "dropped")]
        s.workers.let_go()
        assert s.ring.health().state == "ok"
        assert "recovered" not in s.reported()


def test_an_outage_that_is_noticed_late_is_one_record_with_its_reason(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    s.ring.active_sync()
    s.place.go_down()
    s.time.pass_by(901)  # no timer: the machine was suspended
    with pytest.raises(KeyProviderError):
        s.ring.active_sync()
    assert pages.told[1:] == [(901, "ERROR", "write_ended", DAY - 901)]
    assert "was told to fail" in pages.records[-1].getMessage()
    assert [(event.what, event.error) for event in s.events[1:]] == [
        ("failed", "KeyUnavailableError"),
        ("write_ended", "KeyUnavailableError"),
    ]


def test_an_active_key_that_was_disabled_ends_writing_at_once(watched: tuple[Any, Pages]) -> None:
    s, pages = watched
    older = s.place.key()
    s.place.rotate()
    active = s.ring.active_sync()
    s.ring.get_sync(older.kid)
    s.place.disable(active.name)
    s.run(240)
    assert [told[1:3] for told in pages.told[-2:]] == [("WARNING", "dropped"), ("ERROR", "write_ended")]
    assert pages.records[-1].kid == active.kid  # type: ignore[attr-defined] # what is tested
    assert s.ring.health().state == "read_only"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["go_down", "come_back", "deny", "rotate", "disable", "hang", "let_go", "read older"]),
        st.sampled_from([7, 95, 300, 700, 90_000]),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
@example([("go_down", 890), ("come_back", 95)])  # it answers in the very turn in which writing ends
def test_the_state_that_the_fields_tell_is_the_state_that_health_tells(
    steps: list[tuple[str, int]],
) -> None:
    s = Still(provider=Unlisted())
    for _, pages in watch(s):
        former = s.place.key()
        s.ring.active_sync()
        for act, seconds in steps:
            if act == "disable":
                s.place.disable(s.place.key().name)
            elif act in {"hang", "let_go"}:
                s.workers.hold = act == "hang"
                s.workers.let_go()
            elif act == "read older":
                attempt(s, partial(s.ring.get_sync, former.kid))
            else:
                getattr(s.place, act)()
            # Hours in long steps, when all that takes minutes is over.
            for step in [5] * (min(seconds, 1_200) // 5) + [900] * (seconds // 900):
                s.run(step, step=step)
                attempt(s, s.ring.active_sync)
                assert pages.state == s.ring.health().state, pages.told


def attempt(s: Still, use: Any) -> None:
    """A use of a busy ring; where nobody answers, nobody waits."""
    if s.workers.hold and not s.ring.health().can_write:
        return
    with suppress(KeyProviderError):
        use()


def test_health_tells_what_is_left_if_nobody_answers(watched: tuple[Any, Pages]) -> None:
    s, _ = watched
    assert s.ring.health()[6:] == (None, None, 0, 0, "down")
    kid = s.ring.active_sync().kid
    s.place.go_down()
    found = []
    for at in (0, 299, 300, 899, 900, DAY - 1, DAY):
        s.run(at - (s.time.now - 1_000_000), step=60)
        health = s.ring.health()
        found.append((at, health.writes_for_s, health.reads_for_s, health.state))
    assert found == [
        (0, 900, DAY, "ok"),
        (299, 601, DAY - 299, "ok"),
        (300, 600, DAY - 300, "degraded"),
        (899, 1, DAY - 899, "degraded"),
        (900, 0, DAY - 900, "read_only"),
        (DAY - 1, 0, 1, "read_only"),
        (DAY, 0, 0, "down"),
    ]
    s.place.come_back()
    s.ring.active_sync()
    s.time.pass_by(5)
    health = s.ring.health()
    assert (health.active_kid, health.active_age_s, health.state) == (kid, 5, "ok")
    assert json.loads(json.dumps(health.as_dict())) == {**health._asdict(), "held": [kid], "stuck": []}


def test_a_denial_shortens_what_is_left(watched: tuple[Any, Pages]) -> None:
    s, _ = watched
    s.ring.active_sync()
    s.place.deny()
    s.run(250)
    health = s.ring.health()
    assert (health.writes_for_s, health.reads_for_s, health.state) == (290, 290, "degraded")


def test_new_fields_are_last_and_have_defaults() -> None:
    assert KeyEvent("failed", "here", "words")[3:] == (None,) * 8
    assert RingHealth(True, True, None, (), {}, ())[6:] == (None, None, 0, 0, "down")


def test_a_ring_is_called_after_its_place_unless_it_has_a_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in (None, "tenant-8"):
        Still(name=name).ring.active_sync()
    assert [record.ring for record in caplog.records] == [FakeKeyProvider.place, "tenant-8"]  # type: ignore[attr-defined] # what is tested


@pytest.mark.parametrize(("name", "kind"), [("", ValueError), (5, TypeError), (b"a", TypeError)])
def test_a_name_is_a_str_that_is_not_empty(name: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="name must"):
        KeyRing(FakeKeyProvider(), name=name)


def test_the_timer_tells_without_any_use() -> None:
    place, told = FakeKeyProvider(), []
    policy = CachePolicy(fresh_s=0.2, stale_write_s=0.5)
    ring = KeyRing(place, cache=policy, retry=RetryPolicy(attempts=1), on_event=told.append)
    ring.active_sync()
    place.go_down()
    until = time.monotonic() + 20
    while not any(event.what == "write_ended" for event in told) and time.monotonic() < until:
        time.sleep(0.02)
    assert [event.what for event in told] == ["fetched", "failed", "degraded", "write_ended"]
    ring.close()


def test_one_thread_at_a_time_tells_and_what_happens_meanwhile_comes_after() -> None:
    told: list[str] = []
    telling, go_on = threading.Event(), threading.Event()

    def slow(event: KeyEvent) -> None:
        telling.set()
        assert event.what != "write_ended" or go_on.wait(20)
        told.append(event.what)

    sink = EventSink(slow, "ring")
    sink.put([report_of("place", "write_ended", "words")])
    thread = threading.Thread(target=sink.tell)
    thread.start()
    assert telling.wait(20)
    sink.put([report_of("place", "recovered", "words")])
    sink.tell()  # leaves it to the other thread, and does not wait for it
    assert told == []
    go_on.set()
    thread.join(20)
    assert told == ["write_ended", "recovered"]

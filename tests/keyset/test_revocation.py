"""How long a process goes on after its key-encryption key was disabled, and what looking costs: through a ring."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import copy

import pytest

from encrypted_sessions_tests.keyset_fixture import KeysetFixture
from encrypted_sessions_tests.soak import with_full
from keyproviders import (
    InvalidKeyError,
    Key,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyRing,
    KeyUnavailableError,
    RetryPolicy,
)
from keyproviders.keyset import KeysetKeyProvider, StoredKeyset
from keyproviders.ring import cache

BOUND_S = 62 * 60
GRACE_S = 5 * 60
STEP_S = 5
DAY_S = 86_400


class Service:
    """A busy process: it writes, and reads with every key, each few seconds of the clock."""

    def __init__(self, setting: KeysetFixture, ring: KeyRing) -> None:
        self._clock = setting.clock
        self._ring = ring

    def settle(self) -> None:
        """Wait for what is asked in the background: the clock stands still meanwhile."""
        until = time.monotonic() + 60
        while self._ring.health().counts["waiting"]:
            assert time.monotonic() < until
            time.sleep(0.0005)

    def use(self, *kids: str) -> list[type[Exception] | None]:
        """Write, and read with these keys; what each of them raises."""
        raised: list[type[Exception] | None] = []
        for call in (self._ring.active_sync, *(lambda kid=kid: self._ring.get_sync(kid) for kid in kids)):
            try:
                call()
            except Exception as error:  # noqa: BLE001 - told to the test
                raised.append(type(error))
            else:
                raised.append(None)
            self.settle()
        return raised

    def run(self, seconds: float, *kids: str) -> None:
        """Work for so long, without a failure."""
        until = self._clock.now + seconds
        while self._clock.now < until:
            self._clock.now += STEP_S
            assert not any(self.use(*kids))

    def ends_after(self, *kids: str) -> float:
        """Work until nothing works any more; the seconds until then."""
        began = self._clock.now
        while not all(self.use(*kids)):
            self._clock.now += STEP_S
            assert self._clock.now - began < 3 * 3_600
        return self._clock.now - began


@contextmanager
def service(setting: KeysetFixture) -> Iterator[Service]:
    with closing(KeyRing(setting.provider(), clock=setting.clock)) as ring:
        yield Service(setting, ring)


@pytest.fixture(params=with_full([0.9, 1.1], [1.0]))
def jitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """What the ring draws each time."""
    monkeypatch.setattr(cache, "_jitter", lambda: request.param)
    return float(request.param)


def kid_of(setting: KeysetFixture, name: str) -> str:
    key: Key = setting.provider().get(name)
    return key.kid


def disable(setting: KeysetFixture) -> None:
    setting.wrapper.failure = KeyDisabledError("the key-encryption key is disabled")


@pytest.mark.parametrize("after_s", [5, 900, 3_240, 3_300, 3_305, 3_560, 3_600, 20_000])
@pytest.mark.usefixtures("jitter")
def test_a_disabled_key_encryption_key_ends_a_busy_process_within_62_minutes(
    setting: KeysetFixture, after_s: int
) -> None:
    with service(setting) as process:
        process.use()
        process.run(after_s)
        disable(setting)
        assert process.ends_after() <= BOUND_S


@pytest.mark.parametrize("after_s", [5, 3_300, 3_600, 20_000])
@pytest.mark.usefixtures("jitter")
def test_a_busy_process_that_may_no_longer_unwrap_stops_within_67_minutes(setting: KeysetFixture, after_s: int) -> None:
    with service(setting) as process:
        process.use()
        process.run(after_s)
        setting.wrapper.failure = KeyAccessDeniedError("the role may not unwrap any more")
        assert process.ends_after() <= BOUND_S + GRACE_S


@pytest.mark.parametrize("after_s", [5, 3_240])
@pytest.mark.usefixtures("jitter")
def test_while_a_keyset_can_be_read_but_not_unwrapped_writing_ends_within_75_minutes(
    setting: KeysetFixture, after_s: int
) -> None:
    kid = kid_of(setting, "first")
    with closing(KeyRing(setting.provider(), retry=RetryPolicy(attempts=1), clock=setting.clock)) as ring:
        process = Service(setting, ring)
        process.use()
        process.run(after_s)
        setting.wrapper.failure = KeyUnavailableError("down")
        assert process.ends_after() <= 75 * 60
        assert process.use(kid) == [KeyUnavailableError, None], "reading goes on"


@pytest.mark.parametrize("after_s", [5, 3_240])
@pytest.mark.usefixtures("jitter")
def test_a_process_that_cannot_unwrap_a_new_active_key_writes_on_under_the_old_one_for_15_minutes(
    setting: KeysetFixture, after_s: int
) -> None:
    with closing(KeyRing(setting.provider(), retry=RetryPolicy(attempts=1), clock=setting.clock)) as ring:
        process = Service(setting, ring)
        process.use()
        process.run(after_s)
        setting.manager.rotate(key_name="second", now=True)
        setting.wrapper.failure = KeyUnavailableError("down")
        assert process.use() == [None], "under the old one"
        assert process.ends_after() <= 15 * 60


@pytest.mark.parametrize("rotated_s", [10, 1_800, 3_290, 3_500])
@pytest.mark.parametrize("after_s", [5, 600, 3_300, 3_595, 7_000])
@pytest.mark.usefixtures("jitter")
def test_an_older_key_ends_within_62_minutes_too(setting: KeysetFixture, rotated_s: int, after_s: int) -> None:
    older = kid_of(setting, "first")
    with service(setting) as process:
        process.use(older)
        process.run(rotated_s, older)
        setting.manager.rotate(key_name="second", now=True)
        process.run(after_s, older)
        disable(setting)
        assert process.ends_after(older) <= BOUND_S


def test_what_was_enabled_again_works_at_once(setting: KeysetFixture) -> None:
    kid = kid_of(setting, "first")
    with service(setting) as process:
        process.use(kid)
        disable(setting)
        process.ends_after(kid)
        assert process.use(kid) == [KeyDisabledError, KeyDisabledError]
        setting.wrapper.failure = None
        # A miss of a key is remembered for 30 s.
        setting.later(31)
        assert process.use(kid) == [None, None]


@pytest.mark.usefixtures("jitter")
def test_looking_costs_24_calls_a_day_for_each_key(setting: KeysetFixture) -> None:
    older = kid_of(setting, "first")
    setting.manager.rotate(key_name="second", now=True)
    with service(setting) as process:
        process.use(older)
        before = setting.wrapper.calls["unwrap"]
        process.run(DAY_S, older)
        assert 2 * 24 <= setting.wrapper.calls["unwrap"] - before <= 2 * 25


def test_a_keyset_that_was_made_anew_with_the_same_names_is_told_by_the_fingerprint(
    setting: KeysetFixture, caplog: pytest.LogCaptureFixture
) -> None:
    kid = kid_of(setting, "first")
    text = setting.text()
    with service(setting) as process:
        assert process.use(kid) == [None, None]
        stored = setting.store.read("default")
        assert stored is not None
        setting.later(1)
        other = KeysetFixture.of(setting.store)
        other.clock.now = setting.clock.now
        context = {"keyset": "default", "key": "first", "created_at": "2027-01-15T08:00:00Z"}
        entry = other.wrapper.generate({**context, "keyset_id": str(setting.manager.keyset_id)})[1]
        line = next(line for line in text.splitlines() if '"wrapped"' in line)
        assert setting.store.write(
            "default", text.replace(line, f'      "wrapped": "{entry.ciphertext}"'), expected=stored.revision
        )
        # It is noticed at the next refresh; what is held goes on for the grace of 300 s.
        for _ in range(130):
            setting.later(STEP_S)
            raised = process.use(kid)
        assert raised == [None, KeyNotFoundError]
        assert process.use(kid_of(setting, "first")) == [None, None]
    assert "this name now means another key" in caplog.text


# -- Writers ----------------------------------------------------------------------------------------


class Cut:
    """The keyset's place, as a process sees it that is cut off from it."""

    def __init__(self, setting: KeysetFixture) -> None:
        self._store = setting.store
        self.place = setting.store.place
        self.failure: Exception | None = None

    def read(self, name: str) -> StoredKeyset | None:
        if self.failure is not None:
            raise copy(self.failure)  # the same one would keep the frames of each time that it was raised
        return self._store.read(name)

    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        return self._store.write(name, text, expected=expected)


@pytest.mark.parametrize(
    "failure", [KeyUnavailableError("down"), KeyAccessDeniedError("no"), InvalidKeyError("damaged"), OSError("odd")]
)
@pytest.mark.parametrize("before_s", [0, 1, 60, 200])
@pytest.mark.usefixtures("jitter")
def test_nobody_writes_with_a_key_any_more_when_it_may_be_retired(
    setting: KeysetFixture, failure: Exception, before_s: int
) -> None:
    active_at = setting.manager.rotate(key_name="second").activate_at.timestamp()
    store = Cut(setting)
    provider = KeysetKeyProvider(setting.wrapper, store, clock=setting.clock)
    with closing(KeyRing(provider, retry=RetryPolicy(attempts=1), clock=setting.clock)) as ring:
        setting.later(int(active_at) - int(setting.clock()) - 1 - before_s)
        assert ring.active_sync().name == "first"
        store.failure = failure
        process = Service(setting, ring)
        while process.use() == [None]:
            setting.later(STEP_S)
        (until,) = (key.written_until for key in setting.manager.list().keys if key.name == "first")
        assert until is not None
        # One clock of the fleet may be 60 s behind another.
        assert setting.clock() <= until.timestamp() - 60
        setting.later(int(until.timestamp()) - int(setting.clock()))
        assert setting.manager.retire("first").state == "retired"


def test_what_is_sealed_in_an_emergency_opens_at_once_where_nobody_has_seen_the_key(setting: KeysetFixture) -> None:
    with service(setting) as process:
        process.use()
        setting.manager.rotate(key_name="second", now=True)
        assert process.use(kid_of(setting, "second")) == [None, None]

"""Each key is asked for once a run, permits are waited for, and made-up kids cost what there is to cost."""

from __future__ import annotations

import json

import pytest

from encrypted_sessions import KeyAccessDeniedError, KeyUnavailableError
from encrypted_sessions.maintenance import keys, reencrypt, verify
from encrypted_sessions.maintenance.keys import StoreKeys
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from keyproviders import InvalidKeyError, KeyRing, RetryPolicy


class Waits:
    """A clock that goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def wait(self, seconds: float, stop: object) -> None:
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    waits = Waits()
    monkeypatch.setattr(keys, "wait", waits.wait)
    return waits


def made_up(sealer: Sealer, number: int) -> str:
    return json.dumps({**sealer.envelope(message("a")), "kid": f"made-up-{number}~{number:08x}"})


def ring_of(sealer: Sealer, waits: Waits) -> KeyRing:
    return KeyRing(sealer.provider, clock=waits, retry=RetryPolicy(attempts=1))


async def test_a_kid_that_is_not_there_is_asked_for_once_a_run(sealer: Sealer):
    rows = [sealer.of(kind) for kind in ("unknown_key", "key_disabled", "erased")] * 50
    await verify(MemoryStore(SESSION, rows), sealer.ring, batch=10)
    assert sorted(sealer.provider.asked) == ["active()", "destroyed", "disabled", "unknown"]


async def test_a_key_that_is_there_is_asked_for_once(sealer: Sealer):
    rows = [sealer.row(message(str(n)), sealer.older) for n in range(100)]
    report = await verify(MemoryStore(SESSION, rows), sealer.ring, batch=10)
    assert report.ok
    assert sorted(sealer.provider.asked) == ["active()", "older"]


async def test_a_run_waits_for_its_turns(sealer: Sealer, waits: Waits):
    rows = [*(made_up(sealer, n) for n in range(15)), sealer.row(message("a"), sealer.older)]
    ring = KeyRing(sealer.provider, retry=RetryPolicy(attempts=1))
    report = await verify(MemoryStore(SESSION, rows), ring)
    assert (report.found, report.stopped) == ({"unknown_key": 15, "ok": 1}, None)
    assert waits.waited == []  # the ring waits: five at the start, and five a second
    ring.close()


async def test_more_made_up_kids_than_one_run_asks_for_are_told_as_not_asked(
    sealer: Sealer, waits: Waits, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keys, "_MOST_MISSES", 5)
    rows = [sealer.row(message("a"), sealer.older), *(made_up(sealer, n) for n in range(30)), sealer.ok("b")]
    store = MemoryStore(SESSION, rows)
    ring = ring_of(sealer, waits)
    report = await verify(store, ring, batch=1)
    assert report.found == {"ok": 2, "unknown_key": 5, "not_opened": 25}
    assert report.left == {"unknown_key": 5, "key_not_asked": 25}
    assert waits.waited == []
    assert sum(name.startswith("made-up") for name in sealer.provider.asked) == 5
    ring.close()


async def test_what_is_no_kid_costs_no_question(sealer: Sealer):
    rows = [
        json.dumps({**sealer.envelope(message("a")), "kid": kid}) for kid in ("", "x", "a b~00000000", "x" * 10_000)
    ]
    report = await verify(MemoryStore(SESSION, rows * 100), sealer.ring)
    assert report.found == {"unknown_key": 400}
    assert sealer.provider.asked == ["active()"]
    assert all(finding.kid in (None, "x") for finding in report.findings)


@pytest.mark.parametrize("kind", [KeyAccessDeniedError, InvalidKeyError])
async def test_a_key_that_its_place_refuses_is_no_outcome_and_the_others_go_on(sealer: Sealer, kind: type[Exception]):
    sealer.provider.fail("older", kind)
    store = MemoryStore(SESSION, [sealer.row(message("a"), sealer.older), sealer.row(message("b"))] * 20)
    report = await reencrypt(store, sealer.ring, batch=5)
    assert (report.ok, report.stopped, report.changed) == (False, None, 0)
    assert report.left == {"key_not_answered": 20}
    (notice,) = report.notices
    assert notice == f"the key {sealer.older.kid}: scripted keys: older answers with {kind.__name__}"
    assert sealer.provider.asked.count("older") == 1


async def test_a_place_that_does_not_answer_is_waited_for_and_then_asked_again(sealer: Sealer, waits: Waits):
    ring = ring_of(sealer, waits)
    sealer.provider.fail("older", KeyUnavailableError)
    store = MemoryStore(SESSION, [sealer.row(message("a"), sealer.older)])

    async def come_back(seconds: float, stop: object) -> None:
        await Waits.wait(waits, seconds, stop)
        if len(waits.waited) == 2:
            sealer.provider.work("older")

    keys.wait = come_back  # type: ignore[assignment]  # `waits` puts it back
    report = await reencrypt(store, ring)
    assert (report.ok, report.changed) == (True, 1)
    assert len(waits.waited) == 2
    ring.close()


async def test_keys_are_neither_shown_nor_pickled(sealer: Sealer):
    import pickle

    held = StoreKeys(sealer.ring, None, lambda: False)
    active = await held.active()
    assert sealer.active.reveal_base64() not in repr(active) + repr(held)
    for one in (held, active):
        with pytest.raises(TypeError):
            pickle.dumps(one)


def test_of_many_sessions_only_the_last_ones_ciphers_are_kept():
    recent: keys._Recent[str] = keys._Recent()
    recent.put(("kid", "first"), "first")
    for number in range(3 * keys._KEPT):
        recent.put(("kid", f"user-{number}"), "cipher")
        assert recent.get(("kid", "first")) == "first", "it is used all the time"
    assert len(recent._kept) == keys._KEPT
    assert recent.get(("kid", "user-0")) is None

"""Each key is asked for once a run, permits are waited for, and made-up kids cost what there is to cost."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from encrypted_sessions import Key, KeyAccessDeniedError, KeyUnavailableError
from encrypted_sessions.maintenance import discard, inventory, keys, purge, reencrypt, verify
from encrypted_sessions.maintenance.ciphers import KEPT, RecentlyUsed
from encrypted_sessions.maintenance.keys import StoreKeys
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from keyproviders import InvalidKeyError, KeyRing, RetryPolicy
from keyproviders.local import StaticKeyProvider


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


async def test_a_name_is_asked_for_once_a_run_whatever_the_fingerprint(sealer: Sealer):
    rows = [json.dumps({**sealer.envelope(message("a")), "kid": f"made-up~{n:08x}"}) for n in range(200)]
    report = await verify(MemoryStore(SESSION, rows), sealer.ring, batch=10)
    assert report.found == {"unknown_key": 200}
    assert sorted(sealer.provider.asked) == ["active()", "made-up"]


async def test_made_up_kids_take_no_more_than_the_time_of_a_run_and_what_most_rows_name_comes_first(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keys, "_WAITS_S", 1.0)
    old = sealer.row(message("a"), sealer.older)
    rows = [*(made_up(sealer, n) for n in range(6)), old, old, *(made_up(sealer, n) for n in range(6, 300))]
    may_wait_s: list[float] = []
    get = sealer.ring.get

    async def noting(kid: str, *, asker: str | None = None, wait_s: float | None = None) -> Key:
        if kid.startswith("made-up"):
            assert wait_s is not None
            may_wait_s.append(wait_s)
        return await get(kid, asker=asker, wait_s=wait_s)

    monkeypatch.setattr(sealer.ring, "get", noting)
    report = await verify(MemoryStore(SESSION, rows), sealer.ring, batch=500)
    # Each may wait for what the others have left of the run's time; with nothing left, it gets what the ring knows.
    with_patience = [wait_s for wait_s in may_wait_s if wait_s > 0]
    assert with_patience[0] == 1.0
    assert with_patience == sorted(with_patience, reverse=True)
    assert report.stopped is None
    assert report.found["ok"] == 2
    assert report.left["key_not_asked"] == report.found["not_opened"] > 150
    assert sealer.provider.asked[:2] == ["active()", "older"]
    assert sum(name.startswith("made-up") for name in sealer.provider.asked) < 60


async def test_purge_goes_on_over_made_up_kids(sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keys, "_WAITS_S", 0.5)
    rows = [*(made_up(sealer, n) for n in range(50)), sealer.expired()]
    report = await purge(MemoryStore(SESSION, rows), sealer.ring, ttl=TTL)
    assert (report.changed, report.stopped) == (1, None)


async def test_a_name_that_is_met_after_the_time_is_spent_is_not_asked(sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keys, "_WAITS_S", 0.0)
    report = await verify(MemoryStore(SESSION, [sealer.row(message("a"), sealer.older), sealer.ok("b")]), sealer.ring)
    assert (report.found, report.left) == ({"ok": 1, "not_opened": 1}, {"key_not_asked": 1})
    assert sealer.provider.asked == ["active()"]


async def test_keys_that_are_found_do_not_count_against_the_time(sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keys, "_WAITS_S", 0.5)
    others = [Key.generate(f"key-{number}") for number in range(12)]
    ring = impatient_ring(ScriptedKeys(sealer.active, *others))  # it makes five look-ups a second
    report = await verify(MemoryStore(SESSION, [sealer.row(message("a"), key) for key in others]), ring)
    assert report.found == {"ok": 12}
    ring.close()


async def test_a_place_that_lists_its_names_answers_for_any_number_of_made_up_kids(sealer: Sealer):
    ring = KeyRing(StaticKeyProvider(sealer.active, sealer.older))
    rows = [*(made_up(sealer, n) for n in range(300)), sealer.row(message("a"), sealer.older)]
    # Were each of them asked for, the time of a run would not do for the sixth part of them.
    report = await verify(MemoryStore(SESSION, rows), ring)
    assert report.found == {"unknown_key": 300, "ok": 1}
    ring.close()


async def test_a_row_stamped_after_its_key_may_have_written_is_late_and_can_be_taken_out(
    sealer: Sealer, tmp_path: Path
):
    until = datetime.fromtimestamp(sealer.now - 500, timezone.utc)
    older = Key("older", sealer.older.secret, written_until=until)
    ring = impatient_ring(ScriptedKeys(sealer.active, older))
    store = MemoryStore(SESSION, [sealer.row(message("a"), older, age=age) for age in (100, 400, 450, 1000)])
    assert (await verify(store, ring)).left == {"late_key": 2}
    counted = await inventory(store, ring)
    assert (counted.ok, counted.left) == (False, {"late_key": 2})
    moved = await reencrypt(store, ring)
    assert (moved.changed, moved.left) == (2, {"late_key": 2})
    gone = await discard(store, ring, outcome="late_key", export=tmp_path / "gone")
    assert (gone.ok, gone.changed, len(store.data)) == (True, 2, 2)
    ring.close()


@pytest.mark.parametrize("until", [-500, 0, 900], ids=lambda seconds: f"until {seconds} s from now")
async def test_a_row_from_the_future_under_a_key_that_has_stopped_by_then_is_not_sealed_again(
    sealer: Sealer, until: int
):
    """Else who holds an old key would write today what opens tomorrow under the new one."""
    older = Key("older", sealer.older.secret, written_until=datetime.fromtimestamp(sealer.now + until, timezone.utc))
    ring = impatient_ring(ScriptedKeys(sealer.active, older))
    rows = [sealer.row(message("forged"), older, age=-10_000), sealer.row(message("skewed"), older, age=-until - 30)]
    store = MemoryStore(SESSION, rows)
    report = await reencrypt(store, ring)
    assert (report.ok, report.changed, report.left) == (False, 1, {"not_yet_valid": 1})
    assert store.data[0] == rows[0].encode()
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

    held = StoreKeys([sealer.ring], None, lambda: False)
    active = await held.active()
    assert sealer.active.reveal_base64() not in repr(active) + repr(held)
    for one in (held, active):
        with pytest.raises(TypeError):
            pickle.dumps(one)


def test_of_many_sessions_only_the_last_ones_ciphers_are_kept():
    recent: RecentlyUsed[str] = RecentlyUsed()
    recent.put(("kid", "first"), "first")
    for number in range(3 * KEPT):
        recent.put(("kid", f"user-{number}"), "cipher")
        assert recent.get(("kid", "first")) == "first", "it is used all the time"
    assert len(recent._kept) == KEPT
    assert recent.get(("kid", "user-0")) is None

"""What is said of each key, and which are called free: only those that nothing can depend on."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from encrypted_sessions import KeyAccessDeniedError
from encrypted_sessions.maintenance import InventoryReport, KeyUse, inventory, purge, reencrypt
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import fill, whole


def use_of(report: InventoryReport, kid: str) -> KeyUse:
    (use,) = [use for use in report.keys if use.kid == kid]
    return use


def relabelled(row: str, kid: str) -> str:
    return json.dumps({**json.loads(row), "kid": kid})


async def test_a_key_is_free_once_what_it_sealed_was_moved(file: StoreLocation, sealer: Sealer):
    rows = [
        sealer.ok("new"),
        sealer.row(message("old"), sealer.older),
        sealer.row(message("gone"), sealer.older, age=TTL + 9),
    ]
    await fill(file, {SESSION: rows})
    older = sealer.older.kid
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, ttl=TTL)
        assert (report.free, use_of(report, older).proven, use_of(report, older).expired) == ((), True, 1)
        await reencrypt(store, sealer.ring)
        assert (await inventory(store, sealer.ring, sessions=[SESSION])).free == ()
        assert (await inventory(store, sealer.ring, kids=[older])).free == ()
        labels = await inventory(store)
        assert (labels.free, [use.proven for use in labels.keys]) == ((), [False] * len(labels.keys))
        report = await inventory(store, sealer.ring, ttl=TTL)
        assert (report.free, use_of(report, sealer.active.kid).expired) == ((older,), 1)
        assert (await inventory(store, sealer.ring, stop=lambda: True)).free == ()
        await purge(store, sealer.ring, ttl=TTL)
        assert use_of(await inventory(store, sealer.ring, ttl=TTL), sealer.active.kid).expired == 0


@pytest.mark.parametrize("doubt", ["unauthentic", "unsupported", "too_large", "refused"])
async def test_what_may_need_any_key_leaves_none_free(file: StoreLocation, sealer: Sealer, doubt: str):
    await sealer.ring.get(sealer.older.kid)  # it is at hand, and nothing names it
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        assert (await inventory(store, sealer.ring)).free == (sealer.older.kid,)
        most = 64 * 2**20
        row = sealer.of("unauthentic")
        if doubt == "unsupported":
            row = sealer.of("unsupported")
        elif doubt == "too_large":
            row, most = sealer.ok("x" * 5_000), 4_000
        elif doubt == "refused":
            sealer.provider.fail(sealer.unknown.name or "", KeyAccessDeniedError)
            row = sealer.row(message("b"), sealer.unknown)
        await fill(file, {SESSION: [row]})
        report = await inventory(store, sealer.ring, max_row_bytes=most, require_free=[sealer.older.kid])
    assert (report.free, report.ok, list(report.not_free)) == ((), False, [sealer.older.kid])


async def test_a_label_of_a_disabled_key_hides_no_other_key(file: StoreLocation, sealer: Sealer):
    await sealer.ring.get(sealer.older.kid)
    hidden = relabelled(sealer.row(message("a"), sealer.older), sealer.disabled.kid)
    await fill(file, {SESSION: [sealer.ok("b"), hidden]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, require_free=[sealer.older.kid])
    assert (report.left, report.free) == ({"mislabelled": 1}, ())
    assert report.not_free == {sealer.older.kid: "1 row needs it"}
    assert not use_of(report, sealer.disabled.kid).proven


async def test_hundreds_of_made_up_kids_make_no_key_free(
    file: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.maintenance.aggregation.MOST_GROUPS", 3)
    monkeypatch.setattr("encrypted_sessions.maintenance.keys._WAITS_S", 60.0)
    made_up = [relabelled(sealer.ok("a"), f"n{number}~00000000") for number in range(5)]
    await fill(file, {SESSION: [*made_up, sealer.row(message("b"), sealer.older)]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, require_free=[sealer.older.kid])
    assert (report.free, list(report.not_free), report.ok) == ((), [sealer.older.kid], False)
    assert "Nothing in this store depends on" not in report.conclusion


def test_by_the_command(place: StoreLocation, sealer: Sealer):
    filled(place, {SESSION: [sealer.ok("a"), sealer.row(message("b"), sealer.older, age=60)]})
    told = report_of(run(place, sealer, "inventory", "--ttl", str(TTL), "--json"))
    assert (told["free"], told["other_keys"]) == ([], {})
    (older,) = [use for use in told["keys"] if use["kid"] == sealer.older.kid]
    assert (older["proven"], older["expired"], older["needed_by"]) == (True, 0, 1)

    def written(seconds: int) -> str:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"

    assert older["newest"] == written(sealer.now - 60)
    assert older["free_from"] == written(sealer.now - 60 + TTL + 1)
    assert {group["oldest"] for group in told["groups"]} >= {written(sealer.now - 60)}
    assert datetime.fromisoformat(told["started_at"].replace("Z", "+00:00")).tzinfo is not None
    assert run(place, sealer, "reencrypt").exit_code == 0
    text = " ".join(run(place, sealer, "inventory", "--require-free", sealer.older.kid).stdout.split())
    assert f"{sealer.older.kid} 0 0 - now" in text
    free = report_of(run(place, sealer, "inventory", "--require-free", sealer.older.kid, "--json"))
    assert free["free"] == [sealer.older.kid]
    assert "now" not in run(place, sealer, "inventory", "--kid", sealer.active.kid).stdout.split()


def test_a_time_that_no_calendar_has_is_null(file: StoreLocation, sealer: Sealer):
    far = sealer.row(message("a"), sealer.unknown, age=sealer.now - 2**62)
    filled(file, {SESSION: [far]})
    (group,) = report_of(run(file, sealer, "inventory", "--json"))["groups"]
    assert (group["oldest"], group["newest"]) == (None, None)

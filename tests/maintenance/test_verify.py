"""A store is in order when every row opens, has expired, or was erased with its key; and nothing is changed."""

from __future__ import annotations

import pytest

from encrypted_sessions.maintenance import verify
from encrypted_sessions_tests.sealed_rows import OUTCOMES, SESSION, TTL, Sealer, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

IN_ORDER = ("ok", "expired", "erased")


@pytest.mark.parametrize("kind", OUTCOMES)
async def test_each_outcome_is_in_order_or_named(file: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.ok("a"), sealer.of(kind), sealer.ok("b")]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await verify(store, sealer.ring, ttl=TTL)
    outcome = outcome_of(kind)
    assert report.found == ({"ok": 3} if outcome == "ok" else {"ok": 2, outcome: 1})
    assert report.ok is (outcome in IN_ORDER)
    assert report.left == ({} if report.ok else {outcome: 1})
    if not report.ok:
        (finding,) = report.findings
        assert (finding.session_id, finding.row_id, finding.outcome) == (SESSION, "2", outcome)
        assert finding.kid == sealer.kid_of(kind)
    assert report.active_kid == sealer.active.kid
    assert await raw_rows(file, SESSION) == rows


async def test_a_whole_store_with_everything_in_it(place: StoreLocation, sealer: Sealer):
    rows = [sealer.of(kind) for kind in OUTCOMES]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await verify(store, sealer.ring, ttl=TTL, batch=4)
    expected: dict[str, int] = {}
    for kind in OUTCOMES:
        expected[outcome_of(kind)] = expected.get(outcome_of(kind), 0) + 1
    assert report.found == expected
    assert report.left == {name: count for name, count in expected.items() if name not in IN_ORDER}
    assert len(report.findings) == 20
    assert report.changed == 0
    assert await raw_rows(place, SESSION) == rows


async def test_without_a_ttl_nothing_counts_as_expired(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.of("expired"), sealer.of("expired_unverified")]})
    async with whole(file) as store:
        report = await verify(store, sealer.ring)
    assert report.found == {"ok": 1, "unknown_key": 1}


async def test_a_row_moved_to_another_session_is_unauthentic(place: StoreLocation, sealer: Sealer):
    await fill(place, {"user-2": [sealer.ok("mine")]})
    async with whole(place) as store:
        report = await verify(store, sealer.ring)
    assert (report.ok, report.found) == (False, {"unauthentic": 1})

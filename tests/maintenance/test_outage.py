"""An outage in the midst: a run waits within bounds, then stops with what was done, and the next one goes on."""

from __future__ import annotations

import pytest

from encrypted_sessions import KeyAccessDeniedError, KeyDestroyedError, KeyDisabledError, KeyUnavailableError
from encrypted_sessions.maintenance import Progress, purge, reencrypt, verify
from encrypted_sessions.maintenance import keys as keys_module
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.envelopes import kid_of, timestamp_of
from encrypted_sessions_tests.keyring_fakes import ACTIVE
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.stores import StoreLocation, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole
from keyproviders import KeyRing, RetryPolicy

COUNT = 300
BATCH = 20


class Outage:
    """A provider that answers nothing from the moment when so many rows were changed, and keys that are old by then."""

    def __init__(self, sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sealer = sealer
        self._now = 1000.0
        self.waits = 0
        self._has_begun = False
        self.ends_after: int | None = None
        self.kind: type[Exception] = KeyUnavailableError
        self.of = (ACTIVE, "older", "active")
        self.ring = KeyRing(sealer.provider, clock=lambda: self._now, retry=RetryPolicy(attempts=1))
        monkeypatch.setattr("encrypted_sessions.maintenance.progress._EVERY_S", 0.0)
        monkeypatch.setattr(keys_module, "wait", self._wait)

    def begin(self, progress: Progress) -> None:
        if progress.changed >= 3 * BATCH and not self._has_begun:
            self._has_begun = True
            for name in self.of:
                self._sealer.provider.fail(name, self.kind)
            self._now += 10 * 86_400  # no key that is held may be used without a new answer

    def end(self) -> None:
        for name in (ACTIVE, "older", "active"):
            self._sealer.provider.work(name)

    async def _wait(self, seconds: float, stop: object) -> None:
        self.waits += 1
        self._now += seconds
        if self.waits == self.ends_after:
            self.end()


@pytest.fixture
def outage(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(sealer, monkeypatch)


def rows_of(sealer: Sealer) -> list[str]:
    return [sealer.row(message(str(n)), sealer.older, age=n) for n in range(COUNT)]


async def test_the_run_stops_with_what_was_done_and_the_next_one_goes_on(
    place: StoreLocation, sealer: Sealer, outage: Outage
):
    before = rows_of(sealer)
    await fill(place, {SESSION: before})
    async with whole(place) as store:
        first = await reencrypt(store, outage.ring, batch=BATCH, progress=outage.begin)
        assert (first.stopped, first.ok, first.left) == ("provider", False, {})
        assert "answers with KeyUnavailableError" in str(first.stopped_because)
        assert "what was done so far stays done" in str(first.stopped_because)
        assert outage.waits == keys_module._TRIES - 1
        rows = await raw_rows(place, SESSION)
        moved = [row for row in rows if kid_of(row) == sealer.active.kid]
        assert len(moved) == first.changed
        assert 0 < first.changed < COUNT
        assert all(now == then for now, then in zip(rows, before, strict=True) if kid_of(now) != sealer.active.kid)

        outage.end()
        second = await reencrypt(store, outage.ring, batch=BATCH)
        assert (second.ok, second.changed) == (True, COUNT - first.changed)
    rows = await raw_rows(place, SESSION)
    assert [timestamp_of(row) for row in rows] == [timestamp_of(row) for row in before]
    async with sealer.session(place, ttl=None) as session:
        assert texts(await session.get_items()) == [str(n) for n in range(COUNT)]
    outage.ring.close()


async def test_an_outage_that_ends_while_the_run_waits_is_not_even_told(
    place: StoreLocation, sealer: Sealer, outage: Outage
):
    outage.ends_after = 2
    await fill(place, {SESSION: rows_of(sealer)})
    async with whole(place) as store:
        report = await reencrypt(store, outage.ring, batch=BATCH, progress=outage.begin)
    assert (report.ok, report.changed, outage.waits) == (True, COUNT, 2)
    outage.ring.close()


@pytest.mark.parametrize("kind", [KeyUnavailableError, KeyAccessDeniedError])
async def test_nothing_is_removed_on_an_outage(
    file: StoreLocation, sealer: Sealer, outage: Outage, kind: type[Exception]
):
    """An answer that does not come makes no row expired, erased or unknown."""
    outage.kind = kind
    rows = [sealer.row(message(str(n)), sealer.older, age=AGE * (n % 2)) for n in range(COUNT)]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await purge(store, outage.ring, ttl=TTL, batch=BATCH, progress=outage.begin)
    assert not report.ok
    assert set(report.found) <= {"ok", "expired", "not_opened"}
    left = await raw_rows(file, SESSION)
    assert [row for row in left if row in rows[::2]] == rows[::2]
    assert len(left) == COUNT - report.changed
    outage.ring.close()


async def test_what_is_told_of_a_run_that_was_stopped_is_what_was_seen(
    file: StoreLocation, sealer: Sealer, outage: Outage
):
    await fill(file, {SESSION: rows_of(sealer)})
    seen: list[int] = []

    def begin(progress: Progress) -> None:
        seen.append(progress.seen)
        if progress.seen >= 100:
            outage.begin(progress._replace(changed=COUNT))

    async with whole(file) as store:
        report = await verify(store, outage.ring, batch=BATCH, progress=begin)
    assert (report.stopped, report.ok) == ("provider", False)
    assert report.found == {"ok": seen[-1]}
    outage.ring.close()


@pytest.mark.private_servers
async def test_a_server_that_goes_away_ends_the_run_and_the_next_one_goes_on(
    request: pytest.FixtureRequest, postgres_server: Server, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.maintenance.progress._EVERY_S", 0.0)
    monkeypatch.setattr("encrypted_sessions.maintenance.store_calls._RETRY_WAITS_S", (0.0, 0.1))
    place = new_place("sqlalchemy-postgres", request)
    await fill(place, {SESSION: rows_of(sealer)})
    broken = False

    def go_away(progress: Progress) -> None:
        nonlocal broken
        if progress.changed >= 3 * BATCH and not broken:
            broken = True
            postgres_server.kill()

    async with whole(place) as store:
        first = await reencrypt(store, sealer.ring, batch=BATCH, progress=go_away)
    assert (first.stopped, first.ok) == ("store", False)
    postgres_server.restore()
    async with whole(place) as store:
        second = await reencrypt(store, sealer.ring, batch=BATCH)
    assert second.ok
    assert {kid_of(row) for row in await raw_rows(place, SESSION)} == {sealer.active.kid}
    async with sealer.session(place, ttl=None) as session:
        assert texts(await session.get_items()) == [str(n) for n in range(COUNT)]


@pytest.mark.parametrize(("kind", "outcome"), [(KeyDestroyedError, "erased"), (KeyDisabledError, "key_disabled")])
async def test_a_key_that_ends_in_the_midst_takes_what_was_moved_before_with_it_no_more(
    file: StoreLocation, sealer: Sealer, outage: Outage, kind: type[Exception], outcome: str
):
    rows = rows_of(sealer)
    await fill(file, {SESSION: rows})
    outage.kind, outage.of = kind, ("older",)
    async with whole(file) as store:
        report = await reencrypt(store, outage.ring, batch=BATCH, progress=outage.begin)
    assert 3 * BATCH <= report.changed < COUNT
    assert report.found == {"ok": report.changed, outcome: COUNT - report.changed}
    after = await raw_rows(file, SESSION)
    assert [kid_of(row) for row in after].count(sealer.active.kid) == report.changed
    assert [row for row in after if kid_of(row) == sealer.older.kid] == [
        row for row, now in zip(rows, after, strict=True) if row == now
    ]

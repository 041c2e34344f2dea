"""Every trace of some sessions goes, and nothing of any other."""

from __future__ import annotations

from typing import Any

import pytest

from encrypted_sessions.errors import StoreError
from encrypted_sessions.maintenance import erase
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer
from encrypted_sessions_tests.stores import StoreLocation, everything_at_rest, new_place, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole


async def test_the_named_sessions_are_gone_and_the_others_are_as_they_were(place: StoreLocation, sealer: Sealer):
    kept = [sealer.ok("kept")]
    await fill(place, {SESSION: [sealer.ok("a"), sealer.of("malformed: a list")], "user-10": kept, "gone": ["{}"]})
    async with whole(place) as store:
        report = await erase(store, [SESSION, "gone", SESSION, "never there"])
    assert (report.ok, report.left) == (False, {"sessions_missing": 1})
    assert (report.sessions, report.named, report.missing) == (2, 2, ("never there",))
    assert sum(report.erased.values()) == report.changed >= 3
    assert await raw_rows(place, SESSION) == []
    assert await raw_rows(place, "user-10") == kept
    if place.kind != "sqlalchemy-postgres":
        assert b"gone" not in await everything_at_rest(place)


async def test_a_dry_run_counts_the_same_and_erases_nothing(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok("a"), sealer.ok("b")]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        dry = await erase(store, [SESSION], dry_run=True)
        assert await raw_rows(place, SESSION) == rows
        report = await erase(store, [SESSION])
    assert (dry.ok, dry.dry_run) == (True, True)
    assert dry.erased == report.erased


async def test_what_somebody_writes_meanwhile_is_counted_as_left(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        really = store.erase

        async def erase_and_be_written_to(*arguments: Any, dry_run: bool) -> Any:
            found = await really(*arguments, dry_run=dry_run)
            if not dry_run:
                await fill(file, {SESSION: [sealer.ok("late")]})
            return found

        store.erase = erase_and_be_written_to  # type: ignore[assignment, method-assign]
        report = await erase(store, [SESSION])
    assert not report.ok
    assert report.left["written_meanwhile"] >= 1


async def test_a_session_that_the_store_refuses_to_erase_keeps_no_other_from_going(
    request: pytest.FixtureRequest, sealer: Sealer
):
    redis = new_place("redis", request)
    await fill(redis, {SESSION: [sealer.ok("a")], "last": [sealer.ok("b")]})
    async with whole(redis) as store, stores._redis(redis) as client:
        await client.sadd(redis.redis_key("odd"), "something else")
        report = await erase(store, [SESSION, "odd", "never there", "last"])
        assert await client.type(redis.redis_key("odd")) == b"set"
        with pytest.raises(StoreError, match="is not a list but a set"):
            await erase(store, ["odd"])
    assert (report.ok, report.sessions, report.missing) == (False, 2, ("never there",))
    assert report.left == {"sessions_missing": 1, "sessions_refused": 1}
    (notice,) = report.notices
    assert "is not a list but a set" in notice
    assert await raw_rows(redis, SESSION) == await raw_rows(redis, "last") == []


async def test_it_may_be_stopped_between_two_sessions_and_says_how_far_it_came(place: StoreLocation, sealer: Sealer):
    await fill(place, {name: [sealer.ok("a")] for name in ("a", "b", "c")})
    answers = iter([False, True])
    async with whole(place) as store:
        report = await erase(store, ["a", "b", "c"], stop=lambda: next(answers))
    assert (report.ok, report.stopped, report.sessions) == (False, "interrupted", 1)
    assert [len(await raw_rows(place, name)) for name in ("a", "b", "c")] == [0, 1, 1]


@pytest.mark.parametrize(
    ("sessions", "kind"),
    [("user-1", TypeError), ([], ValueError), ([1], TypeError), ([""], ValueError), (["a\0b"], ValueError)],
)
async def test_sessions_must_be_a_list_of_ids(
    file: StoreLocation, sealer: Sealer, sessions: Any, kind: type[Exception]
):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        with pytest.raises(kind):
            await erase(store, sessions)

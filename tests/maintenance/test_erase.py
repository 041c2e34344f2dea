"""Every trace of some sessions goes, and nothing of any other."""

from __future__ import annotations

from typing import Any

import pytest

from encrypted_sessions.maintenance import erase
from sealed_rows import SESSION, Sealer
from stores import Place, everything_at_rest, raw_rows
from whole_stores import fill, whole


async def test_the_named_sessions_are_gone_and_the_others_are_as_they_were(place: Place, sealer: Sealer):
    kept = [sealer.ok("kept")]
    await fill(place, {SESSION: [sealer.ok("a"), sealer.of("malformed: a list")], "user-10": kept, "gone": ["{}"]})
    async with whole(place) as store:
        report = await erase(store, [SESSION, "gone", SESSION, "never there"])
    assert report.ok
    assert (report.sessions, report.missing) == (2, ("never there",))
    assert sum(report.erased.values()) == report.changed >= 3
    assert await raw_rows(place, SESSION) == []
    assert await raw_rows(place, "user-10") == kept
    if place.kind != "sqlalchemy-postgres":
        assert b"gone" not in await everything_at_rest(place)


async def test_a_dry_run_counts_the_same_and_erases_nothing(place: Place, sealer: Sealer):
    rows = [sealer.ok("a"), sealer.ok("b")]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        dry = await erase(store, [SESSION], dry_run=True)
        assert await raw_rows(place, SESSION) == rows
        report = await erase(store, [SESSION])
    assert (dry.ok, dry.dry_run) == (True, True)
    assert dry.erased == report.erased


async def test_what_somebody_writes_meanwhile_is_counted_as_left(file: Place, sealer: Sealer):
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


@pytest.mark.parametrize(
    ("sessions", "kind"),
    [("user-1", TypeError), ([], ValueError), ([1], TypeError), ([""], ValueError), (["a\0b"], ValueError)],
)
async def test_sessions_must_be_a_list_of_ids(file: Place, sealer: Sealer, sessions: Any, kind: type[Exception]):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        with pytest.raises(kind):
            await erase(store, sessions)

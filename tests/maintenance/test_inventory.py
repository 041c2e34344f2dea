"""What is in a store, under which keys, how old; and what may be said of keys that nothing needs."""

from __future__ import annotations

import json
import time

import pytest

from encrypted_sessions import Key
from encrypted_sessions.core.cipher import SessionCipher
from encrypted_sessions.core.derivation import upstream_secret
from encrypted_sessions.core.envelope import UPSTREAM_KID
from encrypted_sessions.maintenance import Group, InventoryReport, inventory, purge, reencrypt
from encrypted_sessions.maintenance.aggregation import MOST_GROUPS
from encrypted_sessions.maintenance.distinct_counter import DistinctCounter
from encrypted_sessions_tests.sealed_rows import AGE, OUTCOMES, SESSION, TTL, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.suite_2 import Sealer2
from encrypted_sessions_tests.whole_stores import fill, whole
from keyproviders import KeyRing, RetryPolicy
from keyproviders.testing import FakeKeyProvider


def group(report: InventoryReport, kid: str | None, outcome: str) -> Group:
    (found,) = [one for one in report.groups if (one.kid, one.outcome) == (kid, outcome)]
    return found


async def test_every_row_is_counted_under_its_kid_and_outcome(place: StoreLocation, sealer: Sealer):
    rows = [sealer.of(kind) for kind in OUTCOMES]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await inventory(store, sealer.ring, ttl=TTL, batch=5)
    assert (report.ok, report.stopped, report.left) == (False, None, {"unauthentic": 2})
    assert report.proven
    expected: dict[tuple[str | None, str], int] = {}
    for kind in OUTCOMES:
        name = (sealer.kid_of(kind), outcome_of(kind))
        expected[name] = expected.get(name, 0) + 1
    assert {(one.kid, one.outcome): one.items for one in report.groups} == expected
    assert sum(one.size for one in report.groups) == sum(len(row.encode()) for row in rows)
    assert report.seen == len(rows)
    assert all(one.version == (None if one.kid is None else 1) for one in report.groups)
    assert await raw_rows(place, SESSION) == rows


async def test_sessions_and_the_oldest_and_the_newest_are_told(place: StoreLocation, sealer: Sealer):
    other = Sealer("user-2")
    other.active = sealer.active
    mine = [sealer.row(message("a"), age=age) for age in (5, 300, 20)]
    await fill(place, {SESSION: mine, "user-2": [other.row(message("b"), age=100), json.dumps(message("plain"))]})
    other.ring.close()
    async with whole(place) as store:
        report = await inventory(store, sealer.ring)
    ok = group(report, sealer.active.kid, "ok")
    assert (ok.items, ok.sessions, ok.sessions_exact) == (4, 2, True)
    assert (ok.oldest, ok.newest) == (sealer.now - 300, sealer.now - 5)
    plain = group(report, None, "plaintext")
    if place.kind == "redis":
        assert (plain.oldest, plain.newest) == (None, None)
    else:
        assert plain.newest == pytest.approx(time.time(), abs=60)


async def test_when_everything_is_under_the_active_key_nothing_depends_on_another(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: [sealer.row(message("a"), sealer.older), sealer.ok("b")]})
    async with whole(place) as store:
        before = await inventory(store, sealer.ring)
        assert f"1 row needs {sealer.older.kid}" in before.conclusion
        assert "Nothing in this store depends on any other key but" in before.conclusion
        await reencrypt(store, sealer.ring)
        after = await inventory(store, sealer.ring)
    assert after.conclusion.startswith(
        f"Nothing in this store depends on any key but {sealer.active.kid}, the active one. This holds for what"
    )
    assert "15 minutes (stale_write_s)" in after.conclusion
    uses = {use.kid: use for use in after.keys}
    assert uses[sealer.active.kid].active
    assert uses[sealer.active.kid].needed_by == 2
    # The ring still holds the older one: it is told that nothing needs it.
    assert (uses[sealer.older.kid].needed_by, uses[sealer.older.kid].unproven) == (0, 0)


async def test_with_a_ttl_it_says_from_when_on_expiry_frees_an_older_key(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.row(message("a"), sealer.older, age=age) for age in (100, 500, AGE)]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, ttl=TTL)
    (use,) = [use for use in report.keys if use.kid == sealer.older.kid]
    assert (use.needed_by, use.newest) == (2, sealer.now - 100)
    assert use.free_from == sealer.now - 100 + TTL + 1
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(sealer.now - 100 + TTL + 1))
    assert f"2 rows need {sealer.older.kid} until {told}" in report.conclusion
    assert (
        f"1 row under {sealer.older.kid} has expired: purge it before you destroy the key, not after"
        in report.conclusion
    )
    assert "Sessions with a ttl above 10m need their keys for longer" in report.conclusion


async def test_without_a_ttl_it_gives_the_age_of_the_youngest(file: StoreLocation, sealer: Sealer):
    await fill(
        file, {SESSION: [sealer.row(message("a"), sealer.older, age=age) for age in (86400 * 9 + 5, 86400 * 12)]}
    )
    async with whole(file) as store:
        report = await inventory(store, sealer.ring)
    assert f"2 rows need {sealer.older.kid}, the youngest 9 days old" in report.conclusion
    assert report.found == {"ok": 2}
    assert all(use.free_from is None for use in report.keys)


async def test_once_what_expired_is_purged_nothing_depends_on_its_key(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.row(message("a"), sealer.older, age=AGE)]})
    async with whole(file) as store:
        await purge(store, sealer.ring, ttl=TTL)
        report = await inventory(store, sealer.ring, ttl=TTL)
    assert report.groups == ()
    assert report.conclusion.startswith(f"Nothing in this store depends on any key but {sealer.active.kid}")


@pytest.mark.parametrize("kind", ["unknown_key", "expired_unverified", "unsupported", "key_disabled"])
async def test_rows_that_may_need_a_key_make_it_careful(file: StoreLocation, sealer: Sealer, kind: str):
    await fill(file, {SESSION: [sealer.of(kind), sealer.ok("a")]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, ttl=TTL)
    assert f"Nothing in this store depends on any key but {sealer.active.kid}" not in report.conclusion
    words = {
        "unsupported": "1 row comes from a later release",
        "key_disabled": f"1 row names {sealer.disabled.kid}, which is disabled",
    }.get(kind, f"1 row names keys that this process has no answer for ({sealer.unknown.kid})")
    assert words in report.conclusion


def relabelled(row: str, kid: str) -> str:
    return json.dumps({**json.loads(row), "kid": kid})


@pytest.mark.parametrize("label", ["active", "destroyed", "unknown"])
async def test_a_key_that_a_wrongly_labelled_row_needs_is_never_told_as_free(
    place: StoreLocation, sealer: Sealer, label: str
):
    """A label is no part of what is authenticated: whoever can write to the store can have it name the active key."""
    old = sealer.row(message("old"), sealer.older, age=50)
    rows = [relabelled(old, getattr(sealer, label).kid), sealer.ok("a")]
    await fill(place, {SESSION: rows})
    await sealer.ring.get(sealer.older.kid)  # at hand, as after reencrypt
    async with whole(place) as store:
        assert (await reencrypt(store, sealer.ring)).changed == 0
        report = await inventory(store, sealer.ring, ttl=TTL)
    assert not report.ok
    assert report.left == {"mislabelled": 1}
    assert [finding.session_id for finding in report.findings] == [SESSION]
    (use,) = [use for use in report.keys if use.kid == sealer.older.kid]
    assert (use.needed_by, use.mislabelled, use.newest) == (1, 1, sealer.now - 50)
    assert use.free_from == sealer.now - 50 + TTL + 1
    assert f"1 row needs {sealer.older.kid} though the label says another key" in report.conclusion
    assert "depends on any key but" not in report.conclusion
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize(
    ("label", "sealed_by"), [("active", Sealer), ("destroyed", Sealer), ("unknown", Sealer), ("active", Sealer2)]
)
async def test_a_wrongly_labelled_row_is_told_with_the_key_that_its_place_lists_and_nobody_holds(
    file: StoreLocation, label: str, sealed_by: type[Sealer]
):
    """The keys of a fresh process: it holds the active one alone."""
    place = FakeKeyProvider()
    older = place.key()
    destroyed, active = place.rotate(), place.rotate()
    place.destroy(destroyed.name or "")
    kid = {"active": active, "destroyed": destroyed, "unknown": Key.generate("unknown")}[label].kid
    sealer = sealed_by()
    rows = [relabelled(sealer.row(message("old"), older, age=50), kid), sealer.row(message("a"), active)]
    await fill(file, {SESSION: rows})
    async with KeyRing(place) as ring, whole(file) as store:
        report = await inventory(store, ring, ttl=TTL)
    assert (report.ok, report.left) == (False, {"mislabelled": 1})
    (use,) = [use for use in report.keys if use.kid == older.kid]
    assert (use.needed_by, use.mislabelled, use.newest) == (1, 1, sealer.now - 50)
    assert f"1 row needs {older.kid} though the label says another key" in report.conclusion


async def test_the_keys_of_a_place_are_fetched_only_where_a_row_is_in_doubt_and_once(file: StoreLocation):
    place = FakeKeyProvider()
    older, active = place.key(), place.rotate()
    sealer = Sealer()
    rows = [sealer.row(message("a"), active)]
    await fill(file, {SESSION: rows})
    async with KeyRing(place) as ring, whole(file) as store:
        assert (await inventory(store, ring)).ok
        assert place.asked == ["active"]
        await fill(file, {SESSION: [relabelled(sealer.row(message("x"), Key.generate("y")), active.kid)] * 9})
        assert (await inventory(store, ring, batch=2)).left["unauthentic"] == 9
    assert place.asked.count(older.name or "") == 1


async def test_a_key_is_free_only_if_a_place_knows_it_and_nothing_needs_it(place: StoreLocation):
    keys = FakeKeyProvider()
    oldest = keys.key()
    destroyed, disabled, older, active = (keys.rotate() for _ in range(4))
    keys.destroy(destroyed.name or "")
    keys.disable(disabled.name or "")
    sealer, unknown = Sealer(), Key.generate("never-heard-of")
    kids = [key.kid for key in (oldest, destroyed, disabled, older, active, unknown)]
    await fill(place, {SESSION: [sealer.row(message("a"), older), sealer.row(message("b"), active)]})
    async with KeyRing(keys) as ring, whole(place) as store:
        free = await inventory(store, ring, require_free=kids[:3])
        assert (free.ok, free.required_free, free.not_free) == (True, tuple(kids[:3]), {})
        report = await inventory(store, ring, require_free=kids)
        assert (report.ok, report.not_free) == (
            False,
            {
                older.kid: "1 row needs it",
                active.kid: "it is the active key",
                unknown.kid: "no place that was asked knows it",
            },
        )
        await fill(place, {SESSION: [sealer.row(message("c"), disabled), sealer.row(message("d"), unknown)]})
        report = await inventory(store, ring, require_free=kids)
        assert report.not_free[disabled.kid] == "1 row needs it"
        assert report.not_free[unknown.kid] == "no place that was asked knows it"
        assert (await inventory(store, ring, require_free=[oldest.kid], stop=lambda: True)).not_free
    async with KeyRing(keys) as ring, whole(place) as store:
        # Its key comes first, so that a row whose label was changed is found to need it.
        await fill(place, {SESSION: [relabelled(sealer.row(message("old"), oldest), active.kid)]})
        report = await inventory(store, ring, require_free=[oldest.kid])
        assert (report.ok, report.not_free) == (False, {oldest.kid: "1 row needs it"})


async def test_of_a_place_that_is_away_no_key_is_called_free(file: StoreLocation):
    keys = FakeKeyProvider()
    oldest, _ = keys.key(), keys.rotate()
    await fill(file, {})
    keys.go_down()
    async with whole(file) as store:
        ring = KeyRing(keys, retry=RetryPolicy(attempts=1, deadline_s=0.1))
        report = await inventory(store, ring, require_free=[oldest.kid])
        ring.close()
    assert (report.ok, list(report.not_free)) == (False, [oldest.kid])


async def test_what_is_to_be_free_must_be_kids_and_needs_keys(file: StoreLocation, sealer: Sealer):
    await fill(file, {})
    async with whole(file) as store:
        with pytest.raises(ValueError, match="require_free needs keys"):
            await inventory(store, require_free=[sealer.older.kid])
        for wrong, kind in ((["no kid"], ValueError), (sealer.older.kid, TypeError), ([None], TypeError)):
            with pytest.raises(kind, match="require_free must be"):
                await inventory(store, sealer.ring, require_free=wrong)  # type: ignore[arg-type]


async def test_a_row_of_the_sdks_class_that_names_the_active_key_needs_its_string(file: StoreLocation, sealer: Sealer):
    string = "a string that the SDK's own class was given"
    stamp = sealer.now - 7
    sealed = SessionCipher(upstream_secret(string)[0], SESSION, UPSTREAM_KID).seal_row(message("a"), stamp)
    await fill(file, {SESSION: [relabelled(sealed, sealer.active.kid)]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, upstream_key=string)
    assert not report.ok
    assert f"1 row needs {UPSTREAM_KID} though the label says another key" in report.conclusion


async def test_a_row_that_no_key_at_hand_opens_leaves_it_in_doubt(place: StoreLocation, sealer: Sealer):
    """It may be damaged, and it may be sealed under a key that was not tried."""
    await fill(place, {SESSION: [sealer.of("unauthentic"), sealer.row(message("old"), sealer.older), sealer.ok("a")]})
    async with whole(place) as store:
        report = await inventory(store, sealer.ring, ttl=TTL)
    assert not report.ok
    assert report.left == {"unauthentic": 1}
    assert "1 row opens under no key that this process holds: altered, or sealed under a key" in report.conclusion
    assert "What could be opened does not depend on any other key but" in report.conclusion


@pytest.mark.parametrize("kind", ["plaintext", "malformed: a list", "erased", "expired"])
async def test_rows_that_no_key_helps_are_no_reason_to_keep_one(file: StoreLocation, sealer: Sealer, kind: str):
    await fill(file, {SESSION: [sealer.of(kind), sealer.ok("a")]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, ttl=TTL)
    assert report.conclusion.startswith(f"Nothing in this store depends on any key but {sealer.active.kid}")


async def test_without_keys_it_counts_labels_and_says_that_they_prove_nothing(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: [sealer.ok("a"), sealer.of("unauthentic"), json.dumps(message("b"))]})
    async with whole(place) as store:
        report = await inventory(store)
    assert report.ok
    assert not report.proven
    assert report.active_kid is None
    labels = group(report, sealer.active.kid, "not_opened")
    assert (labels.items, labels.newest) == (2, sealer.now)
    assert "labels are not proof" in report.conclusion
    assert "depends on any key" not in report.conclusion.replace("which keys nothing depends on", "")
    assert sealer.provider.asked == []


async def test_a_run_that_was_stopped_concludes_nothing(file: StoreLocation, sealer: Sealer):
    await fill(file, {SESSION: [sealer.ok("a")]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring, stop=lambda: True)
    assert (report.stopped, report.ok) == ("interrupted", False)
    assert report.conclusion.startswith("The run did not get through the whole store")


async def test_an_empty_store_depends_on_nothing(place: StoreLocation, sealer: Sealer):
    await fill(place, {SESSION: []})
    async with whole(place) as store:
        report = await inventory(store, sealer.ring)
    assert (report.groups, report.found) == ((), {})
    assert report.conclusion.startswith(f"Nothing in this store depends on any key but {sealer.active.kid}")


async def test_kids_that_somebody_makes_up_do_not_fill_memory(file: StoreLocation, sealer: Sealer):
    made_up = [
        json.dumps({**sealer.envelope(message("a")), "kid": f"made-up-{n}~{n:08x}"}) for n in range(MOST_GROUPS + 50)
    ]
    odd = json.dumps({**sealer.envelope(message("a")), "kid": "no kid at all\n" * 100})
    await fill(file, {SESSION: [odd, *made_up]})
    async with whole(file) as store:
        report = await inventory(store)
    assert len(report.groups) <= MOST_GROUPS + 1
    assert sum(one.items for one in report.groups) == MOST_GROUPS + 51
    assert ["counted together" in notice for notice in report.notices] == [True]
    assert "\n" not in str([one.kid for one in report.groups])


def test_a_thousand_different_texts_are_counted_exactly_and_a_hundred_thousand_nearly():
    few, many = DistinctCounter(), DistinctCounter()
    for number in range(2000):
        few.add(f"user-{number}")
        few.add(f"user-{number}")
    assert (few.count(), few.exact) == (2000, True)
    for number in range(100_000):
        many.add(f"user-{number}")
    assert not many.exact
    assert many.count() == pytest.approx(100_000, rel=0.2)
    assert len(many._kept) <= 2 * 1024


async def test_the_key_of_another_ring_is_told_as_the_one_that_rows_need(file: StoreLocation, sealer: Sealer):
    third = Key.generate("third")
    await fill(file, {SESSION: [sealer.row(message("a"), third)]})
    async with whole(file) as store:
        report = await inventory(store, sealer.ring)
    (use,) = [use for use in report.keys if use.kid == third.kid]
    assert (use.needed_by, use.unproven) == (0, 1)

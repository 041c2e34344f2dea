"""Rows of some keys alone: those of others are out of sight, counted, and left in peace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.maintenance import discard, inventory, purge, reencrypt, verify
from encrypted_sessions.maintenance.reports import Report
from encrypted_sessions_tests.envelopes import kid_of
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole

OTHER = "user-2"
NAMELESS = ("plaintext", "malformed: a list", "unsupported")


@pytest.fixture
def other() -> Iterator[Sealer]:
    """A tenant whose keys nobody gives here."""
    other = Sealer(OTHER)
    yield other
    other.ring.close()


def rows_of(sealer: Sealer, *more: str) -> list[str]:
    older = sealer.row(message("old"), sealer.older, age=AGE)
    return [sealer.ok("one"), sealer.row(message("two"), sealer.older), older, *more]


def of_the_other(other: Sealer) -> dict[str, int]:
    return {other.active.kid: 1, other.older.kid: 2}


async def test_a_tenants_commands_end_well_beside_anothers_rows(place: StoreLocation, sealer: Sealer, other: Sealer):
    nameless = [sealer.of(kind) for kind in NAMELESS]
    theirs = rows_of(other)
    await fill(place, {SESSION: rows_of(sealer, *nameless), OTHER: theirs})
    kids = [sealer.active.kid, sealer.older.kid]
    reports: list[Report] = []
    async with whole(place) as store:
        without = await verify(store, sealer.ring, ttl=TTL)
        assert (without.ok, without.left["unknown_key"], without.other_keys) == (False, 2, {})
        reports.append(await verify(store, sealer.ring, ttl=TTL, kids=kids))
        assert reports[-1].found["not_opened"] == 3
        assert reports[-1].found["plaintext"] == 1
        counted = await inventory(store, sealer.ring, ttl=TTL, kids=kids)
        assert {group.kid for group in counted.groups} == {*kids, None}
        assert "Only some rows were opened" in counted.conclusion
        assert "Nothing in this store depends" not in counted.conclusion
        reports += [counted, await purge(store, sealer.ring, ttl=TTL, kids=kids)]
        assert reports[-1].changed == 1
        reports.append(await reencrypt(store, sealer.ring, kids=[sealer.older.kid]))
        assert reports[-1].changed == 1
    for report in reports:
        assert (report.ok, report.left, report.other_keys) == (True, {}, of_the_other(other)), report
        assert report.kids
    assert await raw_rows(place, OTHER) == theirs


async def test_of_a_named_key_that_no_place_has_the_rows_are_left(sealer: Sealer, other: Sealer):
    store = MemoryStore(OTHER, rows_of(other))
    report = await verify(store, sealer.ring, kids=[other.older.kid])
    assert (report.ok, report.left, report.other_keys) == (False, {"unknown_key": 2}, {other.active.kid: 1})


async def test_where_sessions_were_chosen_rows_of_keys_that_nobody_gave_are_counted_and_left_in_peace(
    sealer: Sealer, other: Sealer
):
    store = MemoryStore(OTHER, [*rows_of(other), other.of("plaintext")])
    report = await verify(store, sealer.ring, ttl=TTL, sessions=[OTHER])
    assert (report.left, report.other_keys) == ({"plaintext": 1}, of_the_other(other))
    named = await verify(store, sealer.ring, ttl=TTL, sessions=[OTHER], kids=[other.active.kid])
    assert (named.left, named.other_keys) == ({"unknown_key": 1}, {other.older.kid: 2})


async def test_labels_are_counted_without_keys(sealer: Sealer, other: Sealer):
    store = MemoryStore(SESSION, [*rows_of(sealer), *rows_of(other)])
    report = await inventory(store, kids=[sealer.active.kid])
    assert [(group.kid, group.items) for group in report.groups] == [(sealer.active.kid, 1)]
    assert report.other_keys == {sealer.older.kid: 2, **of_the_other(other)}


async def test_a_kid_that_no_row_names_is_said(sealer: Sealer, other: Sealer):
    store = MemoryStore(SESSION, rows_of(sealer))
    for work in (verify(store, sealer.ring, kids=[other.active.kid]), inventory(store, kids=[other.active.kid])):
        report = await work
        assert report.ok
        assert f"no row names {other.active.kid}" in report.notices[0]
    report = await reencrypt(store, sealer.ring, kids=[sealer.active.kid])
    assert "is the active key, under which rows stay" in " ".join(report.notices)
    assert "no row names" not in " ".join(report.notices)


async def test_a_text_that_begins_like_one_key_and_means_another_is_the_others(sealer: Sealer, other: Sealer):
    envelope = sealer.envelope(message("a"))
    payload = envelope["payload"]
    twice = f'{{"__enc__":1,"v":1,"kid":"{sealer.older.kid}","kid":"{sealer.active.kid}","payload":"{payload}"}}'
    turned_round = json.dumps({"kid": other.active.kid, **{k: v for k, v in envelope.items() if k != "kid"}})
    store = MemoryStore(SESSION, [twice, turned_round])
    report = await verify(store, sealer.ring, kids=[sealer.older.kid])
    assert (report.ok, report.found) == (True, {"not_opened": 2})
    assert report.other_keys == {sealer.active.kid: 1, other.active.kid: 1}


async def test_any_number_of_made_up_kids_is_counted_in_little_room(sealer: Sealer):
    rows = [json.dumps({**sealer.envelope(message("a")), "kid": f"x-{n}~{n:08x}"}) for n in range(400)]
    odd = json.dumps({**sealer.envelope(message("a")), "kid": "\x1b[2J"})
    report = await verify(MemoryStore(SESSION, [*rows, odd]), sealer.ring, kids=[sealer.active.kid])
    assert (len(report.other_keys), report.other_keys["others"]) == (301, 101)


@pytest.mark.parametrize("kids", [[], "active~00000000", ["no kid"], [None], 7, [["a"]]])
async def test_what_are_no_kids_is_refused(sealer: Sealer, kids: Any):
    with pytest.raises((TypeError, ValueError), match="kids"):
        await verify(MemoryStore(SESSION, []), sealer.ring, kids=kids)


# -- discard ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [True, False])
async def test_rows_of_unknown_keys_are_not_discarded_unless_it_is_said_of_which(
    place: StoreLocation, sealer: Sealer, other: Sealer, dry_run: bool, tmp_path: Path
):
    theirs = rows_of(other)
    await fill(place, {SESSION: rows_of(sealer), OTHER: theirs})
    path = tmp_path / "gone.jsonl"
    async with whole(place) as store:
        for ttl, count in ((None, 3), (TTL, 2)):
            with pytest.raises(ValueError, match=rf"no given place has the keys of {count} rows \("):
                await discard(store, sealer.ring, outcome="unknown_key", export=path, ttl=ttl, dry_run=dry_run)
        assert not (tmp_path / "gone.jsonl").exists()
        assert await raw_rows(place, OTHER) == theirs
        named = [other.older.kid]
        report = await discard(store, sealer.ring, outcome="unknown_key", export=path, dry_run=dry_run, kids=named)
    assert (report.ok, report.changed) == (True, 2)
    assert await raw_rows(place, OTHER) == (theirs if dry_run else theirs[:1])
    assert (tmp_path / "gone.jsonl").exists() is not dry_run


async def test_where_there_are_no_such_rows_nothing_is_refused(sealer: Sealer, other: Sealer, tmp_path: Path):
    older = [other.row(message("old"), age=AGE)]
    store = MemoryStore(OTHER, older)
    for dry_run in (True, False):
        report = await discard(
            store, sealer.ring, outcome="unknown_key", export=tmp_path / "gone", ttl=TTL, dry_run=dry_run
        )
        assert (report.ok, report.changed, report.dry_run, report.export) == (True, 0, dry_run, None)
    assert (len(store.data), (tmp_path / "gone").exists()) == (1, False)


async def test_an_outcome_of_rows_that_name_no_key_takes_no_kids(sealer: Sealer, tmp_path: Path):
    for outcome in ("plaintext", "malformed", "unsupported"):
        with pytest.raises(ValueError, match="name no key"):
            await discard(
                MemoryStore(SESSION, []), sealer.ring, outcome=outcome, export=tmp_path / "x", kids=[sealer.active.kid]
            )
    assert not (tmp_path / "x").exists()


# -- The command --------------------------------------------------------------------------------------


def test_the_commands_take_kids(place: StoreLocation, sealer: Sealer, other: Sealer, tmp_path: Path):
    filled(place, {SESSION: rows_of(sealer, sealer.of("plaintext")), OTHER: rows_of(other)})
    kids = ("--kid", sealer.active.kid, "--kid", sealer.older.kid)
    assert run(place, sealer, "verify").exit_code == 1
    for command in (("verify", *kids), ("inventory", *kids), ("purge", "--ttl", str(TTL), *kids)):
        report = report_of(run(place, sealer, *command, "--json"))
        assert (report["exit_code"], report["other_keys"], report["kids"]) == (0, of_the_other(other), [*kids[1::2]])
    said = " ".join(run(place, sealer, "verify", *kids).stdout.split())
    assert f"Not looked into: 3 rows of other keys ({other.older.kid}: 2, {other.active.kid}: 1)." in said
    assert said.endswith("All is well: every row of these keys is in order.")
    moved = report_of(run(place, sealer, "reencrypt", "--from", sealer.older.kid, "--kid", sealer.active.kid, "--json"))
    assert (moved["exit_code"], moved["changed"], moved["moved"]) == (0, 2, {sealer.older.kid: 2})

    export = tmp_path / "gone.jsonl"
    for more in ((), ("--export", str(export), "--yes")):
        refused = run(place, sealer, "discard", "--outcome", "unknown_key", *more)
        assert (refused.exit_code, refused.stdout, export.exists()) == (2, "", False)
        assert f"{other.older.kid}: 2" in " ".join(refused.stderr.split())
    theirs = ("--outcome", "unknown_key", "--kid", other.active.kid)
    assert run(place, sealer, "discard", *theirs, "--export", str(export), "--yes").exit_code == 0
    assert [kid_of(json.loads(line)["data"]) for line in export.read_text().splitlines()[:-1]] == [other.active.kid]


@pytest.mark.parametrize("command", ["inventory", "verify", "purge", "reencrypt", "discard"])
def test_a_kid_that_is_none_ends_with_2(file: StoreLocation, sealer: Sealer, command: str):
    filled(file, {SESSION: [sealer.ok("a")]})
    more = {"purge": ("--ttl", "1d"), "discard": ("--outcome", "erased")}.get(command, ())
    result = run(file, sealer, command, *more, "--kid", "2026-05")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--kid must be a kid as inventory shows them" in " ".join(result.stderr.split())

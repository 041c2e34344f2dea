"""A purge leaves no output without its call, wherever in the store the two lie."""

from __future__ import annotations

from typing import Any

import pytest

from encrypted_sessions.maintenance import purge
from encrypted_sessions.stores import whole as stores
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from encrypted_sessions_tests.whole_stores import fill, whole


def call(call_id: str = "c1") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def output(call_id: str = "c1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "done"}


@pytest.mark.parametrize("batch", [1, 3, 500])
async def test_an_expired_call_stays_while_its_output_is_in_time(place: StoreLocation, sealer: Sealer, batch: int):
    gone = [sealer.expired(str(n)) for n in range(5)]
    kept = [sealer.row(call(), age=AGE), sealer.row(output()), sealer.ok("last")]
    await fill(place, {SESSION: [*gone[:2], kept[0], *gone[2:], *kept[1:]]})
    async with whole(place) as store:
        for changed in (5, 0):
            report = await purge(store, sealer.ring, ttl=TTL, batch=batch)
            assert (report.ok, report.changed) == (True, changed)
            assert [notice[:28] for notice in report.notices] == ["1 expired tool call stays un"]
    assert await raw_rows(place, SESSION) == kept
    async with sealer.session(place) as session:
        assert (await session.get_items()) == [message("last")]


@pytest.mark.parametrize("batch", [1, 3, 500])
async def test_a_call_goes_with_its_expired_output_and_one_that_nobody_answered_goes_too(
    place: StoreLocation, sealer: Sealer, batch: int
):
    expired = [
        call("c1"),
        message("between"),
        output("c1"),
        call("nobody"),
        call("c2"),
        *[message("x")] * 4,
        output("c2"),
    ]
    rows = [sealer.row(item, sealer.older, age=AGE) for item in expired]
    await fill(place, {SESSION: [*rows, sealer.ok("last")]})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL, batch=batch)
    assert (report.ok, report.changed, report.notices) == (True, len(rows), ())
    async with sealer.session(place) as session:
        assert (await session.get_items()) == [message("last")]


async def test_a_pair_far_apart_is_found_whatever_was_put_off(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.maintenance.engine._DEFERRED_FOR_ROWS", 10)
    calls = [sealer.row(call(f"c{n}"), age=AGE) for n in range(10)]
    between = [sealer.expired() for _ in range(40)]
    outputs = [sealer.row(output(f"c{n}"), age=AGE * (n % 2)) for n in range(10)]
    await fill(place, {SESSION: [*calls, *between, *outputs]})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL, batch=5)
    assert report.changed == len(between) + 10
    assert await raw_rows(place, SESSION) == [*calls[::2], *outputs[::2]]
    async with sealer.session(place) as session:
        assert await session.get_items() == []


async def test_an_id_that_a_model_used_again_is_answered_by_what_follows_it(place: StoreLocation, sealer: Sealer):
    rows = [
        *[sealer.row(item, age=AGE) for item in (call(), output(), call())],
        sealer.row(output()),
    ]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL)
    assert report.changed == 2
    assert await raw_rows(place, SESSION) == rows[2:]


async def test_an_output_of_another_session_answers_nothing(place: StoreLocation, sealer: Sealer):
    other = Sealer("other")
    other.active = sealer.active
    await fill(place, {SESSION: [sealer.row(call(), age=AGE)], "other": [other.row(output())]})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL)
    assert report.changed == 1
    other.ring.close()


@pytest.mark.parametrize("kind", ["key_disabled", "unknown_key", "unsupported", "not_yet_valid"])
async def test_a_call_stays_while_what_follows_it_may_be_read_one_day(place: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.row(call(), age=AGE), sealer.of(kind)]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        report = await purge(store, sealer.ring, ttl=TTL)
    assert report.changed == 0
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("kind", ["erased", "unauthentic", "malformed: a list", "plaintext"])
async def test_a_call_goes_although_what_follows_it_will_never_be_read(file: StoreLocation, sealer: Sealer, kind: str):
    rows = [sealer.row(call(), age=AGE), sealer.of(kind)]
    await fill(file, {SESSION: rows})
    async with whole(file) as store:
        report = await purge(store, sealer.ring, ttl=TTL)
    assert report.changed == 1
    assert await raw_rows(file, SESSION) == rows[1:]


async def test_calls_that_were_put_off_count_for_a_limit_and_in_a_dry_run(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(call(f"c{n}"), age=AGE) for n in range(6)]
    await fill(place, {SESSION: rows})
    async with whole(place) as store:
        assert (await purge(store, sealer.ring, ttl=TTL, dry_run=True)).changed == 6
        assert await raw_rows(place, SESSION) == rows
        first = await purge(store, sealer.ring, ttl=TTL, limit=4)
        assert (first.changed, first.stopped) == (4, "limit")
        rest = await purge(store, sealer.ring, ttl=TTL, limit=2)
        assert (rest.changed, rest.stopped) == (2, None)


async def test_what_came_later_in_a_list_is_found_although_others_remove_from_it(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok(str(n)) for n in range(20)]
    await fill(place, {SESSION: rows})
    async with whole(place) as store, whole(place) as other:
        before = await store.session_rows(SESSION, None, 20)
        found: list[stores.StoredRow] = []
        while some := await store.later_rows(before[9], found[-1] if found else None, 4):
            found += some
            if len(found) == len(some):
                await other.remove(before[:7])
    places = {one.data for one in found}
    assert {row.data for row in before[10:]} <= places
    assert not {row.data for row in before[:9]} & places

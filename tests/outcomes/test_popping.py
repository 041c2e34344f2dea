"""Each outcome at the tail, on every store: what pop_item gives, and which rows are there afterwards."""

from __future__ import annotations

import pytest

from encrypted_sessions import EncryptedSession, Finding, UnreadableItemsError
from encrypted_sessions.core.outcomes import EXPLANATIONS
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, UNREADABLE, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import ROW_ADDRESSABLE, StoreLocation, raw_rows

PASSED_OVER = ("erased", "erased, and old", "expired_unverified")


def is_row_addressable(place: StoreLocation) -> bool:
    return place.kind in ROW_ADDRESSABLE


async def write(place: StoreLocation, sealer: Sealer, rows: list[str]) -> None:
    async with sealer.session(place):  # so that the tables are there
        await write_rows(place, SESSION, rows)


async def pop_text(session: EncryptedSession) -> str | None:
    item = await session.pop_item()
    return None if item is None else texts([item])[0]


async def test_an_empty_history_gives_none(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        assert await session.pop_item() is None


async def test_a_good_row_is_removed_and_returned(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok("one"), sealer.ok("two"), sealer.ok("three")]
    await write(place, sealer, rows)
    async with sealer.session(place) as session:
        assert await pop_text(session) == "three"
        assert await raw_rows(place, SESSION) == rows[:2]
        assert await pop_text(session) == "two"
        assert await pop_text(session) == "one"
        assert await pop_text(session) is None
    assert await raw_rows(place, SESSION) == []


async def test_an_item_that_was_added_comes_back_equal(place: StoreLocation, sealer: Sealer):
    items = [message("ünïcode \U0001f511"), {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    async with sealer.session(place) as session:
        await session.add_items(items)
        assert await session.pop_item() == items[1]
        assert await session.pop_item() == items[0]
        assert await session.pop_item() is None


async def test_expired_rows_at_the_tail_are_removed(place: StoreLocation, sealer: Sealer):
    rows = [sealer.expired(), sealer.ok("one"), sealer.expired(), sealer.expired()]
    await write(place, sealer, rows)
    async with sealer.session(place) as session:
        assert await pop_text(session) == "one"
        assert await raw_rows(place, SESSION) == rows[:1]
        assert await pop_text(session) is None
    assert await raw_rows(place, SESSION) == []


async def test_a_long_heap_of_expired_rows_at_the_tail_is_removed(place: StoreLocation, sealer: Sealer):
    await write(place, sealer, [sealer.ok("one"), sealer.ok("two"), *[sealer.expired()] * 600])
    async with sealer.session(place) as session:
        assert await pop_text(session) == "two"
        assert await pop_text(session) == "one"
    assert await raw_rows(place, SESSION) == []


@pytest.mark.parametrize("kind", PASSED_OVER)
async def test_rows_whose_key_is_gone_stay_and_are_passed_over_where_rows_are_addressable(
    place: StoreLocation, sealer: Sealer, kind: str
):
    rows = [sealer.ok("one"), sealer.of(kind), sealer.ok("two"), sealer.expired(), sealer.of(kind)]
    await write(place, sealer, rows)
    async with sealer.session(place) as session:
        if is_row_addressable(place):
            assert await pop_text(session) == "two"
            assert await raw_rows(place, SESSION) == [rows[0], rows[1], rows[4]]
            assert await pop_text(session) == "one"
            assert await pop_text(session) is None
            assert await raw_rows(place, SESSION) == [rows[1], rows[4]]
        else:
            with pytest.raises(UnreadableItemsError) as raised:
                await session.pop_item()
            assert raised.value.outcomes == {"ok": 0, outcome_of(kind): 1}
            assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_row_that_cannot_be_read_raises_and_stays_where_it_is(
    place: StoreLocation, sealer: Sealer, kind: str, on_unreadable: str
):
    rows = [sealer.ok("one"), sealer.of(kind)]
    outcome = outcome_of(kind)
    await write(place, sealer, rows)
    async with sealer.session(place, on_unreadable=on_unreadable) as session:
        for _ in range(2):
            with pytest.raises(UnreadableItemsError) as raised:
                await session.pop_item()
            assert raised.value.outcomes == {"ok": 0, outcome: 1}
            assert raised.value.findings == (Finding(0, outcome, sealer.kid_of(kind)),)
            assert EXPLANATIONS[outcome] in str(raised.value)
            assert "stays where it is" in str(raised.value)
            assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("kind", ["unauthentic", "unknown_key", "malformed: a list"])
async def test_expired_rows_after_an_unreadable_one_are_removed_and_it_stays(
    place: StoreLocation, sealer: Sealer, kind: str
):
    rows = [sealer.ok("one"), sealer.of(kind), sealer.expired(), sealer.expired()]
    await write(place, sealer, rows)
    async with sealer.session(place) as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await session.pop_item()
    assert raised.value.outcomes[outcome_of(kind)] == 1
    assert await raw_rows(place, SESSION) == rows[:2]


async def test_plaintext_is_popped_when_it_is_let_in(place: StoreLocation, sealer: Sealer):
    rows = [sealer.ok("one"), sealer.of("plaintext", "never sealed")]
    await write(place, sealer, rows)
    async with sealer.session(place, plaintext="read") as session:
        assert await pop_text(session) == "never sealed"
        assert await raw_rows(place, SESSION) == rows[:1]
        assert await pop_text(session) == "one"


async def test_an_output_is_popped_also_when_its_call_has_expired(place: StoreLocation, sealer: Sealer):
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    rows = [sealer.row(call, age=10_000), sealer.row(output)]
    await write(place, sealer, rows)
    async with sealer.session(place) as session:
        assert await session.pop_item() == output
        assert await raw_rows(place, SESSION) == rows[:1]


async def test_a_row_of_an_older_key_is_popped(place: StoreLocation, sealer: Sealer):
    await write(place, sealer, [sealer.row(message("one"), sealer.older), sealer.row(message("two"), sealer.older)])
    async with sealer.session(place) as session:
        assert await pop_text(session) == "two"
        assert await pop_text(session) == "one"
    assert await raw_rows(place, SESSION) == []


async def test_a_row_of_another_session_is_never_popped(place: StoreLocation, sealer: Sealer):
    neighbour = Sealer("user-2")
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok("mine")])
        await write_rows(place, "user-2", [neighbour.ok("theirs")])
        assert await pop_text(session) == "mine"
        assert await session.pop_item() is None
        async with neighbour.session(place) as theirs:
            assert await pop_text(theirs) == "theirs"
    neighbour.ring.close()

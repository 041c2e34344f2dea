"""A provider that cannot answer is no outcome: its error passes, and nothing is skipped or deleted."""

from __future__ import annotations

import pytest

from encrypted_sessions import (
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyProviderError,
    KeyUnavailableError,
    UnreadableItemsError,
)
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.keyring_fakes import ACTIVE, ScriptedKeys, impatient_ring
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, raw_rows
from keyproviders import Key, KeyRing, RetryPolicy


class BrokenProviderError(Exception):
    """What a provider raises that has a mistake."""


FAILURES = [KeyUnavailableError, KeyAccessDeniedError, KeyProviderError, BrokenProviderError]


@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_an_unanswered_question_passes_through_and_nothing_is_deleted(
    place: StoreLocation, sealer: Sealer, failure: type[Exception], on_unreadable: str
):
    rows = [sealer.ok("one"), sealer.row(message("two"), sealer.older)]
    sealer.provider.fail("older", failure)
    async with sealer.session(place, on_unreadable=on_unreadable) as session:
        await write_rows(place, SESSION, rows)
        for asks in (session.get_items, session.read, session.pop_item):
            with pytest.raises(failure, match="older answers with"):
                await asks()
            assert await raw_rows(place, SESSION) == rows
        sealer.provider.work("older")
        assert texts(await session.get_items()) == ["one", "two"]
        assert await session.pop_item() == message("two")
        assert await raw_rows(place, SESSION) == rows[:1]


async def test_expired_rows_are_kept_while_their_key_cannot_be_asked_for(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(message("old"), sealer.older, age=10_000)]
    sealer.provider.fail("older", KeyUnavailableError)
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        with pytest.raises(KeyUnavailableError):
            await session.get_items()
        with pytest.raises(KeyUnavailableError):
            await session.pop_item()
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("failure", FAILURES)
async def test_nothing_is_written_without_a_key_to_write_with(
    place: StoreLocation, sealer: Sealer, failure: type[Exception]
):
    sealer.provider.fail(ACTIVE, failure)
    async with sealer.session(place) as session:
        with pytest.raises(failure):
            await session.add_items([message("one")])
        assert await raw_rows(place, SESSION) == []
        sealer.provider.work(ACTIVE)
        await session.add_items([message("one")])
        assert texts(await session.get_items()) == ["one"]


async def test_a_key_is_asked_for_only_when_its_row_comes_up(place: StoreLocation, sealer: Sealer):
    sealer.provider.fail("older", KeyUnavailableError)
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.row(message("old"), sealer.older), sealer.ok("one"), sealer.ok("two")])
        assert texts(await session.get_items(2)) == ["one", "two"]
        assert texts((await session.read(1)).items) == ["two"]
        assert await session.pop_item() == message("two")
    assert "older" not in sealer.provider.asked


async def test_a_pop_waits_once_for_a_key_that_cannot_be_asked_for(place: StoreLocation, sealer: Sealer):
    sealer.provider.fail("older", KeyUnavailableError)
    asked = []
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok("one"), sealer.row(message("old"), sealer.older)])
        for use in (session.get_items, session.pop_item):
            sealer.provider.asked.clear()
            with pytest.raises(KeyUnavailableError):
                await use()
            asked.append(sealer.provider.asked.count("older"))
    assert asked[0] == asked[1] > 0


async def test_each_key_is_asked_for_once(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(message(str(i)), (sealer.active, sealer.older)[i % 2]) for i in range(20)]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        for _ in range(3):
            assert len(await session.get_items()) == 20
    assert sorted(sealer.provider.asked) == ["active", "older"]


async def test_a_key_that_is_enabled_again_makes_its_rows_readable(place: StoreLocation, sealer: Sealer):
    rows = [sealer.of("key_disabled", "kept")]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        with pytest.raises(UnreadableItemsError, match="Enable it there"):
            await session.get_items()
        assert await raw_rows(place, SESSION) == rows
    sealer.provider.work("disabled")
    sealer.ring.close()
    sealer.ring = impatient_ring(sealer.provider)
    async with sealer.session(place) as session:
        assert texts(await session.get_items()) == ["kept"]


async def test_a_key_in_a_second_place_counts_and_a_place_that_cannot_answer_counts_more(
    place: StoreLocation, sealer: Sealer
):
    moved = Key.generate("moved")
    second = ScriptedKeys(moved, sealer.disabled)
    ring = KeyRing(sealer.provider, also_read=[second], retry=RetryPolicy(attempts=1))
    sealer.ring.close()
    sealer.ring = ring
    async with sealer.session(place) as session:
        await write_rows(
            place, SESSION, [sealer.row(message("moved"), moved), sealer.of("key_disabled"), sealer.of("unknown_key")]
        )
        second.fail("unknown", KeyUnavailableError)
        with pytest.raises(KeyUnavailableError):
            await session.read()
        second.fail("unknown", KeyDisabledError)
        history = await session.read()
    assert texts(history.items) == ["moved"]
    # What the first place says of a disabled key is final; that the second has it changes nothing.
    assert history.outcomes == {"ok": 1, "key_disabled": 2}

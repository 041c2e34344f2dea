"""Compaction over suite 2: what it writes has both times of the newest row that it replaces."""

from __future__ import annotations

import base64
import json

import pytest

from encrypted_sessions import EncryptedSession, UnreadableItemsError
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.compaction import CHAT, SUMMARY, Chat, agent_that_says, open_chat, questions, run
from encrypted_sessions_tests.fake_clock import NOW, FakeClock
from encrypted_sessions_tests.stores import Row
from encrypted_sessions_tests.suite_2 import NEVER

every_kind = pytest.mark.parametrize("kind", ["sqlite", "plain"])


def times_of(row: Row) -> tuple[int, ...]:
    """When it was created, and when it expires, of suite 2."""
    body = base64.b64decode(json.loads(row)["p"])
    return int.from_bytes(body[3:8], "big"), int.from_bytes(body[8:13], "big")


async def add_elsewhere(chat: Chat, text: str, ttl: int | None, suite: int) -> None:
    async with stores.open_store(chat.place, CHAT) as store:
        await EncryptedSession(CHAT, store, chat.ring, ttl, suite=suite).add_items(questions(text))


@every_kind
async def test_automatic_compaction_carries_both_times_of_the_newest_row(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async def an_hour_passes() -> None:
        clock.now += 3600

    async with open_chat(kind, request, meanwhile=an_hour_passes, ttl=7200, suite=2, pad=True) as chat:
        await add_elsewhere(chat, "long ago", None, 2)
        clock.now += 100
        await run(agent_that_says("one"), "first", chat.session)
        assert await chat.encrypted.get_items() == SUMMARY
        assert {times_of(row) for row in await chat.rows()} == {(NOW + 100, NOW + 100 + 7200)}
        clock.now = NOW + 100 + 7200
        assert await chat.encrypted.get_items() == SUMMARY
        clock.now += 1
        assert await chat.encrypted.get_items() == []


@every_kind
@pytest.mark.parametrize(
    ("newest_ttl", "newest_suite", "end"),
    [(50, 2, NOW + 150), (None, 2, NEVER), (50, 1, NOW + 100 + 7200), (None, 1, NOW + 100 + 7200)],
)
async def test_compaction_on_demand_carries_the_end_of_the_newest_row_where_that_has_one(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock, newest_ttl: int | None, newest_suite: int, end: int
) -> None:
    async with open_chat(kind, request, ttl=7200, suite=2) as chat:
        await add_elsewhere(chat, "one", 100_000, 2)
        clock.now += 100
        await add_elsewhere(chat, "two", newest_ttl, newest_suite)
        await chat.session.run_compaction({"force": True})
        assert {times_of(row) for row in await chat.rows()} == {(NOW + 100, end)}


@every_kind
async def test_a_summary_does_not_take_the_end_of_a_row_that_has_ended(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, ttl=7200, suite=2) as chat:
        await add_elsewhere(chat, "facts", None, 2)
        clock.now += 10
        await add_elsewhere(chat, "a code for a minute", 60, 2)
        clock.now += 100
        await chat.session.run_compaction({"force": True})
        assert await chat.encrypted.get_items() == SUMMARY
        assert {times_of(row) for row in await chat.rows()} == {(NOW, NEVER)}


@every_kind
async def test_a_session_of_suite_1_keeps_the_time_and_has_no_place_for_the_end(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, ttl=7200) as chat:
        await add_elsewhere(chat, "one", 50, 2)
        clock.now += 10
        await chat.session.run_compaction({"force": True})
        tokens = {base64.urlsafe_b64decode(json.loads(row)["payload"])[1:9] for row in await chat.rows()}
        assert tokens == {NOW.to_bytes(8, "big")}


@every_kind
async def test_a_history_with_outdated_rows_is_not_replaced(
    kind: str, request: pytest.FixtureRequest, clock: FakeClock
) -> None:
    async with open_chat(kind, request, ttl=7200, suite=2, oldest_suite=2) as chat:
        await add_elsewhere(chat, "of suite 1", 7200, 1)
        (outdated,) = await chat.rows()
        await chat.encrypted.add_items(questions("of suite 2"))
        rows = await chat.rows()
        with pytest.raises(UnreadableItemsError, match="1 outdated"):
            await chat.encrypted._atomic_replace_items(SUMMARY)
        assert await chat.rows() == rows
        assert rows[0] == outdated

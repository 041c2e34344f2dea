"""Turns, searches and branches over rows that have expired, or cannot be read: as everywhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Key, KeyRing, UnreadableItemsError
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions_tests.branching import (
    SESSION,
    answer,
    bare,
    call,
    output,
    question,
    result,
    sealed,
    select,
    statement,
    texts,
    turns,
)
from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.sealed_rows import Sealer, altered

TTL = 600

Look = Callable[[Any], Awaitable[Any]]

#: What opens contents.
LOOKS: dict[str, Look] = {
    "turns": lambda session: session.get_conversation_turns(),
    "search": lambda session: session.find_turns_by_content("o"),
    "branch from content": lambda session: session.create_branch_from_content("no such words"),
    "items": lambda session: session.get_items(),
    "items of a branch": lambda session: session.get_items(branch_id="main"),
}


def write(file: Path, message_id: int, data: object) -> None:
    """Put this into a stored row, as somebody would who can write to the file."""
    assert statement(file, "UPDATE agent_messages SET message_data = ? WHERE id = ?", json.dumps(data), message_id) == 1


def stored(file: Path, message_id: int) -> Any:
    ((data,),) = select(file, "SELECT message_data FROM agent_messages WHERE id = ?", message_id)
    return json.loads(data)


# -- Expired ----------------------------------------------------------------------------------------


@pytest.fixture
def expiring(file: Path, ring: KeyRing, clock: FakeClock) -> Iterator[EncryptedAdvancedSQLiteSession]:
    with sealed(file, ring, ttl=TTL) as session:
        yield session


async def say(session: Any, clock: FakeClock) -> None:
    """Three turns, half of a ttl apart; the first has expired at the end."""
    for number in range(3):
        await session.add_items([question(f"no. {number}"), answer(f"yes, {number}")])
        await session.store_run_usage(result(10**number))
        clock.now += TTL // 2
    clock.now += 1


async def test_a_turn_whose_question_expired_is_neither_shown_nor_found(expiring: Any, clock: FakeClock):
    await say(expiring, clock)
    assert await turns(expiring) == [(3, "no. 2")]
    assert [turn["turn"] for turn in await expiring.find_turns_by_content("no.")] == [3]
    assert await expiring.find_turns_by_content("no. 0") == []
    assert texts(await expiring.get_items()) == ["no. 2", "yes, 2"]
    assert (await expiring.read()).outcomes == {"ok": 2, "expired": 4}
    clock.now += TTL
    assert await turns(expiring) == []


async def test_its_structure_and_its_usage_stay_until_it_is_purged(expiring: Any, clock: FakeClock):
    await say(expiring, clock)
    assert [len(rows) for rows in (await expiring.get_conversation_by_turns()).values()] == [2, 2, 2]
    assert (await expiring.get_session_usage())["input_tokens"] == 111
    assert [turn["input_tokens"] for turn in await expiring.get_turn_usage()] == [1, 10, 100]
    (branch,) = await expiring.list_branches()
    assert (branch["message_count"], branch["user_turns"]) == (6, 3)


async def test_a_branch_is_made_from_the_first_turn_in_time_that_matches(expiring: Any, clock: FakeClock):
    await say(expiring, clock)
    await expiring.create_branch_from_content("no.", "side")
    assert select(expiring.underlying_session.db_path, "SELECT count(*) FROM message_structure") == [(6 + 4,)]
    assert await turns(expiring) == []  # of turns 1 and 2, both expired
    await expiring.switch_to_branch("main")
    with pytest.raises(ValueError, match="No user turns found"):
        await expiring.create_branch_from_content("no. 1")


async def test_a_branch_can_be_made_from_a_turn_that_expired(expiring: Any, clock: FakeClock):
    """Nothing is opened for it. What is in time comes along."""
    await say(expiring, clock)
    await expiring.create_branch_from_turn(1, "anew")
    await expiring.add_items([question("begin again")])
    assert await turns(expiring) == [(1, "begin again")]


async def test_many_expired_turns_are_told_of_once(expiring: Any, clock: FakeClock, caplog: pytest.LogCaptureFixture):
    await expiring.add_items([question("old")] * 1001)
    clock.now += TTL + 1
    for _ in range(2):
        assert await expiring.find_turns_by_content("old") == []
    assert [record.getMessage() for record in caplog.records] == [
        "1001 expired items were read and left out; purge_expired() removes them"
    ]


# -- What cannot be read ----------------------------------------------------------------------------


async def unknown_key(file: Path) -> None:
    stranger = Key.generate("stranger")
    write(file, 3, Sealer(SESSION).envelope(question("no. 1"), stranger))


async def unauthentic(file: Path) -> None:
    write(file, 3, altered(stored(file, 3)))


async def plaintext(file: Path) -> None:
    write(file, 3, question("no. 1"))


async def too_large(file: Path) -> None:
    write(file, 3, question("x" * 5000))


async def malformed(file: Path) -> None:
    write(file, 3, [1, 2])


async def unsupported(file: Path) -> None:
    write(file, 3, {**stored(file, 3), "v": 3})


ODD = {
    function.__name__: function for function in (unknown_key, unauthentic, plaintext, too_large, malformed, unsupported)
}


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest) -> str:
    """The outcome of the second of three questions."""
    return str(request.param)


async def three_turns(file: Path, ring: KeyRing, odd: str) -> None:
    with sealed(file, ring) as session:
        for number in range(3):
            await session.add_items([question(f"no. {number}"), answer(f"so, {number}")])
    await ODD[odd](file)


@pytest.mark.parametrize("look", LOOKS)
async def test_it_raises_and_stays(file: Path, ring: KeyRing, odd: str, look: str, caplog: pytest.LogCaptureFixture):
    await three_turns(file, ring, odd)
    before = select(file, "SELECT * FROM agent_messages")
    with sealed(file, ring, max_row_bytes=4096) as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await LOOKS[look](session)
        assert await session.get_conversation_by_turns()  # nothing is opened for it
    error = raised.value
    assert error.outcomes[odd] == 1
    assert sum(error.outcomes.values()) == (6 if "items" in look else 3)
    assert [(finding.position, finding.outcome) for finding in error.findings] == [(3 if "items" in look else 1, odd)]
    counted = "newest row" if "items" in look else "branch's first user message"
    assert f"counted from the {counted} (0): " in str(error)
    assert select(file, "SELECT * FROM agent_messages") == before
    assert [record.levelno for record in caplog.records if odd in record.getMessage()] == [
        logging.ERROR if odd == "unauthentic" else logging.WARNING
    ]


async def test_or_it_is_left_out_and_told_of(file: Path, ring: KeyRing, odd: str, caplog: pytest.LogCaptureFixture):
    await three_turns(file, ring, odd)
    with sealed(file, ring, max_row_bytes=4096, on_unreadable="skip") as session:
        assert await turns(session) == [(1, "no. 0"), (3, "no. 2")]
        assert [turn["turn"] for turn in await session.find_turns_by_content("no.")] == [1, 3]
        assert len(await session.get_items()) == 5
        await session.create_branch_from_content("no. 2", "side")
    records = [
        record
        for record in caplog.records
        if record.getMessage() == f"items that cannot be read were left out: 1 {odd}"
    ]
    assert len(records) == 4
    assert records[0].outcomes == {odd: 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
async def test_a_wrong_key_opens_nothing(file: Path, ring: KeyRing, on_unreadable: Any):
    await three_turns(file, ring, "plaintext")
    stranger = KeyRing.ephemeral()
    with sealed(file, stranger, on_unreadable=on_unreadable) as session:
        for look in ("turns", "search"):
            if on_unreadable == "skip":
                assert await LOOKS[look](session) == []
                continue
            with pytest.raises(UnreadableItemsError) as raised:
                await LOOKS[look](session)
            assert raised.value.outcomes == {"ok": 0, "unknown_key": 2, "plaintext": 1}
    stranger.close()


async def test_a_row_of_another_session_opens_nothing(file: Path, ring: KeyRing):
    with sealed(file, ring, "user-2") as other, sealed(file, ring) as session:
        await other.add_items([question("theirs")])
        await session.add_items([question("mine")])
        write(file, 2, stored(file, 1))
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_conversation_turns()
    assert raised.value.outcomes == {"ok": 0, "unauthentic": 1}


async def test_plaintext_that_is_let_in_has_turns_and_is_found_until_its_time_is_over(file: Path, ring: KeyRing):
    with bare(file) as plain:
        await plain.add_items([question("in the clear"), answer("yes")])
    with sealed(file, ring, plaintext="read") as session:
        await session.add_items([question("sealed")])
        assert await turns(session) == [(1, "in the clear"), (2, "sealed")]
        assert len(await session.find_turns_by_content("CLEAR")) == 1
        await session.create_branch_from_content("clear", "side")
        await session.switch_to_branch("main")
    until = datetime.now(timezone.utc) - timedelta(hours=1)
    with sealed(file, ring, plaintext="read", plaintext_until=until) as session:
        for look in LOOKS.values():
            with pytest.raises(UnreadableItemsError):
                await look(session)
        statement(file, "UPDATE agent_messages SET created_at = datetime('now', '-1 day')")
        assert await turns(session) == [(1, "in the clear"), (2, "sealed")]


async def test_rows_of_the_sdks_own_class_have_turns_too(file: Path):
    from agents.extensions.memory import EncryptedSession as SdkEncryptedSession

    with bare(file) as store:
        # Over that class its own structure is lost, so its rows are put where ours knows the turns.
        key = Key.generate().reveal_base64()
        theirs = SdkEncryptedSession(SESSION, store, key, TTL)
        await theirs.add_items([question("sealed by them")])
        statement(file, "UPDATE message_structure SET message_type = 'user', branch_turn_number = 1")
        ring = KeyRing.ephemeral()
        session = EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=TTL, upstream_key=key)
        assert await turns(session) == [(1, "sealed by them")]
        ring.close()


async def test_a_branch_from_content_looks_no_further_than_the_first_match(file: Path, ring: KeyRing):
    """Nor at what cannot be read, if that comes later; before it, it may be the first match."""
    await three_turns(file, ring, "unauthentic")
    with sealed(file, ring) as session:
        assert await session.create_branch_from_content("no. 0", "first") == "first"
        await session.switch_to_branch("main")
        with pytest.raises(UnreadableItemsError) as raised:
            await session.create_branch_from_content("no. 2", "last")
        assert raised.value.outcomes == {"ok": 2, "unauthentic": 1}
        assert session.underlying_session._current_branch_id == "main"
        # No branch was made, and the name is free.
        await session.create_branch_from_turn(3, "last")
        assert len(await session.list_branches()) == 2  # of the first one nothing is shown: it has no rows


async def test_the_newest_row_that_cannot_be_read_is_not_popped(file: Path, ring: KeyRing):
    await three_turns(file, ring, "unauthentic")
    with sealed(file, ring) as session:
        for _ in range(3):
            await session.pop_item()
        with pytest.raises(UnreadableItemsError, match="It is the next to pop, and it stays where it is"):
            await session.pop_item()
        assert len(await session.get_conversation_by_turns()) == 2


async def test_a_chat_goes_on_with_calls_whose_outputs_are_in_time(file: Path, ring: KeyRing, clock: FakeClock):
    """As everywhere: an output whose call has expired is left out."""
    with sealed(file, ring, ttl=TTL) as session:
        await session.add_items([question("weather?"), call("weather")])
        clock.now += TTL + 1
        await session.add_items([output(), question("well?")])
        assert await session.get_items() == [question("well?")]
        assert await session.get_items(branch_id="main") == [question("well?")]
        with pytest.warns(UserWarning, match="only as a plain chat"):
            chat = EncryptedSession.wrap(session.underlying_session, ring, ttl=TTL)
        assert await chat.get_items() == [question("well?")]

"""max_scan_items: how many user messages are opened for one look, and what is said when there are more."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions import KeyRing, UnreadableItemsError
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions.errors import ScanBudgetError
from encrypted_sessions.stores.sizes import PAGE
from encrypted_sessions_tests.branching import SESSION, answer, bare, question, sealed, statement, texts


async def fill(session: Any, count: int) -> None:
    await session.add_items([one for number in range(count) for one in (question(f"no. {number}"), answer("yes"))])


@pytest.mark.parametrize("count", [1, 2, 7, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
async def test_as_many_as_the_budget_fit_and_one_more_does_not(ring: KeyRing, count: int):
    with sealed(":memory:", ring, max_scan_items=count) as session:
        await fill(session, count)
        turns = await session.get_conversation_turns()
        assert len(turns) == count
        assert len(await session.find_turns_by_content("no.")) == count
        await session.add_items([question("one more")])
        with pytest.raises(ScanBudgetError) as raised:
            await session.get_conversation_turns()
        assert raised.value.found == turns
        with pytest.raises(ScanBudgetError) as raised:
            await session.find_turns_by_content("NO. 0")
        assert texts(raised.value.found) == ["no. 0"]
        assert await session.get_items(1) == [question("one more")]
        assert len(await session.get_items()) == 2 * count + 1  # which has no such bound


async def test_answers_and_calls_cost_nothing(ring: KeyRing):
    with sealed(":memory:", ring, max_scan_items=1) as session:
        await session.add_items([question("one"), *[answer("yes")] * 50])
        assert len(await session.get_conversation_turns()) == 1


async def test_none_is_no_bound_and_ten_thousand_is_the_default(ring: KeyRing, monkeypatch: pytest.MonkeyPatch):
    with sealed(":memory:", ring, max_scan_items=None) as session:
        await fill(session, 3 * PAGE)
        assert len(await session.get_conversation_turns()) == 3 * PAGE
        session.max_scan_items = 5
        with pytest.raises(ScanBudgetError):
            await session.get_conversation_turns()
    with bare() as store:
        for made in (
            EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=None),
            EncryptedAdvancedSQLiteSession(SESSION, store, ring),
        ):
            assert made.max_scan_items == 10_000


async def test_a_branch_is_made_from_a_match_within_the_budget_whatever_comes_later(ring: KeyRing):
    with sealed(":memory:", ring, max_scan_items=3) as session:
        await fill(session, 10)
        await session.create_branch_from_content("no. 2", "second")
        await session.switch_to_branch("main")
        with pytest.raises(ScanBudgetError) as raised:
            await session.create_branch_from_content("no. 3")
        assert raised.value.found == []
        assert len(await session.list_branches()) == 2


async def test_the_error_says_what_to_do_quotes_nothing_and_crosses_processes(ring: KeyRing):
    with sealed(":memory:", ring, max_scan_items=2) as session:
        await fill(session, 3)
        with pytest.raises(ScanBudgetError) as raised:
            await session.get_conversation_turns()
    error = raised.value
    assert str(error).startswith("max_scan_items: 2 user messages were opened, and there are more in this branch.")
    assert "Raise max_scan_items, or search a shorter branch" in str(error)
    assert isinstance(error, RuntimeError)
    assert error.__cause__ is error.__context__ is None
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - made here
        assert type(again) is ScanBudgetError
        assert (str(again), again.found) == (str(error), error.found)
        assert texts(again.found) == ["no. 0", "no. 1"]


async def test_what_is_found_has_no_gaps_that_nobody_was_told_of(file: Path, ring: KeyRing, caplog: Any):
    with sealed(file, ring, max_scan_items=2) as session:
        await fill(session, 3)
        statement(file, "UPDATE agent_messages SET message_data = '[]' WHERE id = 1")
        with pytest.raises(UnreadableItemsError) as refused:
            await session.get_conversation_turns()
        assert refused.value.outcomes == {"ok": 1, "malformed": 1}
        assert refused.value.__context__ is None
    with sealed(file, ring, max_scan_items=2, on_unreadable="skip") as session:
        caplog.clear()
        with pytest.raises(ScanBudgetError) as exceeded:
            await session.get_conversation_turns()
        assert texts(exceeded.value.found) == ["no. 1"]
        assert [record.getMessage() for record in caplog.records] == [
            "items that cannot be read were left out: 1 malformed"
        ]


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_budget_that_is_not_positive_is_refused(ring: KeyRing, wrong: int):
    with bare() as store, pytest.raises(ValueError, match=f"max_scan_items must be positive or None, not {wrong}"):
        EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=None, max_scan_items=wrong)


@pytest.mark.parametrize("wrong", [True, 1.0, "5"])
def test_a_budget_that_is_no_int_is_refused(ring: KeyRing, wrong: Any):
    with bare() as store, pytest.raises(TypeError, match="max_scan_items must be an int or None"):
        EncryptedAdvancedSQLiteSession(SESSION, store, ring, max_scan_items=wrong)

"""Whoever loses rows to others stays away for longer and longer, and comes back as before once that is over."""

from __future__ import annotations

import time

import pytest

from encrypted_sessions.history import contention
from encrypted_sessions.history.contention import Contention


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lots each pause had."""
    drawn: list[int] = []

    async def pause_by_lot(times: int) -> None:
        drawn.append(times)

    monkeypatch.setattr(contention, "pause_by_lot", pause_by_lot)
    return drawn


async def test_a_single_row_that_was_lost_is_no_reason_to_wait(pauses: list[int]):
    crowd = Contention()
    assert not await crowd.pause()
    crowd.lost()
    assert not await crowd.pause()
    assert pauses == []


async def test_the_pauses_double_with_each_row_that_was_lost_up_to_an_end(pauses: list[int]):
    crowd = Contention()
    for _ in range(10):
        crowd.lost()
        await crowd.pause()
    assert pauses == [1, 2, 4, 8, 16, 32, 32, 32, 32]


async def test_rows_that_were_won_are_set_against_those_that_were_lost(pauses: list[int]):
    crowd = Contention()
    for _ in range(4):
        crowd.lost()
    for won in (15, 1, 16, 16):
        for _ in range(won):
            crowd.won()
        await crowd.pause()
    assert pauses == [4, 2, 1]
    crowd.lost()
    await crowd.pause()
    assert pauses == [4, 2, 1, 1]


async def test_what_was_lost_long_ago_is_forgotten(pauses: list[int], monkeypatch: pytest.MonkeyPatch):
    crowd = Contention()
    for _ in range(4):
        crowd.lost()
    later = time.monotonic() + 1.1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    crowd.lost()
    assert not await crowd.pause()
    assert pauses == []


async def test_others_are_there_when_they_took_a_row_and_are_not_after_a_while_without(pauses: list[int]):
    crowd = Contention()
    assert not crowd.is_there
    crowd.won()
    assert not crowd.is_there
    crowd.won(1)
    assert crowd.is_there
    assert crowd.ahead() == 3
    for number in range(16):
        assert crowd.is_there, number
        crowd.won()
    assert not crowd.is_there
    crowd.lost()
    assert crowd.is_there
    assert crowd.ahead() == 4
    assert pauses == []

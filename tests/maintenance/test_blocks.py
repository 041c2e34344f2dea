"""Tables are cut into blocks: all of them, each id once, and so that two runs at once share the work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encrypted_sessions.stores.blocks import HIGHEST, LOWEST, SIZE, Extent, Look, blocks_of_ids
from encrypted_sessions.stores.whole import Block

RUNS = 20
BLOCKS = 256


def looking_at(ids: Sequence[int]) -> Look:
    async def look(first: int, last: int) -> Extent | None:
        found = [number for number in ids if first <= number <= last]
        return Extent(min(found), max(found), min(len(found), SIZE + 1)) if found else None

    return look


async def dense(first: int, last: int) -> Extent | None:
    """A table of ids without gaps."""
    first, last = max(first, 1), min(last, BLOCKS * SIZE)
    return Extent(first, last, min(last - first, SIZE) + 1) if first <= last else None


async def all_of(blocks: AsyncIterator[Block]) -> list[Block]:
    return [block async for block in blocks]


@given(st.sets(st.one_of(st.integers(LOWEST, HIGHEST), st.integers(0, 5_000), st.integers(2**40, 2**40 + 5_000))))
async def test_every_id_there_can_be_is_in_one_block(ids: set[int]):
    blocks = await all_of(blocks_of_ids(looking_at(sorted(ids))))
    for number in ids:
        assert sum(block.first <= number <= block.last for block in blocks) == 1
    assert blocks[-1].last == HIGHEST


async def test_ids_without_gaps_make_full_blocks_and_cost_few_looks():
    looks = 0

    async def counting(first: int, last: int) -> Extent | None:
        nonlocal looks
        looks += 1
        return await dense(first, last)

    blocks = await all_of(blocks_of_ids(counting))
    assert len(blocks) == BLOCKS + 1, "and one for what comes in meanwhile"
    assert looks < BLOCKS / 3


async def test_two_runs_seldom_meet_at_a_block():
    turns = 0
    for _ in range(RUNS):
        done: set[Block] = set()
        first, second = [iter((await all_of(blocks_of_ids(dense)))[:-1]) for _ in range(2)]
        while len(done) < BLOCKS:
            # Both pass by what is done, take the next block, and work on it for as long.
            chosen = [next((block for block in run if block not in done), None) for run in (first, second)]
            done.update(block for block in chosen if block is not None)
            turns += 1
    assert turns < 1.1 * RUNS * BLOCKS / 2, "the least is a half each"


@pytest.mark.parametrize("ids", [[], [LOWEST], [HIGHEST], [LOWEST, HIGHEST]])
async def test_a_table_of_next_to_nothing_is_a_block_or_two(ids: list[int]):
    assert 1 <= len(await all_of(blocks_of_ids(looking_at(ids)))) <= len(ids) + 1

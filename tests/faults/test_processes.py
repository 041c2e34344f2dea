"""Several processes on one store, and processes that are killed: nothing is lost, nothing comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

import nursery
from bulk_rows import write_rows
from nursery import SESSION, items_of
from sealed_rows import Sealer, message
from stores import ROW_ADDRESSABLE, Place, new_place, open_store, raw_rows

KILLS = 100


@pytest.fixture(params=ROW_ADDRESSABLE)
def place(request: pytest.FixtureRequest) -> Place:
    return new_place(request.param, request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer(SESSION)
    yield sealer
    sealer.ring.close()


async def write_history(place: Place, sealer: Sealer, items: int, *, erased_every: int = 0) -> list[str]:
    """Numbered items, with rows whose key was destroyed among them; the latter are returned."""
    rows, erased = [], []
    for number in range(items):
        rows.append(sealer.ok(str(number)))
        if erased_every and number % erased_every == 0:
            erased.append(sealer.of("erased", f"erased {number}"))
            rows.append(erased[-1])
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, rows)
    return erased


def work(what: str, place: Place, sealer: Sealer, folder: Path, rounds: int) -> dict[int, list[str]]:
    """What each child logged, by its number."""
    lines = nursery.run(
        what, place, folder / "log", active=sealer.active, destroyed=sealer.destroyed, rounds=rounds
    )
    logged: dict[int, list[str]] = {}
    for line in lines:
        number, words = line.split(" ", 1)
        logged.setdefault(int(number), []).append(words)
    return logged


async def test_three_processes_that_pop_300_items_get_300_distinct_ones(
    place: Place, sealer: Sealer, tmp_path: Path
):
    erased = await write_history(place, sealer, 300, erased_every=60)
    logged = work("pop_all", place, sealer, tmp_path, rounds=3)
    popped = [int(text) for texts in logged.values() for text in texts]
    assert sorted(popped) == list(range(300))
    for texts in logged.values():
        assert [int(text) for text in texts] == sorted(map(int, texts), reverse=True)
    assert await raw_rows(place, SESSION) == erased


async def test_a_hundred_kills_while_popping_lose_nothing(place: Place, sealer: Sealer, tmp_path: Path):
    """An item is gone from the store only if a child has it.

    A child that was killed can have had one item in its hands that it had not logged yet: the next
    one after those that it logged. So all items, from the newest on, are those that the first child
    logged, at most one more, those that the second child logged, at most one more, and so on. The
    first child and the last, which pops all the rest, were not killed and have none. Rows without a
    key stay where they are.
    """
    count = 600
    erased = await write_history(place, sealer, count, erased_every=120)
    logged = work("pop_until_killed", place, sealer, tmp_path, rounds=KILLS)
    newest = count - 1  # of the items that no log accounts for yet
    in_hand = 0  # what killed children can have had in their hands since the last logged item
    for child in range(KILLS + 2):
        popped = [int(text) for text in logged.get(child, [])]
        if popped:
            assert 0 <= newest - popped[0] <= in_hand
            assert popped == list(range(popped[0], popped[0] - len(popped), -1))
            newest, in_hand = popped[-1] - 1, 0
        in_hand += 1 <= child <= KILLS
    assert newest == -1
    assert len(logged[KILLS + 1]) > 0
    assert await raw_rows(place, SESSION) == erased


@pytest.mark.parametrize("what", ["replace_all_until_killed", "replace_suffix_until_killed"])
async def test_fifty_kills_while_compacting_leave_the_old_history_or_the_new_one(
    place: Place, sealer: Sealer, tmp_path: Path, what: str
):
    """After each kill the next child finds the history that was there, or the one being written."""
    kept = [] if what == "replace_all_until_killed" else [sealer.of("erased"), sealer.of("unauthentic")]
    async with open_store(place, SESSION):
        await write_rows(place, SESSION, [*kept, *[sealer.row(item) for item in items_of(1)]])
    logged = work(what, place, sealer, tmp_path, rounds=KILLS // 2)
    stored = {1}
    replaced = 0
    for child in range(KILLS // 2 + 2):
        for words in logged.get(child, []):
            what_happened, generation = words.split(" ")
            if what_happened == "begin":
                stored.add(int(generation))
            else:
                assert int(generation) in stored, (child, words)
                replaced += what_happened == "done"
                stored = {int(generation)}
    assert replaced >= nursery.MEASURED
    (last,) = stored
    rows = await raw_rows(place, SESSION)
    assert rows[: len(kept)] == kept
    assert len(rows) == len(kept) + len(items_of(last))

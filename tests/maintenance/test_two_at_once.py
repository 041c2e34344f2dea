"""Two runs at once, whatever the two commands: what each should have done is done, once, and nothing else."""

from __future__ import annotations

import asyncio
import json
from itertools import combinations_with_replacement
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from encrypted_sessions.maintenance import Report
from encrypted_sessions_tests.history_of_keys import FATES, Keys, Past, compare
from encrypted_sessions_tests.maintenance_fork_harness import COMMANDS
from encrypted_sessions_tests.soak import one_cheap_and_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.whole_rows import read_all, write_all
from encrypted_sessions_tests.whole_stores import MAINTAINED, make_tables, whole

CHANGING = ("reencrypt", "encrypt", "purge", "discard", "erase")


def fates_of(first: str, second: str) -> dict[str, str]:
    """What becomes of an item when both ran: what one of them removes is gone."""
    fates = {**FATES[first], **FATES[second]}
    gone = {kind for name in (first, second) for kind, fate in FATES[name].items() if fate == "gone"}
    return {kind: "gone" if kind in gone else fate for kind, fate in fates.items()}


@pytest.fixture(params=one_cheap_and_soak(MAINTAINED))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.mark.parametrize(("first", "second"), list(combinations_with_replacement(CHANGING, 2)))
async def test_two_runs_at_once_do_what_both_are_there_for(
    place: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
):
    past = Past(Keys(), 8, 15)
    before = past.rows()
    await make_tables(place)
    await write_all(place, before)
    erased = [past.session_id(session) for session in range(0, past.sessions, 2)]
    order: Any = SimpleNamespace(past=past, folder=tmp_path, erased=erased)

    async def run(name: str, number: int) -> Report:
        async with whole(place) as store, past.keys.ring() as keys:
            return await COMMANDS[name](order, store, keys, str(number))

    reports = await asyncio.gather(run(first, 1), run(second, 2))
    for report in reports:
        assert report.stopped is None
        assert report.incomplete == ()
        assert set(report.left) <= {"unauthentic", "plaintext"}
    found = await read_all(place)
    monkeypatch.setitem(FATES, "both", fates_of(first, second))  # type: ignore[arg-type]  # it is a dict
    gone = frozenset(erased if "erase" in (first, second) else ())
    wrong, rest = compare(past, before, found, "both", erased=gone)
    assert wrong == []
    assert not any(rest.values())
    if first == second == "discard":
        lines = [line for export in tmp_path.glob("export-*") for line in export.read_text().splitlines()[:-1]]  # noqa: ASYNC240 - small files
        kept = {row.data for rows in found.values() for row in rows}
        assert {row.data for row in before} == kept | {json.loads(line)["data"] for line in lines}

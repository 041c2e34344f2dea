"""Search in what users wrote, over sealed rows and over plain ones."""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from typing import Any

from agents.extensions.memory import AdvancedSQLiteSession
from event_loop import longest_stall
from measuring import Samples, Table, Taken, in_turn, ms
from subjects import message

from encrypted_sessions import KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession

_TURNS = 5_000
_BYTES = 300
_TARGET_S = 30e-6
_STALL_S = 0.010
_PLAIN, _SEALED = "AdvancedSQLiteSession", "this library"


async def measure(*, quick: bool) -> Table:
    table = Table(
        f"Search in {_TURNS:,} turns",
        ("session", "processor time a turn", "target", "met", "longest stall of the event loop", "target", "met"),
        f"`find_turns_by_content` for a term that no turn contains, in user messages of {_BYTES} B in a file. The"
        " SDK's class has SQLite look through plain text; this library opens each message. Processor time is the"
        " minimum of several alternating runs; a stall is the median of another task's longest wait in each.",
    )
    with tempfile.TemporaryDirectory() as folder:
        plain, beneath = (
            AdvancedSQLiteSession(session_id="bench", db_path=f"{folder}/{name}.db", create_tables=True)
            for name in ("plain", "sealed")
        )
        try:
            sealed = EncryptedAdvancedSQLiteSession.wrap(beneath, KeyRing.ephemeral(), ttl=None)
            sessions: dict[str, Any] = {_PLAIN: plain, _SEALED: sealed}
            for session in sessions.values():
                await session.add_items([message(_BYTES)] * _TURNS)
            rounds = 5 if quick else 15
            samples, stalls = Samples(), dict[str, list[float]]()
            for order in in_turn(list(sessions), rounds):
                for name in order:
                    search = partial(sessions[name].find_turns_by_content, "in no message")
                    start = Taken.since()
                    assert await search() == []
                    samples.add(name, Taken.since(start))
                    stalls.setdefault(name, []).append(await longest_stall(search))
        finally:
            plain.close()
            beneath.close()
    for name in sessions:
        each, stall = samples.least_cpu(name) / _TURNS, statistics.median(stalls[name])
        if name == _PLAIN:
            table.add(name, _us(each), "", "", ms(stall), "", "")
            continue
        time = table.judged(f"{name}, processor time", each, _TARGET_S, _us(_TARGET_S))
        table.add(name, _us(each), *time, ms(stall), *table.judged(f"{name}, stall", stall, _STALL_S, ms(_STALL_S)))
    return table


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"

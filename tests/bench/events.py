"""What it costs to be told of operations, and to be told of none."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from typing import Any

from agents import SQLiteSession
from measuring import Samples, Table, in_turn, ms
from subjects import SESSION, TTL, add_and_get, message

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.events.listening import LISTENING
from keyproviders import redact_frames
from keyproviders.local import StaticKeyProvider

_WITHOUT, _OFF, _ON = "without events", "nobody listens", "a hook"
_SUBJECTS = (_WITHOUT, _OFF, _ON)
_OPERATIONS = ("get_items", "add_items", "pop_item", "clear_session")
_BATCH = 200
_MOST_OFF, _MOST_ON = 1.01, 1.02


class _WithoutEvents(EncryptedSession):
    """The methods as they were before anybody could listen."""


for _name in _OPERATIONS:
    _method = getattr(EncryptedSession, _name).__wrapped__.__wrapped__
    setattr(_WithoutEvents, _name, redact_frames(_method))


class _Count:
    """The hook: it counts events, as an application's own might."""

    told = 0

    def __call__(self, event: Any) -> None:
        self.told += 1


def _sessions(folder: str, stack: ExitStack, hook: _Count) -> dict[str, Any]:
    ring = KeyRing(StaticKeyProvider(Key.generate("bench")))
    found = {}
    for number, subject in enumerate(_SUBJECTS):
        store = stack.enter_context(closing(SQLiteSession(SESSION, f"{folder}/{number}.db")))
        its_class = _WithoutEvents if subject == _WITHOUT else EncryptedSession
        found[subject] = its_class.wrap(store, ring, ttl=TTL, on_event=hook if subject == _ON else None)
    return found


async def measure(*, quick: bool) -> Table:
    """Batches of 200, and single calls."""
    columns = ("call", *_SUBJECTS, "nobody / without", "target", "met", "hook / without", "target", "met")
    table = Table(
        "Events",
        columns,
        f"`add_items` and `get_items` of {_BATCH} items of 1 KiB over a SQLite file, and the same for one item,"
        " which has no target. Times are the minimum CPU time of a round; ratios are the medians of the ratios"
        " within the rounds, in CPU time.",
    )
    hook = _Count()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sessions = _sessions(folder, stack, hook)
        for batch, rounds in (([message(1024)] * _BATCH, 120), ([message(1024)], 600)):
            added, got = Samples(), Samples()
            for number, order in enumerate(in_turn(_SUBJECTS, (rounds // 10 if quick else rounds) + 2)):
                for subject in order:
                    LISTENING.is_on = subject == _ON
                    took_to_add, took_to_get = await add_and_get(sessions[subject], batch)
                    if number >= 2:
                        added.add(subject, took_to_add)
                        got.add(subject, took_to_get)
            for call, samples in (("add_items", added), ("get_items", got)):
                _add_row(table, f"{call} of {len(batch)}", samples, has_target=len(batch) > 1)
    assert hook.told
    return table


def _add_row(table: Table, label: str, samples: Samples, *, has_target: bool) -> None:
    cells = [ms(samples.least_cpu(subject)) for subject in _SUBJECTS]
    for subject, most in ((_OFF, _MOST_OFF), (_ON, _MOST_ON)):
        ratio = samples.cpu_ratio(subject, _WITHOUT)
        cells.append(f"{ratio:.3f}")
        cells += table.judged(f"{label}, {subject}", round(ratio, 2), most) if has_target else ("", "")
    table.add(label, *cells)

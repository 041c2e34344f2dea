"""What it costs to have operations written to an audit log."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from measuring import Samples, Table, Taken, in_turn, ms
from subjects import SESSION, TTL, add_and_get, message

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.audit import AuditLog
from encrypted_sessions_tests.stores import StoreLocation, open_store
from keyproviders.local import StaticKeyProvider

_NOBODY, _CHAINED, _REFUSING = "nobody listens", "audit log", "audit log, refuse"
_SUBJECTS = (_NOBODY, _CHAINED, _REFUSING)
_BATCH = 200
_TARGET = 1.05


async def measure(*, quick: bool) -> Table:
    """Batches, and single items."""
    table = Table(
        "An audit log",
        ("call", *_SUBJECTS, "audit log / nobody", "in CPU time", "target", "met", "refuse / nobody"),
        "Items of 1 KiB over a SQLite file, with an audit log in a folder beside it; each line is chained by"
        ' SHA-256 and synced within a second. With "refuse" a call waits for its lines. The target applies to'
        " processor time.",
    )
    added, got, one, last = Samples(), Samples(), Samples(), Samples()
    item = message(1024)
    with tempfile.TemporaryDirectory() as folder:
        async with _sessions(folder) as sessions:
            for number, order in enumerate(in_turn(_SUBJECTS, (12 if quick else 120) + 3)):
                for subject in order:
                    to_add, to_get = await add_and_get(sessions[subject], [item] * _BATCH)
                    if number >= 3:  # the first rounds open connections and files
                        added.add(subject, to_add)
                        got.add(subject, to_get)
            for order in in_turn(_SUBJECTS, 30 if quick else 400):
                for subject in order:
                    start = Taken.since()
                    await sessions[subject].add_items([item])
                    one.add(subject, Taken.since(start))
                    start = Taken.since()
                    await sessions[subject].get_items(1)
                    last.add(subject, Taken.since(start))
    for label, samples, is_judged in (
        (f"add_items of {_BATCH}", added, True),
        (f"get_items of {_BATCH}", got, True),
        ("add_items of one", one, False),
        ("get_items of one", last, False),
    ):
        cpu = samples.cpu_ratio(_CHAINED, _NOBODY)
        table.add(
            label,
            *(ms(samples.median(subject)) for subject in _SUBJECTS),
            f"{samples.ratio(_CHAINED, _NOBODY):.2f}",
            f"{cpu:.2f}",
            *(table.judged(label, cpu, _TARGET) if is_judged else ("", "")),
            f"{samples.ratio(_REFUSING, _NOBODY):.2f}",
        )
    return table


@contextlib.asynccontextmanager
async def _sessions(folder: str) -> AsyncIterator[dict[str, Any]]:
    """Each subject over a store of its own."""
    async with contextlib.AsyncExitStack() as stack:
        sessions = {}
        for number, subject in enumerate(_SUBJECTS):
            place = StoreLocation("sqlite", f"{folder}/{number}.db", f"s{number}")
            store = await stack.enter_async_context(open_store(place, SESSION))
            log = None
            if subject != _NOBODY:
                where = Path(folder) / f"audit-{number}"
                where.mkdir(mode=0o700)
                on_failure: Any = "refuse" if subject == _REFUSING else "continue"
                log = stack.enter_context(AuditLog(where, on_failure=on_failure))
            ring = KeyRing(StaticKeyProvider(Key.generate("bench")))
            sessions[subject] = EncryptedSession.wrap(store, ring, ttl=TTL, on_event=log)
        yield sessions

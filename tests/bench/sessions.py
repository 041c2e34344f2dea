"""`sessions`: how soon somebody sees the first page of a large store, and any other one."""

from __future__ import annotations

import time
from typing import Any

from maintenance import drop, places
from measuring import Samples, Table, Taken, in_turn, ms
from subjects import message

from encrypted_sessions import Key
from encrypted_sessions.core.envelope import pack_row
from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions.maintenance._sessions import list_sessions
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import make_tables, whole

_SIZE = 200
_FEW = 10


async def measure(*, quick: bool) -> Table:
    """Pages of sessions, by their labels."""
    sessions, rows, rounds = (200, 10, 2) if quick else (10_000, 100, 7)
    page = sessions // 10
    questions: dict[str, dict[str, Any]] = {
        f"first {_FEW}": {"limit": _FEW},
        f"first {page:,}": {"limit": page},
        f"{page:,} from the middle": {"limit": page, "after": _name(sessions // 2)},
        "by prefix": {"limit": page, "session_prefix": _name(sessions // 2)[:-1]},
    }
    table = Table(
        f"Listing sessions of a store of {sessions * rows:,} rows",
        ("store", *questions),
        f"{sessions:,} sessions of {rows} items of {_SIZE} B. Times of `sessions` within an open store, which reads the"
        f" labels of the rows of each session that it lists; medians. The prefix is that of {_FEW} sessions. The first"
        f" page of the command has 1,000 sessions unless `--limit` says otherwise.",
    )
    async for place in places(table):
        there = place._replace(name=f"s{sessions}").place()
        await _fill(there, sessions, rows)
        samples = Samples()
        async with whole(there) as store:
            for order in in_turn(list(questions), rounds):
                for name in order:
                    start = Taken.since()
                    found = await list_sessions(store, **questions[name])
                    samples.add(name, Taken.since(start))
                    wanted = min(questions[name]["limit"], _FEW if name == "by prefix" else page)
                    assert len(found.sessions) == wanted, (name, len(found.sessions))
                    assert all(one.rows == rows for one in found.sessions), name
        await drop(there)
        table.add(place.kind, *(ms(samples.median(name)) for name in questions))
    return table


def _name(number: int) -> str:
    return f"session-{number:06}"


async def _fill(place: StoreLocation, sessions: int, rows: int) -> None:
    """The same row everywhere: nobody opens it."""
    await make_tables(place)
    key = Key.generate("one")
    token = FernetCipher.derive(key.secret, _name(0)).seal(message(_SIZE), int(time.time()))
    for number in range(sessions):
        await write_rows(place, _name(number), [pack_row(key.kid, token)] * rows)

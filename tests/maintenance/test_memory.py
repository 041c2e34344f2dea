"""What a run takes does not grow with the store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from encrypted_sessions.core.suites.fernet_v1 import FernetCipher
from encrypted_sessions_tests.history_of_keys import TTL, Keys
from encrypted_sessions_tests.maintenance_peak import can_be_measured, peak_of
from encrypted_sessions_tests.sealed_rows import encode, message
from encrypted_sessions_tests.soak import FULL
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.whole_rows import Written, clear_all, write_all
from encrypted_sessions_tests.whole_stores import MAINTAINED, make_tables

pytestmark = [pytest.mark.soak, pytest.mark.long]

SMALL, LARGE = (100_000, 1_000_000) if FULL else (4_000, 24_000)
ITEMS = 100
CHUNK = 20_000


def chunks(keys: Keys, count: int) -> Iterator[list[Written]]:
    """Rows of many sessions in turns, most under an older key, some plain, some expired."""
    now = int(time.time())
    sessions = [f"user-{number}" for number in range(count // ITEMS)]
    ciphers = [FernetCipher.derive(keys.older.secret, session_id) for session_id in sessions]
    rows: list[Written] = []
    for number in range(count):
        session_id, cipher = sessions[number % len(sessions)], ciphers[number % len(sessions)]
        item = message(f"item {number} " + "x" * 200)
        if number % 50 == 0:
            rows.append(Written(session_id, json.dumps(item)))
        else:
            token = encode(cipher.seal(item, now - (number % 10 == 0) * 2 * TTL))
            rows.append(Written(session_id, f'{{"__enc__":1,"v":1,"kid":"{keys.older.kid}","payload":"{token}"}}'))
        if len(rows) == CHUNK:
            yield rows
            rows = []
    yield rows


async def peak(place: StoreLocation, count: int) -> int:
    keys = Keys()
    await make_tables(place)
    for rows in chunks(keys, count):
        await write_all(place, rows)
    return peak_of(place, keys)


@pytest.mark.skipif(not can_be_measured(), reason="no /proc to read a process's peak from")
@pytest.mark.parametrize("kind", MAINTAINED)
async def test_the_peak_at_a_larger_store_is_that_of_a_smaller_one(request: pytest.FixtureRequest, kind: str):
    small, large = [await peak(new_place(kind, request), count) for count in (SMALL, LARGE)]
    assert large <= 1.2 * small, f"{small / 1e6:.0f} MB for {SMALL:,} rows, {large / 1e6:.0f} MB for {LARGE:,}"


LARGE_ROWS, ROW = (120, 6_000_000) if FULL else (12, 6_000_000)
COMMANDS = ("inventory", "verify", "encrypt", "reencrypt", "purge", "discard")
#: Of those that do the same with the store, one: that reads, that writes, that removes.
FEW_COMMANDS = ("verify", "reencrypt", "purge")


@pytest.mark.skipif(not can_be_measured(), reason="no /proc to read a process's peak from")
@pytest.mark.parametrize("kind", MAINTAINED)
async def test_no_command_takes_64_mib_more_for_rows_of_6_mb(request: pytest.FixtureRequest, kind: str):
    """Small rows come first, so that what was read before says nothing about what comes."""
    keys, taken = Keys(), {}
    for command in COMMANDS if FULL or kind == MAINTAINED[0] else FEW_COMMANDS:
        place, peaks = new_place(kind, request), []
        await make_tables(place)
        for size, count in ((200, 200), (ROW, LARGE_ROWS)):
            await write_all(place, list(large_rows(keys, command, size, count)))
            peaks.append(peak_of(place, keys, command))
        await clear_all(place)
        taken[command] = (peaks[1] - peaks[0]) / 2**20
    assert max(taken.values()) <= 64, f"MiB more: {taken}"


def large_rows(keys: Keys, command: str, size: int, count: int) -> Iterator[Written]:
    """Rows of about so many bytes with which the command has to do something; each time in few sessions."""
    now = int(time.time())
    cipher = FernetCipher.derive(keys.older.secret, "user-0")
    item = message("x" * (size * 3 // 4))
    if command in ("encrypt", "discard"):
        text = json.dumps(item)
    else:
        token = encode(cipher.seal(item, now - (command == "purge") * 2 * TTL))
        text = f'{{"__enc__":1,"v":1,"kid":"{keys.older.kid}","payload":"{token}"}}'
    for _ in range(count):
        yield Written("user-0", text)

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
from encrypted_sessions_tests.whole_rows import Written, write_all
from encrypted_sessions_tests.whole_stores import MAINTAINED, make_tables

pytestmark = pytest.mark.soak

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

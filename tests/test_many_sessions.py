"""Ten thousand sessions behind one ring."""

from __future__ import annotations

import asyncio

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions_tests.stores import PlainSession


class CountingPlace:
    """A place with one key, which counts what it is asked."""

    def __init__(self) -> None:
        self.key = Key.generate("v1")
        self.calls = 0

    def active(self) -> Key:
        self.calls += 1
        return self.key

    def get(self, name: str) -> Key:
        self.calls += 1
        return self.key


async def test_ten_thousand_sessions_that_start_cold_at_once_cost_one_call() -> None:
    place = CountingPlace()
    ring = KeyRing(place)
    item = {"role": "user", "content": "hello"}
    sessions = [EncryptedSession.wrap(PlainSession(f"user-{number}", []), ring, ttl=600) for number in range(10_000)]
    await asyncio.gather(*(session.add_items([item]) for session in sessions))
    assert place.calls == 1
    assert await sessions[-1].get_items() == [item]
    assert place.calls == 1
    await ring.aclose()

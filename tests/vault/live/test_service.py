"""A running service whose key is rotated under it, and whose server then stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from encrypted_sessions import EncryptedSession
from keyproviders import CachePolicy, KeyRing, KeyUnavailableError, RetryPolicy
from keyproviders.vault import VaultKvKeyProvider

#: Old answers are asked for anew at once, and go on counting for the length of a test.
CACHE = CachePolicy(fresh_s=0.2, stale_write_s=300, stale_read_s=600, miss_memory_s=0.2)
RETRY = RetryPolicy(attempts=2, deadline_s=5, wait_min_s=0.01, wait_max_s=0.02)


def item(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def contents(session: EncryptedSession) -> list[Any]:
    return [one["content"] for one in await session.get_items()]


async def test_nothing_fails_through_rotations_and_a_pause_of_the_server(stored_place, tmp_path: Path):
    first = stored_place.write()
    login = stored_place.approle()

    def ring() -> KeyRing:
        provider = VaultKvKeyProvider(
            stored_place.path, address=stored_place.server.url, ca_cert=stored_place.server.certificate, **login
        )
        return KeyRing(provider, cache=CACHE, retry=RETRY)

    def session(keys: KeyRing) -> EncryptedSession:
        store = SQLiteSession("user-123", tmp_path / "agents.db")
        stores.append(store)
        return EncryptedSession.wrap(store, keys, ttl=3_600)

    stores: list[SQLiteSession] = []
    async with ring() as one, ring() as other:
        here, there = session(one), session(other)
        await here.add_items([item("1 here")])
        await there.add_items([item("1 there")])

        second = stored_place.write()
        await one.refresh()
        await here.add_items([item("2 here")])
        # The other one has not refreshed: it looks the new version up when it meets it.
        assert await contents(there) == ["1 here", "1 there", "2 here"]

        third = stored_place.write()
        await other.refresh()
        await there.add_items([item("3 there")])
        assert await contents(here) == ["1 here", "1 there", "2 here", "3 there"]

        stored_place.server.pause()
        await here.add_items([item("4 here")])
        await there.add_items([item("4 there")])
        everything = ["1 here", "1 there", "2 here", "3 there", "4 here", "4 there"]
        assert await contents(here) == await contents(there) == everything

        # A process that starts now has nothing to go on with, and says so.
        cold = ring()
        with pytest.raises(KeyUnavailableError):
            await session(cold).get_items()

        stored_place.server.resume()
        assert await contents(session(cold)) == everything
        await cold.aclose()

    kids = [row["kid"] for row in await stores[0].get_items()]
    assert {kid.partition("~")[0] for kid in kids} <= {"1", "2", "3"}
    assert [kids[0], kids[2], kids[3]] == [first.kid, second.kid, third.kid]
    for store in stores:
        store.close()

"""What SECURITY.md says of who gets what, where no other test shows it: also what nobody notices today."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.keyset_fixture import KeysetFixture
from encrypted_sessions_tests.leaks import Net
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import KINDS, StoreLocation, new_place, open_store, raw_rows
from keyproviders.keyset import FileKeysetStore
from keyproviders.local import StaticKeyProvider


@pytest.fixture(params=distinct(KINDS))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer()
    yield sealer
    sealer.ring.close()


async def outcomes_of(place: StoreLocation, sealer: Sealer) -> dict[str, int]:
    async with sealer.session(place) as session:
        return dict((await session.read()).outcomes)


async def test_at_rest_there_are_ids_times_and_sizes_and_no_content(place: StoreLocation, net: Net) -> None:
    key = net.master()
    ring = KeyRing(StaticKeyProvider(key))
    async with open_store(place, SESSION) as store:
        session = EncryptedSession.wrap(store, ring, ttl=TTL)
        await session.add_items([net.item()] * 3)  # type: ignore[list-item]  # messages
        assert await session.get_items() == [net.item()] * 3
        rows = await raw_rows(place, SESSION)
    ring.close()
    net.add("at rest", repr(rows))
    for row in map(json.loads, rows):
        assert set(row) == {"__enc__", "v", "kid", "payload"}
        assert row["kid"] == key.kid
        token = base64.urlsafe_b64decode(row["payload"])
        net.add("a token", repr(token))
    assert len({json.loads(row)["payload"] for row in rows}) == 3  # the same item three times, and nobody can tell


async def test_rows_that_were_removed_repeated_or_put_in_another_order_are_not_noticed(
    place: StoreLocation, sealer: Sealer
) -> None:
    """Each row proves itself alone. This is no promise: it is what SECURITY.md says is missing."""
    rows = [sealer.ok(text) for text in ("one", "two", "three")]
    async with sealer.session(place):
        await write_rows(place, SESSION, [rows[2], rows[0], rows[2]])
    async with sealer.session(place) as session:
        assert texts(await session.get_items()) == ["three", "one", "three"]


async def test_cleared_rows_that_are_put_back_open_until_their_ttl_ends(place: StoreLocation, sealer: Sealer) -> None:
    async with sealer.session(place) as session:
        await session.add_items([message("cleared")])
        rows = await raw_rows(place, SESSION)
        await session.clear_session()
        assert await session.get_items() == []
        old = sealer.row(message("cleared long ago"), sealer.active, age=TTL + 1)
        await write_rows(place, SESSION, [*rows, old])
    assert await outcomes_of(place, sealer) == {"ok": 1, "expired": 1}


def test_a_keyset_shows_names_times_and_states_and_no_key(tmp_path: Path, net: Net) -> None:
    file = tmp_path / "keyset.json"
    keyset = KeysetFixture.of(FileKeysetStore(file))
    keyset.manager.create(key_name="first")
    keyset.manager.rotate(key_name="second", now=True)
    text = file.read_text()
    provider = keyset.provider()
    for name in ("first", "second"):
        net.also(provider.get(name).secret)
    net.add("the keyset", text)
    assert {entry["name"] for entry in json.loads(text)["keys"]} == {"first", "second"}

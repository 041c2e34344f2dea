"""What is let in for moving over has an end, and a weak string is told."""

from __future__ import annotations

import sqlite3
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, LongSessionIdWarning, UnreadableItemsError, WeakKeyWarning
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import PlainSession, StoreLocation, open_store
from keyproviders import Key, KeyRing, ProviderConfigError
from keyproviders.local import StaticKeyProvider

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)


async def of_the_sdk(place: StoreLocation, text: str, *, upstream_key: str) -> None:
    from agents.extensions.memory import EncryptedSession as TheirSession

    async with open_store(place, SESSION) as store:
        theirs = TheirSession(SESSION, store, upstream_key, ttl=TTL)
        await theirs.add_items([message(text)])  # type: ignore[list-item] # a message


async def test_rows_of_the_sdk_stamped_after_upstream_until_are_unauthentic(place: StoreLocation, sealer: Sealer):
    string = Key.generate().reveal_base64()
    await of_the_sdk(place, "forged with the old string", upstream_key=string)
    async with sealer.session(place, upstream_key=string, upstream_until=NOW + HOUR) as session:
        assert texts(await session.get_items()) == ["forged with the old string"]
    async with sealer.session(place, upstream_key=string, upstream_until=NOW - HOUR) as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
        assert raised.value.outcomes == {"ok": 0, "unauthentic": 1}
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()
        await session.add_items([message("of the ring")])
        assert texts((await session.read()).items) == ["of the ring"]


async def test_plaintext_added_after_plaintext_until_raises(place: StoreLocation, sealer: Sealer):
    """By the row's own time where the store has one, else by the clock."""
    async with open_store(place, SESSION) as store:
        await store.add_items([message("slipped in")])
        await store.add_items([sealer.envelope(message("sealed"))])
    async with sealer.session(place, plaintext="read", plaintext_until=NOW + HOUR) as session:
        assert texts(await session.get_items()) == ["slipped in", "sealed"]
    async with sealer.session(place, plaintext="read", plaintext_until=NOW - HOUR) as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
        assert raised.value.outcomes == {"ok": 1, "plaintext": 1}
        assert texts((await session.read()).items) == ["sealed"]
    async with sealer.session(place, plaintext="read", plaintext_until=NOW - HOUR, on_unreadable="skip") as session:
        assert texts(await session.get_items()) == ["sealed"]


@pytest.mark.parametrize("place", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"], indirect=True)
async def test_plaintext_of_before_plaintext_until_is_still_read_afterwards(place: StoreLocation, sealer: Sealer):
    async with open_store(place, SESSION) as store:
        await store.add_items([message("old")])
        await store.add_items([message("new")])
    connection = sqlite3.connect(place.where)
    with connection:
        connection.execute(
            f"UPDATE {place.messages_table} SET created_at = datetime('now', '-2 days')"  # noqa: S608 - named by the test
            " WHERE id = (SELECT min(id) FROM agent_messages)"
        )
    connection.close()
    async with sealer.session(
        place, plaintext="read", plaintext_until=NOW - timedelta(days=1), on_unreadable="skip"
    ) as session:
        assert texts(await session.get_items()) == ["old"]
        with pytest.raises(UnreadableItemsError):
            await session.pop_item()


@pytest.mark.parametrize("place", ["sqlalchemy-postgres"], indirect=True)
async def test_the_time_of_a_row_in_postgres_is_its_own(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place, plaintext="read") as session:
        await session.underlying_session.add_items([message("one")])
        rows = session._sealed.rows
        (row,) = await rows.page(None, 5)  # type: ignore[union-attr] # such a store has rows
        (added_at,) = await rows.added_at([row])  # type: ignore[union-attr] # likewise
    assert added_at == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"upstream_until": NOW}, ValueError, "upstream_until goes with upstream_key"),
        ({"plaintext_until": NOW}, ValueError, "plaintext_until goes with plaintext"),
        (
            {"plaintext": "read", "plaintext_until": NOW.replace(tzinfo=None)},
            ValueError,
            "plaintext_until .* time zone",
        ),
        ({"plaintext": "read", "plaintext_until": 1.0}, TypeError, "plaintext_until must be a datetime"),
        ({"plaintext": "read", "plaintext_until": "2026-12-01"}, TypeError, "plaintext_until must be a datetime"),
    ],
)
def test_an_end_is_a_datetime_with_a_time_zone(sealer: Sealer, options: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=TTL, **options)


def test_an_upstream_key_that_can_be_guessed_is_told(sealer: Sealer):
    with pytest.warns(WeakKeyWarning, match="upstream_key is not 32 random bytes"):
        EncryptedSession.wrap(PlainSession(SESSION, []), sealer.ring, ttl=TTL, upstream_key="hunter2")


class StrictRing(KeyRing):
    strict = True


@pytest.fixture
def strict_ring() -> Any:
    ring = StrictRing(StaticKeyProvider(Key.generate("active")))
    yield ring
    ring.close()


def test_a_strict_ring_refuses_an_upstream_key_that_can_be_guessed(strict_ring: KeyRing):
    with pytest.raises(ValueError, match=r"upstream_key .*strict"):
        EncryptedSession.wrap(PlainSession(SESSION, []), strict_ring, ttl=TTL, upstream_key="hunter2")


@pytest.mark.parametrize("session_id", ["x" * 65, "é" * 33, "𝄞" * 17])
def test_a_session_id_of_more_than_64_bytes_is_told_and_refused_by_a_strict_ring(
    sealer: Sealer, strict_ring: KeyRing, session_id: str
):
    store = PlainSession(session_id, [])
    with pytest.warns(LongSessionIdWarning, match="more than 64 bytes"):
        EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    with pytest.raises(ValueError, match=r"more than 64 bytes .*strict"):
        EncryptedSession.wrap(store, strict_ring, ttl=TTL)


@pytest.mark.parametrize("session_id", ["x" * 64, "é" * 32, "𝄞" * 16])
def test_a_session_id_of_64_bytes_is_fine(strict_ring: KeyRing, session_id: str):
    EncryptedSession.wrap(PlainSession(session_id, []), strict_ring, ttl=TTL)


def test_under_the_strict_variable_a_string_that_can_be_guessed_is_no_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    store = PlainSession(SESSION, [])
    with pytest.raises(ValueError, match=r"encryption_key .*strict"):
        EncryptedSession(SESSION, store, "hunter2")
    EncryptedSession(SESSION, store, Key.generate().reveal_base64())


def test_a_strict_variable_that_says_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Somebody means to be strict: one rule for rings and for strings."""
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "yes")
    with pytest.raises(ProviderConfigError, match="ENCRYPTED_SESSIONS_STRICT is neither 1 nor 0"):
        EncryptedSession(SESSION, PlainSession(SESSION, []), Key.generate().reveal_base64())


async def test_what_is_sealed_is_read_whatever_plaintext_until_says(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place, plaintext="read", plaintext_until=NOW - HOUR) as session:
        await write_rows(place, SESSION, [sealer.ok("one"), sealer.expired()])
        assert texts(await session.get_items()) == ["one"]

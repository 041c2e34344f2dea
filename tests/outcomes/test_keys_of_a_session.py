"""What a session does with the answers about keys: in time, only for their time, and no longer than they live."""

from __future__ import annotations

import asyncio
import gc
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, UnreadableItemsError
from encrypted_sessions.history.classified import SessionOpeners
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import PlainSession, StoreLocation, open_store
from keyproviders import Key, KeyNotFoundError, KeyProvider, KeyRing, KeyUnavailableError, RetryPolicy

INVENTED = 64


class SlowPlace(KeyProvider):
    """A place that takes its time to say that it lacks a key."""

    def __init__(self, *keys: Key) -> None:
        self._keys = {key.name: key for key in keys}
        self._active = keys[0]

    def active(self) -> Key:
        return self._active

    def get(self, name: str) -> Key:
        if name not in self._keys:
            time.sleep(0.3)
            raise KeyNotFoundError(f"no key {name}")
        return self._keys[name]


async def test_a_row_that_names_a_held_key_by_another_name_says_what_to_list(place: StoreLocation, sealer: Sealer):
    """For instance after a key was given another name at its place."""
    former = Key("former", sealer.active.secret)
    row = sealer.row(message("old"), former)
    async with sealer.session(place) as session:
        await session.add_items([message("makes the tables")])
        await write_rows(place, SESSION, [row, row, sealer.of("unknown_key")])
        for refused in (session.get_items, session.pop_item):
            if refused == session.pop_item:
                await write_rows(place, SESSION, [row])
            with pytest.raises(UnreadableItemsError) as raised:
                await refused()
            advice = f"the key of {former.kid} is held as {sealer.active.kid}: if its rows are yours, list it under"
            assert str(raised.value).count(advice) == 1
            assert "under the name 'former' too" in str(raised.value)
            assert str(raised.value).count("the key of") == 1
            assert former.reveal_base64() not in str(raised.value)


async def test_the_last_moments_of_a_read_are_not_for_asking(monkeypatch: pytest.MonkeyPatch):
    now, waits = 1_000.0, []

    class Keychain:
        wait_s = 8.0

        async def find(self, kids: set[str], wait_s: float) -> dict[str, str]:
            nonlocal now
            waits.append(wait_s)
            now += 3.9
            return dict.fromkeys(kids, "key_not_asked")

    monkeypatch.setattr("encrypted_sessions.history.classified.time", SimpleNamespace(monotonic=lambda: now))
    openers = SessionOpeners(Keychain())  # type: ignore[arg-type] # all that is used of it
    for kid in ("a~0badc0de", "b~0badc0de", "c~0badc0de"):
        await openers.prepare([SimpleNamespace(kid=kid, version=1)])  # type: ignore[list-item] # likewise
    assert waits == [8.0, pytest.approx(4.1), 0.0]


async def test_invented_kids_end_a_read_in_time_and_as_not_asked(sealer: Sealer):
    rows: list[Any] = [
        {**sealer.envelope(message("junk")), "kid": f"invented-{number}~0badc0de"} for number in range(INVENTED)
    ]
    ring = KeyRing(SlowPlace(sealer.active, sealer.older), retry=RetryPolicy(attempts=1, deadline_s=1.0))
    try:
        store = PlainSession(SESSION, [])
        await store.add_items([*rows, sealer.envelope(message("one"))])
        session = EncryptedSession.wrap(store, ring, ttl=TTL, on_unreadable="skip")
        await ring.active()
        began = time.monotonic()
        reading = asyncio.ensure_future(session.read())
        other_store = PlainSession(SESSION, [])
        await other_store.add_items([sealer.envelope(message("of another"), sealer.older)])
        other = EncryptedSession.wrap(other_store, ring, ttl=TTL)
        assert texts(await other.get_items()) == ["of another"]
        found = await reading
        assert time.monotonic() - began < 10
        assert texts(found.items) == ["one"]
        assert found.outcomes["ok"] == 1
        assert found.outcomes["key_not_asked"] > INVENTED / 2
        assert sum(found.outcomes.values()) == INVENTED + 1
        assert texts(await session.get_items()) == ["one"]
        with pytest.raises(UnreadableItemsError, match="key_not_asked: there were more unknown key ids") as raised:
            await EncryptedSession.wrap(store, ring, ttl=TTL).get_items()
        assert raised.value.outcomes["key_not_asked"] > INVENTED / 2
    finally:
        ring.close()


class SilentPlace(SlowPlace):
    def get(self, name: str) -> Key:
        if name not in self._keys:
            time.sleep(3)
        return super().get(name)


async def test_a_place_that_does_not_answer_is_no_outcome(sealer: Sealer):
    ring = KeyRing(SilentPlace(sealer.active), retry=RetryPolicy(attempts=1, deadline_s=0.5))
    try:
        store = PlainSession(SESSION, [])
        kids = [f"invented-{number}~0badc0de" for number in range(3)]
        await store.add_items([{**sealer.envelope(message("junk")), "kid": kid} for kid in kids])
        await store.add_items([sealer.envelope(message("one"))])
        session = EncryptedSession.wrap(store, ring, ttl=TTL, on_unreadable="skip")
        await ring.active()
        with pytest.raises(KeyUnavailableError):
            await session.get_items()
    finally:
        ring.close()


async def test_a_row_sealed_after_its_key_had_stopped_writing_is_late_key(place: StoreLocation, sealer: Sealer):
    now = datetime.now(timezone.utc)
    rotated = Key("rotated", Key.generate().secret, written_until=now - timedelta(seconds=300))
    ring = KeyRing(ScriptedKeys(sealer.active, rotated))
    try:
        rows = [
            sealer.row(message("in time"), rotated, age=400),
            sealer.row(message("within the skew of clocks"), rotated, age=250),
            sealer.row(message("forged"), rotated, age=100),
            sealer.row(message("expired"), rotated, age=100_000),
            sealer.ok("of the active key"),
        ]
        async with open_store(place, SESSION) as store:
            session = EncryptedSession.wrap(store, ring, ttl=TTL)
            await session.read()
            await write_rows(place, SESSION, rows)
            found = await session.read()
            assert texts(found.items) == ["in time", "within the skew of clocks", "of the active key"]
            assert found.outcomes == {"ok": 3, "late_key": 1, "expired": 1}
            with pytest.raises(UnreadableItemsError, match="late_key: sealed more than 60 s after"):
                await session.get_items()
            assert await session.pop_item() == message("of the active key")
            await write_rows(place, SESSION, [sealer.row(message("forged again"), rotated, age=10)])
            with pytest.raises(UnreadableItemsError, match="late_key"):
                await session.pop_item()
            shorter = EncryptedSession.wrap(store, ring, ttl=50)
            assert (await shorter.read()).outcomes["late_key"] == 1  # time comes first: the others are expired
    finally:
        ring.close()


async def test_ciphers_die_with_their_key(sealer: Sealer):
    store = PlainSession(SESSION, [])
    ring = KeyRing(ScriptedKeys(sealer.active, sealer.older))
    session = EncryptedSession.wrap(store, ring, ttl=TTL)
    await session.add_items([message("one")])
    await store.add_items([sealer.envelope(message("two"), sealer.older)])
    assert texts(await session.get_items()) == ["one", "two"]
    keychain: Any = session._sealed.keychain
    assert sorted(cipher.kid for cipher in keychain._ciphers.values()) == sorted([sealer.active.kid, sealer.older.kid])
    assert await session.get_items()
    assert len(keychain._ciphers) == 2  # kept from read to read
    ring.close()
    gc.collect()
    assert keychain._ciphers == {}
    assert keychain._leases == {}

"""The installed SDK's class and ours read each other's rows, and an application moves between them."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import pytest
from agents.extensions.memory import EncryptedSession as SdkEncryptedSession
from cryptography.fernet import Fernet

from encrypted_sessions import EncryptedSession, Key, KeyRing, UnreadableItemsError
from encrypted_sessions_tests.stores import new_place, open_store, raw_rows
from keyproviders.local import StaticKeyProvider

SdkSession: Any = SdkEncryptedSession

KINDS = ("sqlite", "sqlalchemy-sqlite")
SESSION_ID = "user-ünïcode-1"

ITEMS: list[Any] = [
    {"role": "user", "content": "Grüße, 世界 🌍"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": [1, 2.5, null]}'},
    {"type": "function_call_output", "call_id": "c1", "output": "x" * 20_000},
    {"role": "assistant", "content": [{"type": "output_text", "text": "", "annotations": []}], "n": -(10**40)},
]

_SECRET = bytes(range(190, 222))  # its base64 has signs of both alphabets

# What the SDK's class takes as a key: by its rule, 32 bytes in base64, or else the text itself.
KEY_STRINGS = {
    "a Fernet key": Fernet.generate_key().decode("ascii"),
    "the standard alphabet": base64.b64encode(_SECRET).decode("ascii"),
    "the urlsafe alphabet": base64.urlsafe_b64encode(_SECRET).decode("ascii"),
    "white space around a key": f" {base64.urlsafe_b64encode(_SECRET).decode('ascii')}\n",
    "no padding, so the text itself": base64.urlsafe_b64encode(_SECRET).decode("ascii").rstrip("="),
    "a password": "correct horse",
    "no ASCII": "пароль",
    "16 bytes in base64, so the text itself": base64.b64encode(bytes(16)).decode("ascii"),
}


def ours_with(store: Any, key: Any, **options: Any) -> EncryptedSession:
    """Our class, without its warning: weak keys are what these tests are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EncryptedSession(SESSION_ID, store, key, **options)


@pytest.mark.parametrize("key", KEY_STRINGS.values(), ids=KEY_STRINGS.keys())
@pytest.mark.parametrize("kind", KINDS)
async def test_what_one_class_writes_the_other_reads_and_pops(
    request: pytest.FixtureRequest, kind: str, key: str
) -> None:
    place = new_place(kind, request)
    async with open_store(place, SESSION_ID) as store:
        theirs, ours = SdkSession(SESSION_ID, store, key), ours_with(store, key)
        await theirs.add_items(ITEMS)
        await ours.add_items(ITEMS)
        assert await ours.get_items() == ITEMS + ITEMS
        assert await theirs.get_items() == ITEMS + ITEMS
        assert await ours.get_items(3) == await theirs.get_items(3) == ITEMS[-3:]
        for item in reversed(ITEMS):
            assert await theirs.pop_item() == item
        for item in reversed(ITEMS):
            assert await ours.pop_item() == item
        assert await raw_rows(place, SESSION_ID) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_an_envelope_has_the_same_parts(request: pytest.FixtureRequest, kind: str) -> None:
    place = new_place(kind, request)
    key = Key.generate().reveal_base64()
    async with open_store(place, SESSION_ID) as store:
        await SdkSession(SESSION_ID, store, key).add_items(ITEMS[:1])
        await ours_with(store, key).add_items(ITEMS[:1])
        theirs, ours = (json.loads(row) for row in await raw_rows(place, SESSION_ID))
        assert list(theirs) == list(ours) == ["__enc__", "v", "kid", "payload"]
        assert {name: theirs[name] for name in ("__enc__", "v", "kid")} == {"__enc__": 1, "v": 1, "kid": "hkdf-v1"}
        assert {name: ours[name] for name in ("__enc__", "v", "kid")} == {"__enc__": 1, "v": 1, "kid": "hkdf-v1"}
        assert len(theirs["payload"]) == len(ours["payload"])


@pytest.mark.parametrize("key", KEY_STRINGS.values(), ids=KEY_STRINGS.keys())
@pytest.mark.parametrize("kind", KINDS)
async def test_a_ring_with_upstream_key_reads_the_old_rows_and_writes_with_its_own_key(
    request: pytest.FixtureRequest, kind: str, key: str
) -> None:
    place = new_place(kind, request)
    ring = KeyRing(StaticKeyProvider(Key.generate("2026")))
    async with open_store(place, SESSION_ID) as store:
        await SdkSession(SESSION_ID, store, key).add_items(ITEMS[:2])
        moving = ours_with(store, ring, upstream_key=key)
        await moving.add_items(ITEMS[2:])
        assert await moving.get_items() == ITEMS

        kids = [json.loads(row)["kid"] for row in await raw_rows(place, SESSION_ID)]
        assert kids == ["hkdf-v1"] * 2 + [(await ring.active()).kid] * 2
        # The SDK's class holds the old key alone: the new rows are not sealed with it.
        assert await SdkSession(SESSION_ID, store, key).get_items() == ITEMS[:2]

        for item in reversed(ITEMS):
            assert await moving.pop_item() == item
        assert await raw_rows(place, SESSION_ID) == []


async def test_without_upstream_key_the_old_rows_say_what_they_need(request: pytest.FixtureRequest) -> None:
    async with open_store(new_place("sqlite", request), SESSION_ID) as store:
        await SdkSession(SESSION_ID, store, Key.generate().reveal_base64()).add_items(ITEMS[:1])
        with pytest.raises(UnreadableItemsError, match="need upstream_key=") as raised:
            await ours_with(store, KeyRing.ephemeral()).get_items()
        assert raised.value.outcomes == {"ok": 0, "unknown_key": 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_way_back_leads_through_a_ring_whose_one_key_is_the_string(
    request: pytest.FixtureRequest, kind: str
) -> None:
    text = Key.generate().reveal_base64()
    ring = KeyRing(StaticKeyProvider(text))
    async with open_store(new_place(kind, request), SESSION_ID) as store:
        await ours_with(store, ring).add_items(ITEMS)
        theirs = SdkSession(SESSION_ID, store, text)
        assert await theirs.get_items() == ITEMS
        await theirs.add_items(ITEMS[:1])
        assert await ours_with(store, ring, upstream_key=text).get_items() == ITEMS + ITEMS[:1]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_string_for_another_session_opens_nothing(request: pytest.FixtureRequest, kind: str) -> None:
    place = new_place(kind, request)
    text = Key.generate().reveal_base64()
    async with open_store(place, SESSION_ID) as store:
        await SdkSession(SESSION_ID, store, text).add_items(ITEMS)
        assert await SdkSession("someone else", store, text).get_items() == []
        with pytest.warns(UserWarning, match="is not its store's"):
            other = EncryptedSession("someone else", store, text)
        with pytest.raises(UnreadableItemsError, match="uses the same key and session id as the writer"):
            await other.get_items()

"""A row that is wrong in two ways has one outcome: the one whose question comes first.

Malformed, unsupported, plaintext; then what the place says of the key; then the check; then time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, KeyRing, KeyUnavailableError
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, altered, encode, message
from encrypted_sessions_tests.stores import StoreLocation, new_place, open_store
from keyproviders import Key, KeyNotFoundError, RetryPolicy

FUTURE = -1000


@pytest.fixture(params=["sqlite", "plain"])
def place(request: pytest.FixtureRequest) -> StoreLocation:
    """A row as text, and a row as an object: what a store is otherwise makes no difference here."""
    return new_place(request.param, request)


async def outcome_of_row(place: StoreLocation, sealer: Sealer, stored: Any, **options: Any) -> str:
    async with sealer.session(place, **options) as session:
        await write_rows(place, SESSION, [json.dumps(stored)])
        outcomes = dict((await session.read()).outcomes)
        await session.clear_session()
    assert outcomes.pop("ok") == (1 if not outcomes else 0)
    return next(iter(outcomes), "ok")


@pytest.mark.parametrize(
    "parts",
    [
        {"__enc__": True, "v": 2},
        {"__enc__": 2, "v": 2},
        {"__enc__": "1", "v": 2},
        {"__enc__": None, "v": 2},
        {"__enc__": 1, "v": 2.0},
        {"__enc__": 1, "v": True},
        {"__enc__": 1, "v": None},
        {"__enc__": 1, "v": -2},
    ],
)
async def test_malformed_comes_before_unsupported(place: StoreLocation, sealer: Sealer, parts: dict[str, Any]):
    assert await outcome_of_row(place, sealer, {**sealer.envelope(message("x")), **parts}) == "malformed"


@pytest.mark.parametrize("parts", [{}, {"kid": 7}, {"payload": None}, {"header": {}}])
async def test_only_the_mark_and_the_version_of_a_later_envelope_are_looked_at(
    place: StoreLocation, sealer: Sealer, parts: dict[str, Any]
):
    assert await outcome_of_row(place, sealer, {"__enc__": 1, "v": 3, **parts}) == "unsupported"


async def test_an_object_with_the_mark_is_never_plaintext(place: StoreLocation, sealer: Sealer):
    stored = {**message("x"), "__enc__": 0}
    assert await outcome_of_row(place, sealer, stored, plaintext="read") == "malformed"


async def test_extra_keys_of_an_envelope_are_ignored(place: StoreLocation, sealer: Sealer):
    stored = {**sealer.envelope(message("x")), "note": [1, {"a": None}]}
    assert await outcome_of_row(place, sealer, stored) == "ok"


async def test_the_order_of_keys_in_an_envelope_does_not_matter(place: StoreLocation, sealer: Sealer):
    stored = dict(reversed(sealer.envelope(message("x")).items()))
    assert await outcome_of_row(place, sealer, stored) == "ok"


async def test_malformed_comes_before_the_key_and_no_place_is_asked(place: StoreLocation, sealer: Sealer):
    stored = {**sealer.envelope(message("x"), sealer.unknown), "payload": "gAAAA"}
    sealer.provider.fail("unknown", KeyUnavailableError)
    assert await outcome_of_row(place, sealer, stored) == "malformed"
    assert sealer.provider.asked == []


@pytest.mark.parametrize("kind", ["plaintext", "unsupported"])
async def test_plaintext_and_unsupported_rows_ask_no_place(place: StoreLocation, sealer: Sealer, kind: str):
    assert await outcome_of_row(place, sealer, json.loads(sealer.of(kind))) == kind
    assert sealer.provider.asked == []


@pytest.mark.parametrize("age", [0, AGE, FUTURE])
@pytest.mark.parametrize("damaged", [False, True])
async def test_the_place_is_asked_before_the_check_and_the_time(
    place: StoreLocation, sealer: Sealer, age: int, damaged: bool
):
    def stored(key: Key) -> dict[str, Any]:
        envelope = sealer.envelope(message("x"), key, age=age)
        return altered(envelope) if damaged else envelope

    assert await outcome_of_row(place, sealer, stored(sealer.destroyed)) == "erased"
    assert await outcome_of_row(place, sealer, stored(sealer.disabled)) == "key_disabled"
    expected = "expired_unverified" if age == AGE else "unknown_key"
    assert await outcome_of_row(place, sealer, stored(sealer.unknown)) == expected


async def test_without_a_ttl_a_missing_key_is_unknown_at_any_age(place: StoreLocation, sealer: Sealer):
    stored = sealer.envelope(message("x"), sealer.unknown, age=AGE)
    assert await outcome_of_row(place, sealer, stored, ttl=None) == "unknown_key"


@pytest.mark.parametrize("age", [0, AGE, FUTURE])
async def test_the_check_comes_before_time(place: StoreLocation, sealer: Sealer, age: int):
    stored = altered(sealer.envelope(message("x"), age=age))
    assert await outcome_of_row(place, sealer, stored) == "unauthentic"


async def test_a_changed_timestamp_is_found_by_the_check(place: StoreLocation, sealer: Sealer):
    """Nobody can make an old row young again."""
    old = sealer.envelope(message("x"), age=AGE)
    token = bytearray(base64.urlsafe_b64decode(old["payload"]))
    token[1:9] = sealer.now.to_bytes(8, "big")
    assert await outcome_of_row(place, sealer, {**old, "payload": encode(bytes(token))}) == "unauthentic"


@pytest.mark.parametrize("kid", ["", "~", "active", "no tilde", "hkdf-v1", "active~0000000g", "é~00000000", "x" * 500])
async def test_a_kid_that_no_place_can_have_is_unknown_without_asking(place: StoreLocation, sealer: Sealer, kid: str):
    stored = {**sealer.envelope(message("x")), "kid": kid}
    assert await outcome_of_row(place, sealer, stored) == "unknown_key"
    assert sealer.provider.asked == []


async def test_content_that_is_no_object_is_malformed_only_while_it_is_in_time(place: StoreLocation, sealer: Sealer):
    assert await outcome_of_row(place, sealer, sealer.around(b"[1]")) == "malformed"
    assert await outcome_of_row(place, sealer, sealer.around(b"[1]", age=AGE)) == "expired"
    assert await outcome_of_row(place, sealer, sealer.around(b"")) == "malformed"


@pytest.mark.parametrize(
    ("age", "outcome"), [(TTL, "ok"), (TTL + 1, "expired"), (-60, "ok"), (-61, "not_yet_valid"), (0, "ok")]
)
async def test_the_edges_of_time_are_where_the_format_says(
    place: StoreLocation, sealer: Sealer, age: int, outcome: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(sealer.now))
    assert await outcome_of_row(place, sealer, sealer.envelope(message("x"), age=age)) == outcome


@pytest.mark.parametrize(("age", "outcome"), [(10**9, "ok"), (-60, "ok"), (-61, "not_yet_valid")])
async def test_without_a_ttl_nothing_expires_and_the_future_is_still_refused(
    place: StoreLocation, sealer: Sealer, age: int, outcome: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.session._now", lambda: float(sealer.now))
    assert await outcome_of_row(place, sealer, sealer.envelope(message("x"), age=age), ttl=None) == outcome


async def test_a_timestamp_at_the_end_of_its_range_is_an_outcome(place: StoreLocation, sealer: Sealer):
    furthest = sealer.envelope(message("x"), age=sealer.now - (2**64 - 1))
    assert await outcome_of_row(place, sealer, furthest) == "not_yet_valid"
    assert await outcome_of_row(place, sealer, sealer.envelope(message("x"), age=sealer.now)) == "expired"


class Place:
    """A place of keys that does not list its names, and takes its time for those that it does not have."""

    def __init__(self) -> None:
        self.keys = {name: Key.generate(name) for name in ("active", "older")}
        self.asked: list[str] = []
        self.slow_s = 0.0

    def active(self) -> Key:
        return self.keys["active"]

    def get(self, name: str) -> Key:
        self.asked.append(name)
        if name not in self.keys:
            time.sleep(self.slow_s)
            raise KeyNotFoundError(f"there is no key {name}")
        return self.keys[name]


async def read_after(
    days: float, keys: Place, place: StoreLocation, sealer: Sealer, stored: list[Any], *, alone: bool = False
) -> dict[str, int]:
    """What a session finds that held the older key, and read with it so many days before."""
    now = time.time()
    with contextlib.closing(KeyRing(keys, retry=RetryPolicy(attempts=1, deadline_s=0.5), clock=lambda: now)) as ring:
        async with open_store(place, SESSION) as store:
            session = EncryptedSession.wrap(store, ring, ttl=None)
            await write_rows(place, SESSION, [json.dumps(sealer.envelope(message("x"), keys.keys["older"]))])
            assert (await session.read()).outcomes == {"ok": 1}
            if alone:
                await session.clear_session()
            await write_rows(place, SESSION, [json.dumps(one) for one in stored])
            keys.asked.clear()
            keys.slow_s = 0.2
            now += days * 86_400
            found = dict((await session.read()).outcomes)
            await session.clear_session()
    return found


async def test_form_comes_before_a_key_whose_time_is_over(place: StoreLocation, sealer: Sealer):
    keys = Place()
    malformed = {"__enc__": 1, "v": 2, "kid": keys.keys["older"].kid, "p": "junk"}
    found = await read_after(1.1, keys, place, sealer, [malformed], alone=True)
    assert found == {"ok": 0, "malformed": 1}
    assert keys.asked == []


async def test_rows_that_use_up_the_time_to_ask_keep_no_held_key_from_its_rows(place: StoreLocation, sealer: Sealer):
    keys = Place()
    rows = (sealer.envelope(message("x"), Key.generate(f"junk-{number}")) for number in range(140))
    made_up = [dict(reversed(row.items())) for row in rows]  # an order that no common row has
    found = await read_after(0.05, keys, place, sealer, made_up)
    assert found.pop("ok") == 1
    assert sum(found.values()) == 140
    assert set(found) == {"key_not_asked", "unknown_key"}

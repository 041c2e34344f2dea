"""Rows of every outcome, sealed without the library, so that a test can write what it likes.

The stored bytes are spelled out here once more, from the published format: HKDF-SHA256 and Fernet of
the cryptography package, and the envelope around them. `Sealer` has a key for each answer that a
place can give, and a row for each outcome that reading can have. Times are set in the rows, not in
the clock.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from encrypted_sessions import EncryptedSession, Key, KeyDestroyedError, KeyDisabledError
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.stores import BRANCHING, StoreLocation, open_store

SESSION: Final = "user-1"
TTL: Final = 600

#: Damaged envelopes, and JSON that is none: each is "malformed" in its own way.
MALFORMED: Final = (
    "malformed: no parts",
    "malformed: a payload that is no base64",
    "malformed: a payload that is not canonical",
    "malformed: a payload too short",
    "malformed: a payload of half a block",
    "malformed: another token version",
    "malformed: a kid that is no text",
    "malformed: a version that is no number",
    "malformed: a version below one",
    "malformed: a mark that is not 1",
    "malformed: a list",
    "malformed: a text",
    "malformed: a number",
    "malformed: a sealed list",
    "malformed: sealed bytes that are no JSON",
)
#: Every outcome of a single row; "unpaired" needs a call to lose.
OUTCOMES: Final = (
    "ok",
    "expired",
    "expired_unverified",
    "erased",
    "erased, and old",
    "not_yet_valid",
    "key_disabled",
    "key_disabled, and old",
    "unknown_key",
    "unauthentic",
    "unauthentic, and old",
    "plaintext",
    "unsupported",
    *MALFORMED,
)
UNREADABLE: Final = tuple(
    name for name in OUTCOMES if re.split("[,:]", name)[0] not in ("ok", "expired", "expired_unverified", "erased")
)

AGE: Final = 10_000
"""Seconds since an old row was sealed: far more than the ttl."""


def outcome_of(kind: str) -> str:
    """The name of the outcome: "malformed: a list" is "malformed"."""
    return re.split("[,:]", kind)[0]


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Sealer:
    """Keys of every fate, and rows sealed with them."""

    def __init__(self, session_id: str = SESSION) -> None:
        self.session_id = session_id
        self.now = int(time.time())
        self.active = Key.generate("active")
        self.older = Key.generate("older")
        self.disabled = Key.generate("disabled")
        self.destroyed = Key.generate("destroyed")
        self.unknown = Key.generate("unknown")
        self.provider = ScriptedKeys(self.active, self.older, self.disabled, self.destroyed)
        self.provider.fail("disabled", KeyDisabledError)
        self.provider.fail("destroyed", KeyDestroyedError)
        self.ring = impatient_ring(self.provider)

    def envelope(self, item: object, key: Key | None = None, *, age: int = 0) -> dict[str, Any]:
        """An item sealed `age` seconds ago; a negative age is in the future."""
        return self.around(json.dumps(item).encode("utf-8"), key, age=age)

    def around(self, plaintext: bytes, key: Key | None = None, *, age: int = 0) -> dict[str, Any]:
        """An authentic envelope around any bytes."""
        key = key or self.active
        token = self._fernet(key).encrypt_at_time(plaintext, self.now - age)
        return {"__enc__": 1, "v": 1, "kid": key.kid, "payload": token.decode("ascii")}

    def _fernet(self, key: Key) -> Fernet:
        salt = self.session_id.encode("utf-8")
        derivation = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"agents.session-store.hkdf.v1")
        return Fernet(base64.urlsafe_b64encode(derivation.derive(key.secret)))

    def row(self, item: dict[str, Any], key: Key | None = None, *, age: int = 0) -> str:
        """The same as a stored row."""
        return json.dumps(self.envelope(item, key, age=age))

    def ok(self, text: str) -> str:
        return self.row(message(text))

    def expired(self, text: str = "expired") -> str:
        return self.row(message(text), age=AGE)

    def of(self, kind: str, text: str = "odd") -> str:
        """A row that ends as this kind of outcome."""
        return json.dumps(self._stored(kind, message(text)))

    def kid_of(self, kind: str) -> str | None:
        """The kid that a finding on such a row names."""
        if outcome_of(kind) in ("plaintext", "unsupported"):
            return None
        if outcome_of(kind) == "malformed":
            return self.active.kid if "sealed" in kind else None
        keys = {
            "expired_unverified": self.unknown,
            "unknown_key": self.unknown,
            "erased": self.destroyed,
            "key_disabled": self.disabled,
        }
        return keys.get(outcome_of(kind), self.active).kid

    def _stored(self, kind: str, item: dict[str, Any]) -> object:
        if kind.startswith("malformed"):
            return self._malformed(kind, item)
        if kind == "plaintext":
            return item
        if kind == "unsupported":
            return {**self.envelope(item), "v": 3}
        keys = {
            "expired_unverified": self.unknown,
            "unknown_key": self.unknown,
            "erased": self.destroyed,
            "key_disabled": self.disabled,
        }
        outcome = outcome_of(kind)
        old = kind.endswith("and old") or outcome in ("expired", "expired_unverified")
        age = AGE if old else -1000 if outcome == "not_yet_valid" else 0
        sealed = self.envelope(item, keys.get(outcome), age=age)
        return self.altered(sealed) if outcome == "unauthentic" else sealed

    def altered(self, envelope: dict[str, Any]) -> dict[str, Any]:
        """An envelope that its key does not open."""
        return altered(envelope)

    def _malformed(self, kind: str, item: dict[str, Any]) -> object:
        good = self.envelope(item)
        token = base64.urlsafe_b64decode(good["payload"])
        return {
            "malformed: no parts": {"__enc__": 1},
            "malformed: a payload that is no base64": {**good, "payload": good["payload"][:-4] + "*!*="},
            "malformed: a payload that is not canonical": {**good, "payload": good["payload"] + "\n"},
            "malformed: a payload too short": {**good, "payload": encode(token[:72])},
            "malformed: a payload of half a block": {**good, "payload": encode(token[:-8])},
            "malformed: another token version": {**good, "payload": encode(b"\x81" + token[1:])},
            "malformed: a kid that is no text": {**good, "kid": 7},
            "malformed: a version that is no number": {**good, "v": "1"},
            "malformed: a version below one": {**good, "v": 0},
            "malformed: a mark that is not 1": {**good, "__enc__": True},
            "malformed: a list": [item],
            "malformed: a text": "only words",
            "malformed: a number": 12,
            "malformed: a sealed list": self.around(b"[1,2]"),
            "malformed: sealed bytes that are no JSON": self.around(b"\xff\xfe"),
        }[kind]

    @contextlib.asynccontextmanager
    async def session(self, place: StoreLocation, **options: Any) -> AsyncIterator[EncryptedSession]:
        """An encrypted session with these keys over the store of a place."""
        options.setdefault("ttl", TTL)
        async with open_store(place, self.session_id) as store:
            yield wrapper_of(place).wrap(store, self.ring, **options)


def wrapper_of(place: StoreLocation) -> type[EncryptedSession]:
    """What encrypts the sessions of a place."""
    if place.kind != BRANCHING:
        return EncryptedSession
    from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession

    return EncryptedAdvancedSQLiteSession


def altered(envelope: dict[str, Any]) -> dict[str, Any]:
    """An envelope with one bit of its ciphertext flipped."""
    token = bytearray(base64.urlsafe_b64decode(envelope["payload"]))
    token[30] ^= 1
    return {**envelope, "payload": encode(bytes(token))}


def encode(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).decode("ascii")

"""Rows of suite 2 as tests of maintenance need them, sealed and opened without the library."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from encrypted_sessions import Key
from encrypted_sessions_tests.envelopes import timestamp_of
from encrypted_sessions_tests.sealed_rows import Sealer
from encrypted_sessions_tests.suite_2 import NEVER, open_row, seal_row


class Told(NamedTuple):
    """What a row of any suite says of itself."""

    suite: int
    kid: str
    created: int
    expires: int | None
    id: bytes | None


class RealmSealer(Sealer):
    """Keys of every fate, and rows sealed with them in suite 2, in a realm."""

    def __init__(self, session_id: str = "user-1", realm: str = "", like: Sealer | None = None) -> None:
        super().__init__(session_id)
        self.realm = realm
        if like is not None:
            self.ring.close()
            vars(self).update({name: value for name, value in vars(like).items() if name != "session_id"})

    def around(
        self, plaintext: bytes, key: Key | None = None, *, age: int = 0, lives_s: int | None = None
    ) -> dict[str, Any]:
        """An authentic envelope around any bytes."""
        key = key or self.active
        created = self.now - age
        expires = None if lives_s is None else created + lives_s
        return sealed(key, self.session_id, plaintext, created, expires, self.realm)

    def row(self, item: dict[str, Any], key: Key | None = None, *, age: int = 0, lives_s: int | None = None) -> str:
        """A stored row, which its writer let live so long."""
        return json.dumps(self.around(json.dumps(item).encode(), key, age=age, lives_s=lives_s))


def sealed(
    key: Key, session_id: str, plaintext: bytes, created: int, expires: int | None = None, realm: str = ""
) -> dict[str, Any]:
    """The stored object."""
    return seal_row(plaintext, key.kid, key.secret, session_id, created, expires, realm=realm)


def opened(key: Key, session_id: str, row: str | bytes, realm: str = "") -> Any:
    """The item of a row of suite 2, None if it does not open."""
    try:
        return open_row(row, key.secret, session_id, realm).item
    except ValueError:
        return None


def told_by(row: str | bytes) -> Told:
    """What a row of either suite says."""
    stored = json.loads(row)
    if stored["v"] == 1:
        return Told(1, stored["kid"], timestamp_of(row), None, None)
    body = base64.b64decode(stored["p"])
    expires = int.from_bytes(body[8:13], "big")
    own_id = body[72:84] if body[0] & 1 else body[60:72]
    return Told(2, stored["kid"], timestamp_of(row), None if expires == NEVER else expires, own_id)


def altered(row: str) -> str:
    """A row with one bit of its tag flipped."""
    stored = json.loads(row)
    body = bytearray(base64.b64decode(stored["p"]))
    body[-1] ^= 1
    return json.dumps({**stored, "p": base64.b64encode(bytes(body)).decode()})

"""Suite 2 once more, from its published bytes, with PyCryptodome alone: each opens what the other seals.

No cryptography of the package under test is used, and nothing of the package `cryptography`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import string
from typing import Any, NamedTuple

from Crypto.Cipher import AES

from encrypted_sessions import Key
from encrypted_sessions_tests.sealed_rows import TTL, Sealer

__all__ = ["NEVER", "Row2", "Sealer2", "aad_of", "derived", "open_row", "seal_row"]

NEVER = 2**40 - 1
STANDARD = set(string.ascii_letters + string.digits + "+/")


class Row2(NamedTuple):
    """What a row says, and what it holds."""

    flags: int
    created: int
    expires: int
    parent: bytes
    parent_expires: int
    age: int
    commitment: bytes
    nonce: bytes
    id: bytes
    gone: list[bytes]
    also: list[tuple[bytes, int]]
    header: bytes
    aad: bytes
    plaintext: bytes

    @property
    def item(self) -> Any:
        return json.loads(self.plaintext)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _lp(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def derived(secret: bytes, session_id: str, realm: str, created: int) -> tuple[bytes, bytes]:
    """Key and commitment: HKDF by its definition, of which each is the first block."""
    prk = hmac.new(b"encrypted-sessions.v2", secret, hashlib.sha256).digest()
    context = _lp(realm) + _lp(session_id) + (created >> 16).to_bytes(4, "big")

    def block(purpose: bytes) -> bytes:
        return hmac.new(prk, b"encrypted-sessions.v2." + purpose + context + b"\x01", hashlib.sha256).digest()

    return block(b"key"), block(b"commitment")


def aad_of(kid: str, header: bytes) -> bytes:
    return b"encrypted-sessions.v2.row" + bytes([len(kid.encode())]) + kid.encode() + header


def open_row(row: str | bytes | dict[str, Any], secret: bytes, session_id: str, realm: str = "") -> Row2:
    """Raises ValueError for whatever is wrong."""
    stored = row if isinstance(row, dict) else json.loads(row)
    if stored["__enc__"] != 1 or stored["v"] != 2 or set(stored) != {"__enc__", "v", "kid", "p"}:
        raise ValueError("no row of suite 2")
    if not set(stored["p"]) <= STANDARD:
        raise ValueError("not the alphabet")
    body = base64.b64decode(stored["p"], validate=True)
    flags, refs, parents = body[:3]
    own = 12 if flags & 1 else 0
    end = 72 + own + 8 * refs + 13 * parents
    if flags > 3 or len(body) < end + 16 or len(body) % 3:
        raise ValueError("malformed")
    created, nonce = _number(body[3:8]), body[60:72]
    key, commitment = derived(secret, session_id, realm, created)
    if body[28:60] != commitment:
        raise ValueError("another key")
    aad = aad_of(stored["kid"], body[:end])
    opening = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=16)
    opening.update(aad)
    plaintext = opening.decrypt_and_verify(body[end:-16], body[-16:])
    first = 72 + own
    second = first + 8 * refs
    return Row2(
        flags,
        created,
        _number(body[8:13]),
        body[13:21],
        _number(body[21:26]),
        _number(body[26:28]),
        commitment,
        nonce,
        body[72:84] if own else nonce,
        [body[at : at + 8] for at in range(first, second, 8)],
        [(body[at : at + 8], _number(body[at + 8 : at + 13])) for at in range(second, end, 13)],
        body[:end],
        aad,
        plaintext,
    )


def seal_row(
    plaintext: bytes,
    kid: str,
    secret: bytes,
    session_id: str,
    created: int,
    expires: int | None = None,
    *,
    realm: str = "",
    flags: int = 2,
    link: bytes = bytes(15),
    more: bytes = b"",
    counts: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """The stored object. `link` is parent, its expires and age; `more` what follows the nonce, with `counts` of it."""
    key, commitment = derived(secret, session_id, realm, created)
    nonce = os.urandom(12)
    times = created.to_bytes(5, "big") + (NEVER if expires is None else expires).to_bytes(5, "big")
    header = bytes([flags, *counts]) + times + link + commitment + nonce + more
    plaintext += b" " * (-(len(header) + len(plaintext) + 16) % 3)
    sealing = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=16)
    sealing.update(aad_of(kid, header))
    ciphertext, tag = sealing.encrypt_and_digest(plaintext)
    body = base64.b64encode(header + ciphertext + tag).decode("ascii")
    return {"__enc__": 1, "v": 2, "kid": kid, "p": body}


class Sealer2(Sealer):
    """The same keys and rows, sealed by suite 2; a row ends when the tests' ttl does, unless told otherwise."""

    def around(
        self,
        plaintext: bytes,
        key: Key | None = None,
        *,
        age: int = 0,
        ttl: int | None = TTL,
        realm: str = "",
    ) -> dict[str, Any]:
        key = key or self.active
        created = self.now - age
        expires = None if ttl is None else created + ttl
        return seal_row(plaintext, key.kid, key.secret, self.session_id, created, expires, realm=realm)

    def _malformed(self, kind: str, item: dict[str, Any]) -> object:
        """What is sealed and no item. What is malformed around it has tests of its own."""
        return self.around({"malformed: a sealed list": b"[1,2]"}.get(kind, b"\xff\xfe"))

    def altered(self, envelope: dict[str, Any]) -> dict[str, Any]:
        body = bytearray(base64.b64decode(envelope["p"]))
        body[-20] ^= 1
        return {**envelope, "p": base64.b64encode(body).decode("ascii")}

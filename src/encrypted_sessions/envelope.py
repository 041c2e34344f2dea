"""The stored bytes, and the only place that knows them.

Version 1 is one JSON object per item:

    {"__enc__": 1, "v": 1, "kid": "<kid>", "payload": "<Fernet token>"}

A Fernet token (Fernet specification, "Token Format") is canonical urlsafe base64 of

    0x80 | timestamp, 8 bytes big endian, seconds | IV, 16 | AES-CBC ciphertext, 16 n | HMAC, 32

The Agents SDK (0.24.0) writes and reads the same object, and ignores the value of `kid`.
"""

from __future__ import annotations

import binascii
import json
from typing import Any, Literal, NamedTuple

VERSION = 1

#: The kid that the Agents SDK's class writes, whatever the key.
UPSTREAM_KID = "hkdf-v1"

TOKEN_VERSION = 0x80
_TIMESTAMP = slice(1, 9)
#: version, timestamp, IV, one block, HMAC
_SHORTEST_TOKEN = 1 + 8 + 16 + 16 + 32
_BLOCK = 16

NotAnEnvelope = Literal["malformed", "unsupported", "plaintext"]


class Envelope(NamedTuple):
    """A well-formed envelope: nothing in it is proven yet."""

    kid: str
    token: bytes

    @property
    def timestamp(self) -> int:
        """Seconds since 1970 that the token claims. Proven only once the token's HMAC is."""
        return int.from_bytes(self.token[_TIMESTAMP], "big")


def pack(kid: str, token: bytes) -> dict[str, Any]:
    """The JSON object to store for a binary Fernet token sealed under `kid`."""
    return {"__enc__": 1, "v": VERSION, "kid": kid, "payload": encode_base64url(token)}


def parse_row(data: str | bytes) -> Envelope | NotAnEnvelope:
    """Take a row's JSON text (UTF-8) apart; what is no JSON is malformed."""
    try:
        return parse(json.loads(data if isinstance(data, str) else data.decode("utf-8")))
    except (ValueError, RecursionError):
        # ValueError covers bad UTF-8, bad JSON and integers that Python refuses to read;
        # RecursionError is a row nested deeper than any JSON that this library writes.
        return "malformed"


def parse(stored: object) -> Envelope | NotAnEnvelope:
    """Take a stored object apart, or say what it is instead of an envelope."""
    if not isinstance(stored, dict):
        return "malformed"
    if "__enc__" not in stored:
        return "plaintext"
    version = stored.get("v")
    if not _is_int(version) or not _is_int(stored["__enc__"]) or stored["__enc__"] != 1:
        return "malformed"
    if version != VERSION:
        return "unsupported" if version > VERSION else "malformed"
    kid = stored.get("kid")
    payload = stored.get("payload")
    if not isinstance(kid, str) or not isinstance(payload, str):
        return "malformed"
    token = decode_base64url(payload)
    if (
        token is None
        or len(token) < _SHORTEST_TOKEN
        or (len(token) - _SHORTEST_TOKEN) % _BLOCK
        or token[0] != TOKEN_VERSION
    ):
        return "malformed"
    return Envelope(kid, token)


def _is_int(value: object) -> bool:
    return type(value) is int  # JSON's true is an int to isinstance


def encode_base64url(data: bytes) -> str:
    """Urlsafe base64 with padding (RFC 4648, section 5)."""
    text = binascii.b2a_base64(data, newline=False)
    return text.replace(b"+", b"-").replace(b"/", b"_").decode("ascii")


def decode_base64url(text: str) -> bytes | None:
    """Canonical urlsafe base64 to bytes; None unless encoding them gives the same text again.

    binascii skips characters outside its alphabet. A text of 4 n characters, p of them padding,
    that gave 3 n - p bytes had none to skip: each byte missing costs more than one character.
    The last group is encoded again because its spare bits must be zero.
    """
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        return None
    if b"+" in raw or b"/" in raw:
        return None
    standard = raw.replace(b"-", b"+").replace(b"_", b"/")
    try:
        data = binascii.a2b_base64(standard)
    except binascii.Error:
        return None
    padding = 2 if standard.endswith(b"==") else 1 if standard.endswith(b"=") else 0
    if len(standard) % 4 or len(data) != len(standard) // 4 * 3 - padding:
        return None
    if padding and binascii.b2a_base64(data[padding - 3 :], newline=False) != standard[-4:]:
        return None
    return data

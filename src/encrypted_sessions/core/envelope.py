"""The stored bytes, and the only place that knows them.

Version 1 is one JSON object per item:

    {"__enc__": 1, "v": 1, "kid": "<kid>", "payload": "<Fernet token>"}

A Fernet token (Fernet specification, "Token Format") is canonical urlsafe base64 of

    0x80 | timestamp, 8 bytes big endian, seconds | IV, 16 | AES-CBC ciphertext, 16 n | HMAC, 32

The Agents SDK (0.24.0) writes and reads the same object, and ignores the value of `kid`.
"""

from __future__ import annotations

import binascii
from typing import Any, Literal

from .exact_json import NotJsonError, decode_json

VERSION = 1

#: The kid that the Agents SDK's class writes, whatever the key.
UPSTREAM_KID = "hkdf-v1"

TOKEN_VERSION = 0x80
_TIMESTAMP = slice(1, 9)
#: version, timestamp, IV, one block, HMAC
_SHORTEST_TOKEN = 1 + 8 + 16 + 16 + 32
_BLOCK = 16

# How `pack`'s object looks in a store's JSON, with and without spaces.
_COMMON_FORMS = (
    (b'{"__enc__": 1, "v": 1, "kid": "', b'", "payload": "'),
    (b'{"__enc__":1,"v":1,"kid":"', b'","payload":"'),
)
#: The characters of a kid that looks like one.
KID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
_KID_BYTES = KID_CHARACTERS.encode("ascii")

#: A JSON object that is no envelope: plaintext.
Plain = dict[str, Any]

NoEnvelope = Literal["malformed", "unsupported"]


class Envelope:
    """A well-formed envelope: nothing in it is proven yet."""

    __slots__ = ("kid", "token")

    def __init__(self, kid: str, token: bytes) -> None:
        self.kid = kid
        self.token = token

    @property
    def timestamp(self) -> int:
        """Seconds since 1970 that the token claims. Proven only once the token's HMAC is."""
        return int.from_bytes(self.token[_TIMESTAMP], "big")


def pack(kid: str, token: bytes) -> dict[str, Any]:
    """The JSON object to store for a binary Fernet token sealed under `kid`."""
    return {"__enc__": 1, "v": VERSION, "kid": kid, "payload": encode_base64url(token)}


def pack_row(kid: str, token: bytes) -> str:
    """The same as compact JSON text, for changing a row in place. A key's kid needs no escaping."""
    return f'{{"__enc__":1,"v":{VERSION},"kid":"{kid}","payload":"{encode_base64url(token)}"}}'


def openings(kid: str | None) -> tuple[str, ...]:
    """How the text of rows with this kid (None: any) commonly begins: a label, and proof of nothing."""
    # First the one without spaces, which `pack_row` writes.
    forms = reversed(_COMMON_FORMS)
    return tuple(opening.decode() + (f"{kid}{between.decode()}" if kid else "") for opening, between in forms)


def parse_row(data: str | bytes) -> Envelope | Plain | NoEnvelope:
    """Take a row's JSON text (UTF-8) apart; what is no JSON is malformed."""
    shortcut = _parse_common(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    if shortcut is not None:
        return shortcut
    try:
        stored = decode_json(data)
    except NotJsonError:
        return "malformed"
    return parse(stored)


def _parse_common(data: bytes) -> Envelope | None:
    """The envelope in the exact text that stores write for `pack`; None for any other text.

    Saves a third of the time of taking a row apart. It takes no liberty: with a kid of plain
    characters and a payload that is canonical base64, no byte of the text is left unexplained.
    """
    for opening, between in _COMMON_FORMS:
        if data.startswith(opening) and data.endswith(b'"}'):
            kid, found, payload = data[len(opening) : -2].partition(between)
            if found and kid and not kid.translate(None, _KID_BYTES):
                token = _decode_base64url(payload)
                if token is not None and _is_token(token):
                    return Envelope(kid.decode("ascii"), token)
    return None


def parse(stored: object) -> Envelope | Plain | NoEnvelope:
    """Take a stored object apart. Plaintext comes back as it is."""
    if not isinstance(stored, dict):
        return "malformed"
    if "__enc__" not in stored:
        return stored
    mark, version = stored["__enc__"], stored.get("v")
    # JSON's true is an int to isinstance, and equal to 1.
    if type(mark) is not int or mark != 1 or type(version) is not int:
        return "malformed"
    if version != VERSION:
        return "unsupported" if version > VERSION else "malformed"
    kid = stored.get("kid")
    payload = stored.get("payload")
    if not isinstance(kid, str) or not isinstance(payload, str):
        return "malformed"
    token = decode_base64url(payload)
    if token is None or not _is_token(token):
        return "malformed"
    return Envelope(kid, token)


def _is_token(token: bytes) -> bool:
    whole_blocks = (len(token) - _SHORTEST_TOKEN) % _BLOCK == 0
    return len(token) >= _SHORTEST_TOKEN and whole_blocks and token[0] == TOKEN_VERSION


def encode_base64url(data: bytes) -> str:
    """Urlsafe base64 with padding (RFC 4648, section 5)."""
    text = binascii.b2a_base64(data, newline=False)
    return text.replace(b"+", b"-").replace(b"/", b"_").decode("ascii")


def decode_base64url(text: str) -> bytes | None:
    """Canonical urlsafe base64 to bytes; None unless encoding them gives the same text again."""
    try:
        return _decode_base64url(text.encode("ascii"))
    except UnicodeEncodeError:
        return None


def _decode_base64url(raw: bytes) -> bytes | None:
    """The same for ASCII bytes.

    binascii skips characters outside its alphabet. A text of 4 n characters, p of them padding,
    that gave 3 n - p bytes had none to skip: each byte missing costs more than one character.
    The last group is encoded again because its spare bits must be zero.
    """
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

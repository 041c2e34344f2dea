"""Suite 1, Fernet: seal and open one item. Only here do a key and a plaintext meet.

The body of an envelope is a Fernet token (Fernet specification, "Token Format"), which is

    0x80 | timestamp, 8 bytes big endian, seconds | IV, 16 | AES-CBC ciphertext, 16 n | HMAC, 32

and stands in the stored object as canonical urlsafe base64. Primitives are those of `cryptography`;
what is here is their order: AES-128-CBC with PKCS7 padding, then HMAC-SHA256 over everything before
it. The class `cryptography.fernet.Fernet` gives the same bytes, and makes every cipher context anew.
Measured with contexts that are kept, and with fresh ones (us an item): to verify and open 1 KiB 5.9 and 12.1; to
verify, open and seal it again 12.0 and 19.3. Fresh ones would cost `get_items` much of its lead over the SDK's class.
"""

from __future__ import annotations

import binascii
import os
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hmac import HMAC

from ..accelerated import accelerator
from ..derivation import hkdf_sha256
from ..exact_json import encode_item
from .suite import End, Envelope, NotAnItem, Opener, Suite, Unauthentic

__all__ = ["SUITE", "FernetCipher", "decode_base64url", "derive_session_key", "encode_base64url"]

#: The Agents SDK (0.24.0) uses the same label: changing it would make every stored item unreadable.
LABEL = b"agents.session-store.hkdf.v1"

_TOKEN_VERSION = 0x80
_TIMESTAMP = slice(1, 9)
_BLOCK = _IV_BYTES = 16
_IV_START = 9
_HMAC_BYTES = 32
_SHORTEST_TOKEN = _IV_START + _IV_BYTES + _BLOCK + _HMAC_BYTES
_PKCS7 = padding.PKCS7(128)
_PLUS, _SLASH = b"+/"  # as integers they are found five times faster


def derive_session_key(secret: bytes, session_id: str) -> bytes:
    """The 32-byte key of one session; its id is salted in as UTF-8.

    `secret` is the master key's bytes: 32 of them from a key ring, any number above zero from a
    string key.
    """
    return hkdf_sha256(secret, salt=session_id.encode("utf-8"), info=LABEL, length=32)


class FernetEnvelope(Envelope):
    """An envelope whose body is a token. A token has no place for an end."""

    __slots__ = ()

    version = 1
    expires = None
    says_expires = False


class FernetCipher:
    """The cipher of one session under one master key."""

    __slots__ = ("_aes", "_encryptor", "_hmac")

    def __init__(self, session_key: bytes) -> None:
        """Take 32 bytes: as in Fernet, the first half signs and the second encrypts."""
        self._hmac = HMAC(session_key[:16], hashes.SHA256())
        self._aes = AES(session_key[16:])
        self._encryptor: CipherContext | None = None

    @classmethod
    def derive(cls, secret: bytes, session_id: str, kid: str = "", realm: str = "") -> FernetCipher:  # noqa: ARG003 - neither is in a token
        """The cipher of a session under a master `secret`."""
        return cls(derive_session_key(secret, session_id))

    def __repr__(self) -> str:
        return "FernetCipher()"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a FernetCipher holds keys and cannot be pickled or copied")

    def seal(
        self,
        item: object,
        timestamp: int,
        expires: int | None = None,  # noqa: ARG002 - as its envelopes say
        *,
        max_bytes: int | None = None,
        pad: bool = False,
    ) -> bytes:
        """A binary token of the item's exact JSON, stamped `timestamp`."""
        return self._seal(encode_item(item, max_bytes, pad=pad), timestamp, os.urandom(_IV_BYTES))

    def _seal(self, plaintext: bytes, timestamp: int, iv: bytes) -> bytes:
        # A fresh context for every token: several threads may seal with one cipher.
        return self._token(timestamp, iv, Cipher(self._aes, CBC(iv)).encryptor().update(_padded(plaintext)))

    def reseal(self, envelope: Envelope, plaintext: bytes, expires: End = "kept") -> bytes:  # noqa: ARG002 - likewise
        """A token of these bytes with the envelope's timestamp, by a context that is kept.

        In CBC the block before a message is its IV. Here that block is the ciphertext of a random
        one, and so is itself random: nobody can tell it in advance, and the kept context serves token
        after token.
        """
        if self._encryptor is None:
            self._encryptor = Cipher(self._aes, CBC(bytes(_IV_BYTES))).encryptor()
        return self._token(envelope.timestamp, b"", self._encryptor.update(os.urandom(_BLOCK) + _padded(plaintext)))

    def _token(self, timestamp: int, iv: bytes, ciphertext: bytes) -> bytes:
        head = b"".join((_TOKEN_VERSION.to_bytes(1, "big"), timestamp.to_bytes(8, "big"), iv))
        signature = self._hmac.copy()
        signature.update(head)
        signature.update(ciphertext)
        return b"".join((head, ciphertext, signature.finalize()))  # one copy: it can be megabytes

    def opener(self) -> FernetOpener:
        """What opens tokens one after another."""
        return FernetOpener(self._hmac, Cipher(self._aes, CBC(bytes(_IV_BYTES))).decryptor())


class FernetOpener(Opener):
    """Verifies and opens tokens with one kept decryptor.

    CBC turns a block into D(block) xor the block before. Fed a token's IV and then its ciphertext,
    a decryptor that has served other tokens gives one block that means nothing (the IV's) and then
    the plaintext: the IV was the block before. So one context serves a whole history.
    """

    __slots__ = ("_decryptor", "_hmac")

    def __init__(self, hmac: HMAC, decryptor: CipherContext) -> None:
        self._hmac = hmac
        self._decryptor = decryptor

    def __repr__(self) -> str:
        return "FernetOpener()"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a FernetOpener holds keys and cannot be pickled or copied")

    def verify(self, envelope: Envelope) -> None:
        """Raise Unauthentic unless the token's last 32 bytes are its HMAC."""
        token = envelope.body
        check = self._hmac.copy()
        check.update(memoryview(token)[:-_HMAC_BYTES])
        try:
            check.verify(token[-_HMAC_BYTES:])
        except InvalidSignature:
            raise Unauthentic from None
        envelope.verified_by = self

    def decrypt(self, envelope: Envelope) -> bytes:
        """The bytes in a verified token. Raises NotAnItem for padding that is none."""
        if envelope.verified_by is not self:
            self.verify(envelope)
        blocks = self._decryptor.update(memoryview(envelope.body)[_IV_START:-_HMAC_BYTES])
        padding = blocks[-1]  # of what was verified, so that its reader may know what is wrong with it
        if not 1 <= padding <= _BLOCK or not blocks.endswith(bytes((padding,)) * padding):
            raise NotAnItem
        return blocks[_BLOCK:-padding]


def _padded(plaintext: bytes) -> bytes:
    padder = _PKCS7.padder()
    return padder.update(plaintext) + padder.finalize()


def _parse(kid: str, payload: bytes) -> FernetEnvelope | None:
    token = decode_base64url(payload)
    if token is None or len(token) < _SHORTEST_TOKEN:
        return None
    if (len(token) - _SHORTEST_TOKEN) % _BLOCK or token[0] != _TOKEN_VERSION:
        return None
    return FernetEnvelope(kid, token, int.from_bytes(token[_TIMESTAMP], "big"))


def encode_base64url(data: bytes) -> str:
    """Urlsafe base64 with padding (RFC 4648, section 5)."""
    text = binascii.b2a_base64(data, newline=False).replace(b"+", b"-")
    return text.replace(b"/", b"_").decode("ascii")


def decode_base64url(quoted: bytes) -> bytes | None:
    """Canonical urlsafe base64 in quotation marks to bytes; None unless encoding them gives the same text again.

    binascii skips characters outside its alphabet, and to its faster stand-in a text may have escapes of JSON. A
    text of 4 n characters, p of them padding, that gave 3 n - p bytes had neither: each byte missing costs more
    than one character. The last group is encoded again because its spare bits must be zero.
    """
    if _PLUS in quoted or _SLASH in quoted or len(quoted) % 4 != 2:
        return None
    padding = 2 if quoted.endswith(b'=="') else 1 if quoted.endswith(b'="') else 0
    fast = accelerator()
    try:
        if fast is None:
            data = binascii.a2b_base64(quoted.replace(b"-", b"+").replace(b"_", b"/"))
        else:
            data = fast.decode_base64(quoted)  # which refuses spare bits that are not zero
    except ValueError:
        return None
    if len(data) != len(quoted) // 4 * 3 - padding:
        return None
    if fast is None and padding and encode_base64url(data[padding - 3 :]).encode("ascii") != quoted[-5:-1]:
        return None
    return data


SUITE = Suite(
    version=FernetEnvelope.version,
    label=LABEL,
    member="payload",
    parse=_parse,
    encode=encode_base64url,
    derive=FernetCipher.derive,
)

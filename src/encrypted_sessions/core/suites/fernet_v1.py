"""Seal and open one item: the only place where a key and a plaintext meet.

Pure and synchronous: time and randomness come in as arguments of the private functions, so that
the Fernet specification's vectors replay exactly. Primitives are those of `cryptography`; what is
here is their order, which is Fernet's: AES-128-CBC with PKCS7 padding, then HMAC-SHA256 over
everything before it. The class `cryptography.fernet.Fernet` gives the same bytes; it builds every
cipher context anew for each token, which costs half of the time of reading a history.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hmac import HMAC

from ..derivation import derive_session_key
from ..envelope import TOKEN_VERSION, Envelope
from ..exact_json import NotJsonError, decode_item, encode_item

_IV_BYTES = 16
_HMAC_BYTES = 32
_IV_START = 9  # after the version byte and the timestamp
_PKCS7 = padding.PKCS7(128)


class Unauthentic(Exception):  # noqa: N818 - an answer that the reader turns into an outcome
    """The token's HMAC does not fit: it was altered, or sealed with another key."""


class NotAnItem(Exception):  # noqa: N818 - an answer that the reader turns into an outcome
    """The token is authentic, and what it holds is no JSON object."""


class SessionCipher:
    """The cipher of one session under one master key. Holds keys: never printed, never pickled."""

    __slots__ = ("_aes", "_hmac")

    def __init__(self, session_key: bytes) -> None:
        """Take 32 bytes: as in Fernet, the first half signs and the second encrypts."""
        self._hmac = HMAC(session_key[:16], hashes.SHA256())
        self._aes = AES(session_key[16:])

    @classmethod
    def derive(cls, secret: bytes, session_id: str) -> SessionCipher:
        """The cipher of a session under a master `secret`."""
        return cls(derive_session_key(secret, session_id))

    def __repr__(self) -> str:
        return "SessionCipher()"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a SessionCipher holds keys and cannot be pickled or copied")

    def seal(self, item: object, timestamp: int) -> bytes:
        """A binary Fernet token of the item's exact JSON, stamped `timestamp` (seconds).

        Raises TypeError for an item that JSON cannot give back as it is.
        """
        return self._seal(encode_item(item), timestamp, os.urandom(_IV_BYTES))

    def _seal(self, plaintext: bytes, timestamp: int, iv: bytes) -> bytes:
        # A fresh context for every token: several threads may seal with one cipher.
        encryptor = Cipher(self._aes, CBC(iv)).encryptor()
        return _token(self._hmac, timestamp, iv, encryptor.update(_padded(plaintext)))

    def opener(self) -> Opener:
        """What opens tokens one after another. Not for several threads at once."""
        return Opener(self._hmac, Cipher(self._aes, CBC(bytes(_IV_BYTES))).decryptor())

    def resealer(self) -> Resealer:
        """What seals one after another what other ciphers sealed. Not for several threads at once."""
        return Resealer(self._hmac, Cipher(self._aes, CBC(bytes(_IV_BYTES))).encryptor())


class Opener:
    """Checks and opens tokens with one kept decryptor.

    CBC turns a block into D(block) xor the block before. Fed a token's IV and then its ciphertext,
    a decryptor that has served other tokens gives one block that means nothing (the IV's) and then
    the plaintext: the IV was the block before. So one context serves a whole history.
    """

    __slots__ = ("_decryptor", "_hmac")

    def __init__(self, hmac: HMAC, decryptor: CipherContext) -> None:
        self._hmac = hmac
        self._decryptor = decryptor

    def __repr__(self) -> str:
        return "Opener()"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an Opener holds keys and cannot be pickled or copied")

    def verify(self, token: bytes) -> None:
        """Raise Unauthentic unless the token's last 32 bytes are its HMAC."""
        check = self._hmac.copy()
        check.update(memoryview(token)[:-_HMAC_BYTES])
        try:
            check.verify(token[-_HMAC_BYTES:])
        except InvalidSignature:
            raise Unauthentic from None

    def open(self, token: bytes) -> dict[str, Any]:
        """The item in a token that `verify` accepted, whose form `envelope.parse` accepted.

        Raises NotAnItem when the content is no JSON object.
        """
        try:
            return decode_item(self._decrypt(token))
        except NotJsonError:
            raise NotAnItem from None

    def _decrypt(self, token: bytes) -> bytes:
        blocks = self._decryptor.update(memoryview(token)[_IV_START:-_HMAC_BYTES])
        unpadder = _PKCS7.unpadder()
        try:
            return unpadder.update(memoryview(blocks)[_IV_BYTES:]) + unpadder.finalize()
        except ValueError:
            raise NotAnItem from None


class Resealer:
    """Seals what an Opener opens, with one kept encryptor.

    CBC turns a block into E(block xor the ciphertext before). With the IV and that ciphertext both
    xored into a token's first block, an encryptor that has served other tokens gives what a fresh one
    gives with that IV.
    """

    __slots__ = ("_before", "_encryptor", "_hmac")

    def __init__(self, hmac: HMAC, encryptor: CipherContext) -> None:
        self._hmac = hmac
        self._encryptor = encryptor
        self._before = 0

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Resealer holds keys and cannot be pickled or copied")

    def reseal(self, envelope: Envelope, opener: Opener) -> bytes:
        """A token of the very bytes in another whose check `opener` has made, with the same timestamp.

        Raises NotAnItem when the content is no JSON object.
        """
        plaintext = opener._decrypt(envelope.token)  # noqa: SLF001 - the two are one thing
        try:
            decode_item(plaintext)
        except NotJsonError:
            raise NotAnItem from None
        return self._seal(plaintext, envelope.timestamp, os.urandom(_IV_BYTES))

    def _seal(self, plaintext: bytes, timestamp: int, iv: bytes) -> bytes:
        padded = _padded(plaintext)
        first = int.from_bytes(padded[:_IV_BYTES], "big") ^ int.from_bytes(iv, "big") ^ self._before
        ciphertext = self._encryptor.update(first.to_bytes(_IV_BYTES, "big") + padded[_IV_BYTES:])
        self._before = int.from_bytes(ciphertext[-_IV_BYTES:], "big")
        return _token(self._hmac, timestamp, iv, ciphertext)


def _padded(plaintext: bytes) -> bytes:
    padder = _PKCS7.padder()
    return padder.update(plaintext) + padder.finalize()


def _token(hmac: HMAC, timestamp: int, iv: bytes, ciphertext: bytes) -> bytes:
    signed = b"".join((TOKEN_VERSION.to_bytes(1, "big"), timestamp.to_bytes(8, "big"), iv, ciphertext))
    signature = hmac.copy()
    signature.update(signed)
    return signed + signature.finalize()

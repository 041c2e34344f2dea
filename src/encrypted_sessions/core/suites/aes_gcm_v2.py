"""Suite 2, AES-256-GCM: all that a row says is authenticated, and it names its key by a commitment to it.

The body of an envelope is in the one spelling that standard base64 has for 3 n bytes. Integers are big endian, times
whole seconds since 1970:

     0   1  flags: 1 an id of its own follows, 2 the row says nothing of what lay before it
     1   1  g, how many refs of removed rows follow
     2   1  m, how many more parents follow
     3   5  created
     8   5  expires; 2^40 - 1: never
    13   8  parent: the first bytes of a row's id; zeros: none
    21   5  the parent's expires; zeros with no parent
    26   2  age of the writer's view of the newest row, in seconds
    28  32  commitment
    60  12  nonce: random, new at every sealing
    72  12  the row's own id, only with flag 1; else the nonce is its id
        8 g, 13 m, then ciphertext and 16 bytes of tag

Fields for links between rows are authenticated, kept when a row is sealed again, and otherwise left alone: a later
release writes them. With L(x) = length of x in 4 bytes | x, keys come from HKDF-SHA256 (RFC 5869):

    PRK        = Extract(salt "encrypted-sessions.v2", secret)
    context    = L(realm) | L(session id) | created / 65,536 in 4 bytes
    key        = Expand(PRK, "encrypted-sessions.v2.key" | context, 32)
    commitment = Expand(PRK, "encrypted-sessions.v2.commitment" | context, 32)

So a key seals what one session writes in 65,536 s, and nobody has to count random nonces. GCM commits to no key: there
are ciphertexts that two keys accept. Of the commitment, two keys would have to share all 32 bytes.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ..accelerated import accelerator
from ..exact_json import decode_item, encode_item
from .suite import End, Envelope, NotAnItem, Opener, Reader, Suite, Unauthentic

__all__ = ["SUITE", "AesGcmCipher", "AesGcmEnvelope", "decode_base64", "encode_base64"]

LABEL = b"encrypted-sessions.v2"

_OWN_ID, _UNLINKED = 1, 2
_KNOWN_FLAGS = _OWN_ID | _UNLINKED
_TIME_BYTES = 5
_NEVER = 2 ** (8 * _TIME_BYTES) - 1
#: Flags, both counts and created; then expires, and three bytes of what follows.
_COUNTS_AND_TIMES = Struct(">QQ").unpack_from
_COUNTS_END = 3
_NO_MORE = _UNLINKED << 16
_TIMES_END = 13
_COMMITMENT_START = 28
_NONCE_START = 60
_FIXED_END = 72
_COMMITMENT = slice(_COMMITMENT_START, _NONCE_START)
_NONCE = slice(_NONCE_START, _FIXED_END)
_ID_BYTES = _NONCE_BYTES = 12
_REF_BYTES, _PARENT_BYTES = 8, 13
_TAG_BYTES, _KEY_BYTES = 16, 32
_SHORTEST = _FIXED_END + _TAG_BYTES
_NO_LINK = bytes(_COMMITMENT_START - _TIMES_END)

_MINUS, _UNDERSCORE = b"-_"  # as integers they are found five times faster

_SPARE = b"", b"  ", b" "  # what makes a length a multiple of 3, by what is left over

#: A key serves so many of the bits of `created`: 65,536 s.
_EPOCH_BITS = 16

#: Keys of so many epochs are kept for a session.
_KEPT_EPOCHS = 256


class AesGcmEnvelope(Envelope):
    """An envelope whose body is a header, from which it has its times, and a ciphertext from `text_start` on."""

    __slots__ = ("expires", "text_start")

    version = 2
    says_expires = True

    def __init__(self, kid: str, body: bytes, created: int, expires: int, text_start: int) -> None:
        self.kid = kid  # and what else the parent sets: a call would take a tenth of reading a small row apart
        self.body = body
        self.timestamp = created
        self.verified_by = None
        self.expires = None if expires == _NEVER else expires
        self.text_start = text_start


class _EpochKeys:
    """What one session's keys and commitments are made from."""

    __slots__ = ("_context", "_prk")

    def __init__(self, secret: bytes, session_id: str, realm: str) -> None:
        extracting = HMAC(LABEL, SHA256())  # which is all that Extract is (RFC 5869, section 2.2)
        extracting.update(secret)
        self._prk = extracting.finalize()
        self._context = _with_length(realm) + _with_length(session_id)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("what keys are made from cannot be pickled or copied")

    def made(self, epoch: int) -> tuple[bytes, AESGCM]:
        """The commitment to an epoch's key, which rows show, and the key."""
        return self._expand(b".commitment", epoch), AESGCM(self._expand(b".key", epoch))

    def key(self, epoch: int, commitment: bytes) -> AESGCM:
        """The key to which that is the commitment. Raises Unauthentic if it is none to this epoch's."""
        # Anybody may know commitments: their comparison need not take constant time.
        if commitment != self._expand(b".commitment", epoch):
            raise Unauthentic
        return AESGCM(self._expand(b".key", epoch))

    def _expand(self, purpose: bytes, epoch: int) -> bytes:
        info = LABEL + purpose + self._context + epoch.to_bytes(4, "big")
        return HKDFExpand(SHA256(), _KEY_BYTES, info).derive(self._prk)


class AesGcmCipher:
    """The cipher of one session under one master key."""

    __slots__ = ("_key", "_keys", "_kid", "_newest")

    def __init__(self, secret: bytes, session_id: str, kid: str, realm: str = "") -> None:
        """Raises UnicodeEncodeError for what UTF-8 cannot hold."""
        self._kid = kid
        self._keys = _EpochKeys(secret, session_id, realm)
        # What raises is not kept: so times that somebody made up put no key out.
        self._key = lru_cache(_KEPT_EPOCHS)(self._keys.key)
        self._newest: tuple[int, bytes, AESGCM, bytes] | None = None

    def __repr__(self) -> str:
        return "AesGcmCipher()"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an AesGcmCipher holds keys and cannot be pickled or copied")

    def seal(
        self,
        item: object,
        timestamp: int,
        expires: int | None = None,
        *,
        max_bytes: int | None = None,
        pad: bool = False,
    ) -> bytes:
        """The body for an item's exact JSON, created at `timestamp`."""
        return self._seal(encode_item(item, max_bytes, pad=pad), timestamp, _fresh(timestamp, expires), b"")

    def reseal(self, envelope: Envelope, plaintext: bytes, expires: End = "kept") -> bytes:
        """A body of these bytes. What comes from this suite keeps its id and all else that it says of itself.

        The nonce is new: two texts under one key and nonce would give away what GCM authenticates with.
        """
        created = envelope.timestamp
        if isinstance(envelope, AesGcmEnvelope):
            former = envelope.body
            own_id = b"" if former[0] & _OWN_ID else former[_NONCE]
            start = bytes((former[0] | _OWN_ID,)) + former[1:_COMMITMENT_START]
            return self._seal(plaintext, created, start, own_id + former[_FIXED_END : envelope.text_start])
        if expires == "kept":
            raise ValueError("the end has to be told for what comes from a suite that says none")
        if created > _NEVER:
            raise NotAnItem
        return self._seal(plaintext, created, _fresh(created, expires), b"")

    def _seal(self, plaintext: bytes, created: int, start: bytes, more: bytes) -> bytes:
        """`start` is the header before the commitment, and `more` after the nonce."""
        epoch = created >> _EPOCH_BITS
        newest = self._newest
        if newest is None or newest[0] != epoch:
            newest = self._newest = epoch, *self._keys.made(epoch), _authenticated_kid(self._kid)
        nonce = os.urandom(_NONCE_BYTES)
        header = start + newest[1] + nonce + more
        plaintext += _SPARE[(len(header) + len(plaintext) + _TAG_BYTES) % 3]
        return header + newest[2].encrypt(nonce, plaintext, newest[3] + header)

    def opener(self) -> AesGcmOpener:
        """What opens bodies one after another."""
        return AesGcmOpener(self._key)


class AesGcmOpener(Opener):
    """Opens bodies with the keys of their epochs. Only GCM opens anything, and so verifies it each time."""

    __slots__ = ("_key",)

    def __init__(self, key: Callable[[int, bytes], AESGCM]) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "AesGcmOpener()"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("an AesGcmOpener holds keys and cannot be pickled or copied")

    def verify(self, envelope: Envelope) -> None:
        """Raise Unauthentic unless commitment and tag fit."""
        self.decrypt(envelope)

    def decrypt(self, envelope: Envelope) -> bytes:
        """The bytes that were sealed under the kid that the envelope names. The commitment is compared first."""
        if type(envelope) is not AesGcmEnvelope:
            raise Unauthentic
        body, start = envelope.body, envelope.text_start
        try:
            key = self._key(envelope.timestamp >> _EPOCH_BITS, body[_COMMITMENT])
            plaintext = key.decrypt(body[_NONCE], body[start:], _authenticated_kid(envelope.kid) + body[:start])
        except (InvalidTag, ValueError, OverflowError):  # or the kid, or the text, is longer than any that is sealed
            raise Unauthentic from None
        envelope.verified_by = self
        return plaintext

    def reader(self, kid: str, is_in_time: Callable[[Envelope], bool]) -> Reader:
        """The same, and looks once at what rows that were sealed together have in common: all before the nonce.

        The whole header of each is authenticated.
        """
        start, text_start = b"", 0
        key: AESGCM | None = None
        name = _authenticated_kid(kid)
        fast = accelerator()
        decode, parsed = (binascii.a2b_base64, decode_item) if fast is None else (fast.decode_base64, fast.from_json)

        def read(quoted: bytes) -> dict[str, Any] | None:
            nonlocal start, text_start, key
            try:
                body = decode(quoted)
                if _MINUS in quoted or _UNDERSCORE in quoted or len(body) * 4 != (len(quoted) - 2) * 3:
                    return None  # as `decode_base64`
                if key is None or not body.startswith(start):
                    envelope = _envelope(kid, body)
                    if envelope is None or not is_in_time(envelope):
                        return None
                    fitting = self._key(envelope.timestamp >> _EPOCH_BITS, body[_COMMITMENT])
                    key, start, text_start = fitting, body[:_NONCE_START], envelope.text_start  # only what fits
                item = parsed(key.decrypt(body[_NONCE], body[text_start:], name + body[:text_start]))
                return item if type(item) is dict else None
            except (Unauthentic, InvalidTag, ValueError, OverflowError):
                return None

        return read


@lru_cache(64)  # a batch has the same times
def _fresh(created: int, expires: int | None) -> bytes:
    """The header before the commitment, of a row that says nothing of any other."""
    end = _NEVER if expires is None else min(expires, _NEVER)
    times = (time.to_bytes(_TIME_BYTES, "big") for time in (created, end))
    return b"".join((bytes((_UNLINKED, 0, 0)), *times, _NO_LINK))


@lru_cache(128)  # a history names few
def _authenticated_kid(kid: str) -> bytes:
    """What is authenticated besides the header. Raises ValueError for a kid that it does not hold."""
    name = kid.encode("utf-8")
    return LABEL + b".row" + bytes((len(name),)) + name


def _with_length(text: str) -> bytes:
    data = text.encode("utf-8")
    return len(data).to_bytes(4, "big") + data


def _parse(kid: str, payload: bytes) -> AesGcmEnvelope | None:
    body = decode_base64(payload)
    return None if body is None else _envelope(kid, body)


def _envelope(kid: str, body: bytes) -> AesGcmEnvelope | None:
    if len(body) < _SHORTEST:
        return None
    counts_and_created, expires_and_more = _COUNTS_AND_TIMES(body)
    text_start = _FIXED_END
    if counts_and_created >> 40 != _NO_MORE:  # in the header than what each has
        flags, refs, parents = body[:_COUNTS_END]
        if flags > _KNOWN_FLAGS:
            return None
        text_start += (flags & _OWN_ID) * _ID_BYTES + refs * _REF_BYTES + parents * _PARENT_BYTES
        if len(body) < text_start + _TAG_BYTES:
            return None
    return AesGcmEnvelope(kid, body, counts_and_created & _NEVER, expires_and_more >> 24, text_start)


def encode_base64(data: bytes) -> str:
    """Standard base64 (RFC 4648, section 4); 3 n bytes need no padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(quoted: bytes) -> bytes | None:
    """Bytes from standard base64 in quotation marks, without padding; None unless they give the same text again.

    binascii skips characters outside its alphabet, and to its faster stand-in a text may have escapes of JSON, and be
    of the other alphabet. Of 4 n characters that gave 3 n bytes none was skipped, an escape or padding, and no bits
    are spare.
    """
    fast = accelerator()
    try:
        data = binascii.a2b_base64(quoted) if fast is None else fast.decode_base64(quoted)
    except ValueError:
        return None
    if _MINUS in quoted or _UNDERSCORE in quoted or len(data) * 4 != (len(quoted) - 2) * 3:
        return None
    return data


SUITE = Suite(
    version=AesGcmEnvelope.version,
    label=LABEL,
    member="p",
    parse=_parse,
    encode=encode_base64,
    derive=AesGcmCipher,
)

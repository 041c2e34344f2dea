"""A key, its public id, and the text it is written as."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ._support.redaction import redact_frames
from .errors import InvalidKeyError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["SECRET_BYTES", "Key", "decode_key_text", "is_key_name", "parse_kid", "try_key_text"]

SECRET_BYTES = 32

_FINGERPRINT_INFO = b"encrypted-sessions.kid.v1"
_FINGERPRINT_DIGITS = 8

_LONGEST_NAME = 119

# Sets, for a regular expression costs as much to build as the rest of this module.
_ALPHANUMERIC = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NAME = _ALPHANUMERIC | frozenset("._-")
_HEX = frozenset("0123456789abcdef")
_STANDARD = _ALPHANUMERIC | frozenset("+/")
_URLSAFE = _ALPHANUMERIC | frozenset("-_")

_WHITE_SPACE = " \t\r\n\v\f"
_TEXT_LENGTH = 43  # of 32 bytes in base64, without the one padding sign
_UNMIX = str.maketrans("-_", "+/")


class Key:
    """A secret of 32 bytes, with the name that its place of keys gave it.

    A key cannot be changed or pickled. Its repr shows its public id, but no byte of the secret. Two keys are equal
    when they have the same name and the same secret; the secrets are compared in constant time.

    Args:
        name: Its name in its place of keys, 1 to 119 characters of `A-Z a-z 0-9 . _ -`, or None.
        secret: Exactly 32 bytes.
        created_at: When it was made, an aware datetime in UTC; None if the place of keys does not say.
        written_until: The last moment at which a writer that follows the rules of the place of keys may have used it,
            an aware datetime in UTC; None if no other key follows it, or if the place does not say.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The name or a time is wrong.
        InvalidKeyError: The secret has a wrong length (also a ValueError).
    """

    __slots__ = ("__weakref__", "_created_at", "_kid", "_name", "_secret", "_written_until")

    _name: str | None
    _secret: bytes
    _created_at: datetime | None
    _written_until: datetime | None
    _kid: str | None

    @redact_frames
    def __init__(
        self,
        name: str | None,
        secret: bytes,
        created_at: datetime | None = None,
        *,
        written_until: datetime | None = None,
    ) -> None:
        keep = super().__setattr__
        keep("_name", _checked_name(name))
        keep("_secret", _checked_secret(secret))
        keep("_created_at", _checked_time(created_at, "created_at"))
        keep("_written_until", _checked_time(written_until, "written_until"))
        keep("_kid", None)

    @classmethod
    @redact_frames
    def generate(cls, name: str | None = None) -> Key:
        """A new key of 32 bytes from the operating system's source of randomness.

        Args:
            name: Its name, as for `Key`, or None.

        Returns:
            The key.

        Raises:
            TypeError: The name is not a str.
            ValueError: No key can have that name.
        """
        return cls(name, os.urandom(SECRET_BYTES))

    @property
    def name(self) -> str | None:
        """The name of this key in its place of keys, or None."""
        return self._name

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes."""
        return self._secret

    @property
    def created_at(self) -> datetime | None:
        """When the key was made, in UTC, as its place of keys says, or None."""
        return self._created_at

    @property
    def written_until(self) -> datetime | None:
        """The last moment at which a writer that follows the rules may have used this key, in UTC, or None."""
        return self._written_until

    @property
    def fingerprint(self) -> str:
        """The public fingerprint of the secret: 8 hex digits.

        They are the first ones of HKDF-SHA256 (RFC 5869) over the secret, with an empty salt, the
        info `encrypted-sessions.kid.v1` and a length of 32 bytes.
        """
        return self.kid[-_FINGERPRINT_DIGITS:]

    @property
    def kid(self) -> str:
        """The public id, `name~fingerprint`, or `~fingerprint` for a key without a name."""
        found = self._kid
        if found is None:
            found = f"{self._name or ''}~{_fingerprint(self._secret)}"
            super().__setattr__("_kid", found)
        return found

    def reveal_base64(self) -> str:
        """The secret in the clear, as 44 characters of urlsafe base64 with padding.

        `decode_key_text`, and every place of keys that takes text, reads this text. Whoever sees it has the key.
        """
        return base64.urlsafe_b64encode(self._secret).decode("ascii")

    def __repr__(self) -> str:
        return f"<Key {self.kid}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        from hmac import compare_digest  # noqa: PLC0415 - loads all of hashlib, and keys are seldom compared

        return compare_digest(self._secret, other._secret) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self.kid)

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Key:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"the key {self.kid} cannot be pickled: the pickle would contain its secret;"
            " pass the provider's URL, and let the other process fetch the key"
        )

    @redact_frames
    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Key cannot be changed, so {name!r} cannot be set; make a new Key")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Key cannot be changed, so {name!r} cannot be deleted")


def parse_kid(kid: str) -> tuple[str | None, str] | None:
    """Split a kid into its name and its fingerprint. For authors of providers.

    Args:
        kid: The public id of a key, as it stands in stored rows.

    Returns:
        The name (None for a key without one) and the fingerprint; None if it is not a kid.

    Raises:
        TypeError: The kid is not a str.
    """
    if not isinstance(kid, str):
        raise TypeError(f"kid must be a str, not {type(kid).__name__}")
    name, tilde, fingerprint = kid.partition("~")
    if not tilde or len(fingerprint) != _FINGERPRINT_DIGITS or not _HEX.issuperset(fingerprint):
        return None
    if name and not is_key_name(name):
        return None
    return name or None, fingerprint


def is_key_name(name: str) -> bool:
    """Whether a key can have this name at all."""
    return 1 <= len(name) <= _LONGEST_NAME and _NAME.issuperset(name)


@redact_frames
def decode_key_text(text: str) -> bytes:
    """The 32 bytes of a key that is written as base64. For authors of providers.

    Standard and urlsafe base64 (RFC 4648, sections 4 and 5) are read, but not a mixture. Padding is optional, and
    white space around the text is stripped. Anything else is refused, even unused bits that are not zero.

    Args:
        text: The key as base64.

    Returns:
        The 32 bytes.

    Raises:
        TypeError: The text is not a str.
        InvalidKeyError: The text is not a key. No part of it is shown.
    """
    if not isinstance(text, str):
        raise TypeError(f"key text must be a str, not {type(text).__name__}")
    secret, problem = try_key_text(text)
    if secret is None:
        raise InvalidKeyError(
            f"key text is not a key: {problem}; expected 32 bytes as standard or urlsafe base64,"
            " such as `encrypted-sessions keygen` prints"
        )
    return secret


def try_key_text(text: str) -> tuple[bytes | None, str]:
    """The secret, or None and what is wrong with the text, in words without a part of it.

    It answers instead of raising, so that no error of the standard library, whose frames hold the
    text, becomes the context of ours.
    """
    body = text.strip(_WHITE_SPACE)
    if not body:
        return None, "it is empty"
    if body.endswith("="):
        body = body[:-1]
        if len(body) % 4 != 3:
            return None, f"its padding does not fit its length of {len(body) + 1} characters"
    if not _STANDARD.issuperset(body) and not _URLSAFE.issuperset(body):
        mixed = _STANDARD.issuperset(body.translate(_UNMIX))
        return None, (
            "it mixes the standard and the urlsafe alphabet"
            if mixed
            else "it has a character that is not in the base64 alphabet"
        )
    if len(body) != _TEXT_LENGTH:
        size = len(body) * 3 // 4
        return None, (
            f"its length of {len(body)} characters is not possible in base64"
            if len(body) % 4 == 1
            else f"it holds {size} bytes, but a key has {SECRET_BYTES}"
        )
    whole = body.translate(_UNMIX) + "="
    # Nothing is left that this refuses: the alphabet and the length are known.
    secret = binascii.a2b_base64(whole)
    if binascii.b2a_base64(secret, newline=False) != whole.encode("ascii"):
        return None, "its last character has bits that do not belong to any byte"
    return secret, ""


def _fingerprint(secret: bytes) -> str:
    derived = HKDF(algorithm=SHA256(), length=32, salt=b"", info=_FINGERPRINT_INFO).derive(secret)
    return derived.hex()[:_FINGERPRINT_DIGITS]


def _checked_name(name: str | None) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a key's name must be a str or None, not {type(name).__name__}")
    if not is_key_name(name):
        # The name is not shown: who mixes up the arguments passes the secret here.
        raise ValueError(
            f"a key's name must be 1 to 119 characters of A-Z a-z 0-9 . _ -, or None; "
            f"{len(name)} characters were given, or characters that are not allowed"
        )
    return name


def _checked_secret(secret: bytes) -> bytes:
    if not isinstance(secret, bytes):
        raise TypeError(
            f"a key's secret must be bytes, not {type(secret).__name__}"
            + ("; decode_key_text() reads base64" if isinstance(secret, str) else "")
        )
    if len(secret) != SECRET_BYTES:
        raise InvalidKeyError(f"a key's secret must be {SECRET_BYTES} bytes; {len(secret)} were given")
    return secret


def _checked_time(time: datetime | None, argument: str) -> datetime | None:
    if time is None:
        return None
    from datetime import datetime, timedelta  # noqa: PLC0415 - whoever has a time has loaded it already

    if not isinstance(time, datetime):
        raise TypeError(f"a key's {argument} must be a datetime or None, not {type(time).__name__}")
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"a key's {argument} must be aware and in UTC (datetime.now(timezone.utc))")
    return time

"""Keys given in code."""

from __future__ import annotations

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError
from ..key import Key, try_key_text
from .key_list import KeyList

__all__ = ["StaticKeyProvider"]


class StaticKeyProvider:
    """Keys given in code: `StaticKeyProvider(key, *older)`.

    Each is a `Key`, or base64 text of 32 bytes, which becomes a key without a name.

    Args:
        key: The active key.
        older: Further keys, for reading.

    Raises:
        TypeError: A key is neither a `Key` nor a str.
        InvalidKeyError: A text is not a key, or a name or a secret is given twice.
    """

    place = "the keys given in code"

    @redact_frames
    def __init__(self, key: Key | str, *older: Key | str) -> None:
        given = (key, *older)
        self._keys = KeyList(
            [_as_key(one, f"key {at} of {len(given)}") for at, one in enumerate(given, 1)],
            self.place,
        )

    def active(self) -> Key:
        """The first key."""
        return self._keys.active

    def get(self, name: str) -> Key:
        """The key of that name or fingerprint; else KeyNotFoundError."""
        return self._keys.find(name)

    def names(self) -> dict[str, str | None]:
        """Everything that `get` would find now: every name and fingerprint, with the fingerprint of its key."""
        return self._keys.names

    def __repr__(self) -> str:
        return f"<StaticKeyProvider {self._keys.kids}>"


def _as_key(given: Key | str, which: str) -> Key:
    if isinstance(given, Key):
        return given
    if not isinstance(given, str):
        raise TypeError(f"{which} must be a Key or base64 text, not {type(given).__name__}")
    secret, problem = try_key_text(given)
    if secret is None:
        raise InvalidKeyError(f"{which} is not a key: {problem}")
    return Key(None, secret)

"""Keys in an environment variable."""

from __future__ import annotations

import os

from .._support.redaction import redact_frames
from ..errors import ProviderConfigError
from ..key import Key
from .key_list import KeyList, looks_like_key, read_entries, split_entries

__all__ = ["EnvKeyProvider"]


class EnvKeyProvider:
    """Keys in an environment variable, read at each call: `EnvKeyProvider("SESSION_KEYS")`.

    The variable holds one key, or several separated by commas or new lines, the active one first. An entry that is
    base64 of 32 bytes is a key without a name; any other entry is split at its first `=` into `name=key`.

    As a URL: `env:SESSION_KEYS`. A call raises ProviderConfigError if the variable is not set, and InvalidKeyError if
    its content is not a list of keys.

    Args:
        variable: The name of the variable.

    Raises:
        TypeError: The name is not a str.
        ProviderConfigError: It is not the name of a variable.
    """

    @redact_frames
    def __init__(self, variable: str) -> None:
        if not isinstance(variable, str):
            raise TypeError(f"variable must be a str, not {type(variable).__name__}")
        if looks_like_key(variable):
            raise ProviderConfigError(
                "a key was given instead of the name of an environment variable; "
                "put the key into a variable, and give that variable's name, as in env:SESSION_KEYS"
            )
        if not (variable.isascii() and variable.isidentifier()):
            # Not shown: a mistyped key is no name of a variable either.
            raise ProviderConfigError(
                f"the name of an environment variable has letters, digits and _, and does "
                f"not begin with a digit; what was given ({len(variable)} characters) is "
                f"not such a name; write it as in env:SESSION_KEYS"
            )
        self._variable = variable
        self.place = f"env:{variable}"

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> EnvKeyProvider:  # noqa: ARG003 - all have it
        """The provider of `env:VARIABLE`. Nothing here is insecure, so the flag has no effect."""
        return cls(url.partition(":")[2])

    def active(self) -> Key:
        """The first key of the variable, as it is now."""
        return self._read().active

    def get(self, name: str) -> Key:
        """The key of that name or fingerprint in the variable, as it is now."""
        return self._read().find(name)

    def names(self) -> dict[str, str | None]:
        """Everything that `get` would find now: every name and fingerprint, with the fingerprint of its key."""
        return self._read().names

    @redact_frames
    def _read(self) -> KeyList:
        text = os.environ.get(self._variable)
        if text is None:
            raise ProviderConfigError(
                f"the environment variable {self._variable} is not set; set it to a key, such as "
                f"`encrypted-sessions keygen` prints"
            )
        return KeyList(read_entries(split_entries(text, self.place), self.place), self.place)

    def __repr__(self) -> str:
        return f"<EnvKeyProvider {self.place}>"

"""Keys that this process already has: given in code, or in an environment variable."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .errors import InvalidKeyError, KeyNotFoundError, ProviderConfigError
from .provider import Key, is_key_name, try_key_text
from .redaction import redact_frames

__all__ = ["EnvKeyProvider", "StaticKeyProvider"]


class StaticKeyProvider:
    """Keys given in code: ``StaticKeyProvider(key, *older)``.

    Each is a ``Key``, or base64 text of 32 bytes, which becomes a key without a name. The first
    one is active; the others are for reading.

    Raises TypeError for anything else, and InvalidKeyError for text that is no key, and for a name
    or a secret that comes twice.
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

    def __repr__(self) -> str:
        return f"<StaticKeyProvider {self._keys.kids}>"


class EnvKeyProvider:
    """Keys in an environment variable, read anew at each call: ``EnvKeyProvider("SESSION_KEYS")``.

    The variable holds one key, or several separated by commas or new lines, the active one first.
    An entry that is base64 of 32 bytes is a key without a name; any other is split at its first
    ``=`` into ``name=key``.

    As a URL: ``env:SESSION_KEYS``. Raises ProviderConfigError when the variable is not set, and
    InvalidKeyError when its content is no list of keys.
    """

    @redact_frames
    def __init__(self, variable: str) -> None:
        if not isinstance(variable, str):
            raise TypeError(f"variable must be a str, not {type(variable).__name__}")
        if _looks_like_key(variable):
            raise ProviderConfigError(
                "a key was given where the name of an environment variable belongs; put the key "
                "into a variable, and give the name of that variable, as in env:SESSION_KEYS"
            )
        if not (variable.isascii() and variable.isidentifier()):
            # Not shown: a mistyped key is no name of a variable either.
            raise ProviderConfigError(
                f"the name of an environment variable is letters, digits and _, and begins with no "
                f"digit; what was given ({len(variable)} characters) is none; "
                f"write it as in env:SESSION_KEYS"
            )
        self._variable = variable
        self.place = f"env:{variable}"

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> EnvKeyProvider:  # noqa: ARG003 - all have it
        """The provider of ``env:VARIABLE``. Nothing here is insecure, so the flag changes nothing."""
        return cls(url.partition(":")[2])

    def active(self) -> Key:
        """The first key of the variable, as it is now."""
        return self._read().active

    def get(self, name: str) -> Key:
        """The key of that name or fingerprint in the variable, as it is now."""
        return self._read().find(name)

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


class KeyList:
    """Some keys that are all at hand: the first is active, each has a name and a secret of its own.

    ``place`` names in messages where they come from.
    """

    def __init__(self, keys: Sequence[Key], place: str) -> None:
        _refuse_twice(keys, place)
        self._keys = tuple(keys)
        self._place = place

    @property
    def active(self) -> Key:
        return self._keys[0]

    @property
    def kids(self) -> str:
        return ", ".join(key.kid for key in self._keys)

    def find(self, name: str) -> Key:
        """By name; else by fingerprint, which is how a key without a name is asked for.

        A key that was given a name later is still found by its fingerprint: rows that were written
        before have it under no other name.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        for key in self._keys:
            if key.name == name:
                return key
        for key in self._keys:
            if key.fingerprint == name:
                return key
        wanted = repr(name) if is_key_name(name) else "of that name (no key can have it)"
        raise KeyNotFoundError(
            f"{self._place} has no key {wanted}; it has {self.kids}; if an older key is missing,"
            " list it after the active one"
        )


def split_entries(text: str, place: str) -> list[str]:
    """The entries of a list of keys, which commas or new lines separate.

    Blank lines, and a comma at the end of a line, mean nothing. An entry that is empty otherwise is
    what a template with a missing value leaves behind; were it passed over, an older key would
    silently become the active one.
    """
    entries: list[str] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split(",")]
        if len(parts) > 1 and not parts[-1]:
            parts.pop()
        entries.extend(parts)
    for at, entry in enumerate(entries, 1):
        if not entry:
            raise InvalidKeyError(f"{place}: entry {at} of {len(entries)} is empty; remove its comma, or fill it in")
    if not entries:
        raise InvalidKeyError(
            f"{place} is empty; it must hold at least one key, such as `encrypted-sessions keygen` prints"
        )
    return entries


@redact_frames
def read_entries(entries: Sequence[str], place: str) -> list[Key]:
    """The keys of these entries.

    No part of an entry is ever shown in an error, a "name" included: base64 with a typing mistake
    is split at its padding, and then the key stands where the name belongs.
    """
    keys: list[Key] = []
    for at, entry in enumerate(entries, 1):
        key, problem = _read_entry(entry)
        if key is None:
            raise InvalidKeyError(
                f"{place}: entry {at} of {len(entries)} ({len(entry)} characters) is no key:"
                f" {problem}; an entry is 32 bytes as base64, or name=key"
            )
        keys.append(key)
    return keys


def _read_entry(entry: str) -> tuple[Key | None, str]:
    plain, problem = try_key_text(entry)
    if plain is not None:
        return Key(None, plain), ""
    name, sign, text = (part.strip() for part in entry.partition("="))
    if not sign:
        return None, problem
    if not is_key_name(name):
        return None, (
            f"what stands before its first '=' ({len(name)} characters) is no name, which is 1 to"
            " 119 characters of A-Z a-z 0-9 . _ -"
        )
    if _looks_like_key(name):
        # Two keys that ran together. Names are public: they go into every stored row.
        return None, "it is two keys with nothing between them; separate them by a comma"
    secret, problem = try_key_text(text)
    if secret is None:
        return None, f"after its first '=' ({len(text)} characters): {problem}"
    return Key(name, secret), ""


def _as_key(given: Key | str, which: str) -> Key:
    if isinstance(given, Key):
        return given
    if not isinstance(given, str):
        raise TypeError(f"{which} must be a Key or base64 text, not {type(given).__name__}")
    secret, problem = try_key_text(given)
    if secret is None:
        raise InvalidKeyError(f"{which} is no key: {problem}")
    return Key(None, secret)


def _looks_like_key(text: str) -> bool:
    return try_key_text(text)[0] is not None


def _refuse_twice(keys: Sequence[Key], place: str) -> None:
    names: dict[str, int] = {}
    secrets: dict[bytes, int] = {}
    for at, key in enumerate(keys, 1):
        if key.secret in secrets:
            problem = f"keys {secrets[key.secret]} and {at} are the same key ({key.kid})"
            break
        if key.name is not None and key.name in names:
            problem = f"keys {names[key.name]} and {at} have the same name, {key.name!r}"
            break
        secrets[key.secret] = at
        if key.name is not None:
            names[key.name] = at
    else:
        return
    secrets.clear()
    raise InvalidKeyError(f"{place}: {problem}; list each key once, under a name of its own")

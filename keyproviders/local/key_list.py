"""Some keys that are all at hand, and the text that they are listed in."""

from __future__ import annotations

from collections.abc import Sequence

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, KeyNotFoundError
from ..key import Key, is_key_name, try_key_text

__all__ = ["KeyList", "looks_like_key", "read_entries", "split_entries"]


class KeyList:
    """Some keys that are all at hand: the first is active, each has a public id of its own.

    One key may be listed under several names, so that rows with any of them are read.

    `place` names in messages where they come from.
    """

    def __init__(self, keys: Sequence[Key], place: str) -> None:
        _refuse_twice(keys, place)
        self._keys = tuple(keys)
        self._place = place

    @property
    def active(self) -> Key:
        """The first one."""
        return self._keys[0]

    @property
    def names(self) -> dict[str, str | None]:
        """What `find` finds: names and fingerprints, with the fingerprint of each."""
        return {
            **{key.fingerprint: key.fingerprint for key in self._keys},
            **{key.name: key.fingerprint for key in self._keys if key.name is not None},
        }

    @property
    def kids(self) -> str:
        """Their public ids, for messages."""
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
            f"{self._place} has no key {wanted}; it has {self.kids}; if an older key is"
            " missing, add it after the active one"
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
                f"{place}: entry {at} of {len(entries)} ({len(entry)} characters) is not a"
                f" key: {problem}; an entry is 32 bytes as base64, or name=key"
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
            f"the part before its first '=' ({len(name)} characters) is not a name"
            " of 1 to 119 characters of A-Z a-z 0-9 . _ -"
        )
    if looks_like_key(name):
        # Two keys that ran together. Names are public: they go into every stored row.
        return None, "it is two keys without a separator; put a comma between them"
    secret, problem = try_key_text(text)
    if secret is None:
        return None, f"after its first '=' ({len(text)} characters): {problem}"
    return Key(name, secret), ""


def looks_like_key(text: str) -> bool:
    """Whether this is the text of a key, and so not the name or the path that it was given as."""
    return try_key_text(text)[0] is not None


def _refuse_twice(keys: Sequence[Key], place: str) -> None:
    names: dict[str, int] = {}
    kids: dict[str, int] = {}
    fingerprints: dict[str, int] = {}
    for at, key in enumerate(keys, 1):
        twin = fingerprints.setdefault(key.fingerprint, at)
        if keys[twin - 1].secret != key.secret:
            problem = (
                f"keys {twin} and {at} are different keys with the same fingerprint; replace one of them with a new key"
            )
            break
        if key.kid in kids:
            problem = f"keys {kids[key.kid]} and {at} are the same key ({key.kid}); list it once, or under another name"
            break
        if key.name is not None and key.name in names:
            problem = (
                f"keys {names[key.name]} and {at} have the same name, {key.name!r}; list each key once, under a name"
                " of its own"
            )
            break
        kids[key.kid] = at
        if key.name is not None:
            names[key.name] = at
    else:
        return
    raise InvalidKeyError(f"{place}: {problem}")

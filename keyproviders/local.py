"""Keys that are on this machine: given in code, in an environment variable, or in files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from ._support.paths import path_in_url, path_text
from ._support.redaction import redact_frames
from .errors import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from .key import Key, is_key_name, try_key_text

__all__ = ["EnvKeyProvider", "FileKeyProvider", "StaticKeyProvider"]

_ACTIVE_FILE = "ACTIVE"
# No list of keys is that long; a path to a device or a database is a mistake.
_MOST_BYTES = 1 << 20
# So often what changes under the reader's eyes is read again.
_READS = 5


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


class FileKeyProvider:
    """Keys in a file, or in a directory of files: ``FileKeyProvider("/etc/keys/sessions")``.

    A file holds one key or several, as an environment variable does, the active one first; a line
    that begins with ``#`` is a comment. In a directory each file holds one key, the file's name is
    the key's name, and a file ``ACTIVE`` holds the name of the active one; with a single key it may
    be missing. Files whose names begin with a dot are passed over. This is how Kubernetes mounts a
    secret.

    The content is read anew whenever it has changed, also when a symbolic link has been moved to
    another place. What does not exist is KeyUnavailableError, since it may be rendered late; what
    is half-written or no list of keys is InvalidKeyError. Warns once when others may write to it.

    As a URL: ``file:/etc/keys/sessions`` or ``file:///etc/keys/sessions``.
    """

    @redact_frames
    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = path_text(path)
        if not text or "\0" in text:
            raise ProviderConfigError("the path of a file of keys is empty, or has a NUL; give it as in file:/etc/keys")
        if any(_looks_like_key(part) for part in (text, *text.replace("=", ",").split(","))):
            raise ProviderConfigError(
                "a key was given where the path of a file belongs; put the key into a file, and give the file's path"
            )
        self._path = text
        self.place = f"file:{text}"
        self._read: tuple[object, KeyList] | None = None
        self._warned = False

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> FileKeyProvider:  # noqa: ARG003 - all have it
        """The provider of ``file:PATH`` or ``file:///PATH``. There is nothing insecure to allow."""
        rest = path_in_url(url.partition(":")[2])
        if "%" in rest:
            from urllib.parse import unquote  # noqa: PLC0415 - few paths need it

            rest = unquote(rest)
        return cls(rest)

    def active(self) -> Key:
        """The active key of the file or directory, as it is now."""
        return self._keys().active

    def get(self, name: str) -> Key:
        """The key of that name or fingerprint, as the file or directory is now."""
        return self._keys().find(name)

    @redact_frames
    def _keys(self) -> KeyList:
        # Looked at before and after: what is replaced in between is not half old and half new.
        for _ in range(_READS):
            try:
                before = _stamp(self._path)
                known = self._read
                if known is not None and known[0] == before:
                    return known[1]
                contents = _contents(self._path)
                unchanged = _stamp(self._path) == before
            except FileNotFoundError:
                problem: KeyProviderError = KeyUnavailableError(
                    f"{self.place} does not exist (yet); create it, or wait for what renders it"
                )
                break
            except OSError as error:
                kind = KeyAccessDeniedError if isinstance(error, PermissionError) else KeyUnavailableError
                problem = kind(f"{self.place} cannot be read: {error.strerror}; see to its owner and its mode")
                break
            if unchanged:
                keys = self._understood(contents)
                self._warn_of_writers()
                self._read = (before, keys)
                return keys
        else:
            problem = KeyUnavailableError(f"{self.place} keeps changing while it is read; write it in one move")
        raise problem

    def _understood(self, contents: bytes | dict[str, bytes]) -> KeyList:
        if isinstance(contents, bytes):
            lines = [line for line in _text(contents, self.place).splitlines() if not line.strip().startswith("#")]
            entries = split_entries("\n".join(lines), self.place)
            return KeyList(read_entries(entries, self.place), self.place)
        return KeyList(_keys_of_directory(contents, self.place), self.place)

    def _warn_of_writers(self) -> None:
        # On Windows the mode does not tell.
        if self._warned or os.name != "posix":
            return
        paths = [self._path]
        if os.path.isdir(self._path):  # noqa: PTH112 - as everywhere here: no pathlib at import
            paths += [entry.path for entry in os.scandir(self._path) if _is_key_file(entry.name)]
        for path in paths:
            if _others_may_write(path):
                self._warned = True
                warnings.warn(
                    f"{self.place}: others than the owner may write to {path}, so they may choose the key;"
                    " take that right away (chmod go-w)",
                    stacklevel=2,
                )
                return

    def __repr__(self) -> str:
        return f"<FileKeyProvider {self.place}>"


def _stamp(path: str) -> object:
    """What changes when the content does: of a file, or of each file of a directory."""
    one = _stamp_of(path)
    if not os.path.isdir(path):  # noqa: PTH112 - no pathlib at import
        return one
    with os.scandir(path) as found:
        names = sorted(entry.name for entry in found if _is_key_file(entry.name))
    return (one, *((name, _stamp_of(os.path.join(path, name))) for name in names))  # noqa: PTH118 - likewise


def _stamp_of(path: str) -> tuple[int, ...]:
    status = os.stat(path)  # noqa: PTH116 - follows links: what counts is where they point to
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _contents(path: str) -> bytes | dict[str, bytes]:
    if not os.path.isdir(path):  # noqa: PTH112 - no pathlib at import
        return _bytes_of(path)
    with os.scandir(path) as found:
        return {entry.name: _bytes_of(entry.path) for entry in found if _is_key_file(entry.name) and entry.is_file()}


def _others_may_write(path: str) -> bool:
    # In a sticky directory, such as /tmp, they may add files, and a key of their own is one.
    may = os.stat(path).st_mode & 0o022 != 0  # noqa: PTH116 - no pathlib at import
    # Kubernetes gives every right to the directory of a secret, and mounts it read-only.
    return may and not os.statvfs(path).f_flag & os.ST_RDONLY


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - no pathlib at import
        return file.read(_MOST_BYTES)


def _is_key_file(name: str) -> bool:
    # Kubernetes keeps its links in ..data and its like, editors keep drafts in hidden files.
    return not name.startswith(".")


def _text(content: bytes, what: str) -> str:
    # Asked rather than tried: the error of a codec holds the content.
    if not content.isascii():
        raise InvalidKeyError(f"{what} has characters that no key has; it must be plain text (ASCII)")
    return content.decode("ascii")


def _keys_of_directory(contents: dict[str, bytes], place: str) -> list[Key]:
    files = dict(contents)
    marker = files.pop(_ACTIVE_FILE, None)
    keys: dict[str, Key] = {}
    for name in sorted(files):
        if not is_key_name(name):
            raise InvalidKeyError(f"{place}: a file's name is the key's, and {name!r} is no name of a key; rename it")
        secret, problem = try_key_text(_text(files[name], f"{place}: the file {name}"))
        if secret is None:
            raise InvalidKeyError(f"{place}: the file {name} is no key: {problem}; it must hold 32 bytes as base64")
        keys[name] = Key(name, secret)
    if not keys:
        raise InvalidKeyError(f"{place} has no file with a key")
    if marker is None and len(keys) > 1:
        raise InvalidKeyError(
            f"{place} has {len(keys)} keys and no file {_ACTIVE_FILE}; write the name of the active one into it"
        )
    chosen = next(iter(keys)) if marker is None else _text(marker, f"{place}: the file {_ACTIVE_FILE}").strip()
    if chosen not in keys:
        # Not shown: it may be a key in the wrong file.
        raise InvalidKeyError(
            f"{place}: the file {_ACTIVE_FILE} names a key that is not there; there are {', '.join(keys)}"
        )
    return [keys.pop(chosen), *keys.values()]


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

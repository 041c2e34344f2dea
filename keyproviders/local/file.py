"""Keys in a file, or in a directory of files."""

from __future__ import annotations

import os

from .._support.files import check_directory, read_file
from .._support.paths import path_in_url, path_text
from .._support.redaction import redact_frames
from .._support.strictness import is_strict
from ..errors import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from ..key import Key, is_key_name, try_key_text
from .key_list import KeyList, looks_like_key, read_entries, split_entries

__all__ = ["FileKeyProvider"]

_ACTIVE_FILE = "ACTIVE"
# No list of keys is that long; a path to a device or a database is a mistake.
_MOST_BYTES = 1 << 20
# So often what changes under the reader's eyes is read again.
_READS = 5


class FileKeyProvider:
    """Keys in a file, or in a directory of files: `FileKeyProvider("/etc/keys/sessions")`.

    A file holds one key or several, as an environment variable does, the active one first; a line that begins with
    `#` is a comment. In a directory each file holds one key, the file's name is the key's name, and a file `ACTIVE`
    holds the name of the active key; with a single key it may be missing. Files whose names begin with a dot are
    ignored. Kubernetes mounts secrets in this form.

    The content is read again whenever it has changed, also if a symbolic link was changed. A missing file raises
    KeyUnavailableError, since it may be rendered later; a file that is half-written or not a list of keys raises
    InvalidKeyError. An InsecurePermissionsWarning is given once per path if users other than the owner may read or
    replace it, or if the owner is neither root nor the user of this process, unless it is mounted read-only.

    As a URL: `file:/etc/keys/sessions` or `file:///etc/keys/sessions`.

    Args:
        path: The file or the directory.

    Raises:
        TypeError: The path is neither a str nor a path of str.
        ProviderConfigError: It is empty, or is not a valid path.
    """

    @redact_frames
    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = path_text(path)
        if not text or "\0" in text:
            raise ProviderConfigError(
                "the path of a file of keys is empty or contains a NUL; give it as in file:/etc/keys"
            )
        if any(looks_like_key(part) for part in (text, *text.replace("=", ",").split(","))):
            raise ProviderConfigError(
                "a key was given instead of the path of a file; put the key into a file, and give the file's path"
            )
        self._path = text
        self.place = f"file:{text}"
        self._read: tuple[object, KeyList] | None = None
        self._strict = is_strict()

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> FileKeyProvider:  # noqa: ARG003 - all have it
        """The provider of `file:PATH` or `file:///PATH`. Nothing here is insecure, so the flag has no effect."""
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

    def names(self) -> dict[str, str | None]:
        """Everything that `get` would find now: every name and fingerprint, with the fingerprint of its key."""
        return self._keys().names

    @redact_frames
    def _keys(self) -> KeyList:
        # Looked at before and after: what is replaced in between is not half old and half new.
        for _ in range(_READS):
            try:
                before = _stamp(self._path)
                known = self._read
                if known is not None and known[0] == before:
                    return known[1]
                contents = self._contents()
                unchanged = _stamp(self._path) == before
            except FileNotFoundError:
                problem: KeyProviderError = KeyUnavailableError(
                    f"{self.place} does not exist (yet); create it, or wait until it is rendered"
                )
                break
            except OSError as error:
                kind = KeyAccessDeniedError if isinstance(error, PermissionError) else KeyUnavailableError
                problem = kind(f"{self.place} cannot be read: {error.strerror}; check its owner and mode")
                break
            if unchanged:
                keys = self._understood(contents)
                self._read = (before, keys)
                return keys
        else:
            problem = KeyUnavailableError(f"{self.place} keeps changing while it is read; replace it in one step")
        raise problem

    def _understood(self, contents: bytes | dict[str, bytes]) -> KeyList:
        if isinstance(contents, bytes):
            lines = [line for line in _text(contents, self.place).splitlines() if not line.strip().startswith("#")]
            entries = split_entries("\n".join(lines), self.place)
            return KeyList(read_entries(entries, self.place), self.place)
        return KeyList(_keys_of_directory(contents, self.place), self.place)

    def _contents(self) -> bytes | dict[str, bytes]:
        if not os.path.isdir(self._path):  # noqa: PTH112 - as everywhere here: no pathlib at import
            return self._bytes_of(self._path)
        check_directory(self._path, what=self.place, owned=True, strict=self._strict)
        with os.scandir(self._path) as found:
            return {
                entry.name: self._bytes_of(entry.path)
                for entry in found
                if _is_key_file(entry.name) and not entry.is_dir()
            }

    def _bytes_of(self, path: str) -> bytes:
        return read_file(path, _MOST_BYTES, what=self.place, secret=True, strict=self._strict)

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


def _is_key_file(name: str) -> bool:
    # Kubernetes keeps its links in ..data and its like, editors keep drafts in hidden files.
    return not name.startswith(".")


def _text(content: bytes, what: str) -> str:
    # Asked rather than tried: the error of a codec holds the content.
    if not content.isascii():
        raise InvalidKeyError(f"{what} has characters that a key cannot have; it must be plain text (ASCII)")
    return content.decode("ascii")


def _keys_of_directory(contents: dict[str, bytes], place: str) -> list[Key]:
    files = dict(contents)
    marker = files.pop(_ACTIVE_FILE, None)
    keys: dict[str, Key] = {}
    for name in sorted(files):
        if not is_key_name(name):
            raise InvalidKeyError(
                f"{place}: a file's name is the key's name, and {name!r} is not a valid one; rename the file"
            )
        secret, problem = try_key_text(_text(files[name], f"{place}: the file {name}"))
        if secret is None:
            raise InvalidKeyError(f"{place}: the file {name} is not a key: {problem}; it must hold 32 bytes as base64")
        keys[name] = Key(name, secret)
    if not keys:
        raise InvalidKeyError(f"{place} has no file with a key")
    if marker is None and len(keys) > 1:
        raise InvalidKeyError(
            f"{place} has {len(keys)} keys but no file {_ACTIVE_FILE}; write the name of the active key into that file"
        )
    chosen = next(iter(keys)) if marker is None else _text(marker, f"{place}: the file {_ACTIVE_FILE}").strip()
    if chosen not in keys:
        # Not shown: it may be a key in the wrong file.
        raise InvalidKeyError(
            f"{place}: the file {_ACTIVE_FILE} names a key that is not there; the folder has {', '.join(keys)}"
        )
    return [keys.pop(chosen), *keys.values()]

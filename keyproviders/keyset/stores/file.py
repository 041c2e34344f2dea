"""A keyset in a file, which services only read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from ..._support.files import read_file
from ..._support.paths import path_in_url, path_text
from ..._support.redaction import redact_frames
from ..._support.strictness import is_strict
from ...errors import InvalidKeyError, KeyAccessDeniedError, KeyProviderError, KeyUnavailableError, ProviderConfigError
from ...key import try_key_text
from . import file_notes
from .base import MOST_BYTES, Note, StoredKeyset

__all__ = ["FileKeysetStore"]

_NEW_MODE = 0o600
_LOCK_WAIT_S = 10.0
_LOCK_PAUSE_S = 0.02

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MISTAKEN = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
_CANNOT = frozenset({errno.EINVAL, errno.ENOTSUP})
_ACCESS_LIST = "system.posix_acl_access"


class FileKeysetStore:
    """One keyset in one file: `FileKeysetStore("/etc/agents/keyset.json")`.

    Reading needs the right to read the file, and takes no lock. Symbolic links are followed, as
    Kubernetes mounts a secret or a config map.

    A change is written to `PATH.new`, which then replaces the file: whatever happens, either the old or the new text
    is on the disk, complete. A lock on `PATH.lock` keeps other writers out during that time; it ends with its
    process, and the empty file stays. So a change needs the right to write in the folder. Only the owner may read a
    new file (0600). Later changes preserve its owner, group, mode and access list; a user who cannot preserve them
    cannot change it.

    Each change is recorded in `PATH.changes`, as one line of JSON, readable only by the owner.

    Without `fcntl` (Windows) there is no such lock: a keyset can be read there, but a change raises
    ProviderConfigError. The revision is the SHA-256 of the bytes.

    Args:
        path: The file.

    Raises:
        TypeError: The path is neither a str nor a path of str.
        ProviderConfigError: It cannot be the path of a file.
    """

    URL_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    KIND: ClassVar[str] = "a file"

    @redact_frames
    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = path_text(path)
        if not text or "\0" in text or text.endswith("/"):
            raise ProviderConfigError(
                "the path of a keyset's file is empty, ends with a slash or contains a NUL; give it as in"
                " /etc/agents/keyset.json"
            )
        if try_key_text(text)[0] is not None:
            raise ProviderConfigError("a key was given instead of the path of a keyset's file")
        self._path = text
        self._strict = is_strict()
        self.place = f"file:{text}"

    @classmethod
    def from_options(
        cls,
        path: str,
        options: Mapping[str, str],  # noqa: ARG003 - all have it
        scheme: str,  # noqa: ARG003 - likewise
        *,
        allow_insecure: bool = False,  # noqa: ARG003 - likewise; nothing here is insecure
    ) -> FileKeysetStore:
        """The store for what follows `keyset=file:` in a URL. Raises ProviderConfigError."""
        return cls(path_in_url(path))

    def read(self, name: str) -> StoredKeyset | None:  # noqa: ARG002 - the file is one keyset, and says which
        """The content of the file; None if there is no file."""
        try:
            content = self._content(self._path)
        except OSError as error:
            failure = self._failure(error, "be read")
        else:
            return None if content is None else StoredKeyset(self._text(content), _revision(content))
        raise failure

    def write(self, name: str, text: str, *, expected: str | None) -> bool:  # noqa: ARG002 - as for read()
        """Write `text` to the file, if the file still has that revision, or still does not exist."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        if expected is not None and not isinstance(expected, str):
            raise TypeError(f"expected must be a revision or None, not {type(expected).__name__}")
        try:
            # Where links lead to: the file takes the place of the file, not of a link to it.
            target = Path(os.path.realpath(self._path))
            with self._locked(f"{target}.lock"):
                # Of the file that is replaced: a link may lead elsewhere by now.
                content = self._content(str(target))
                if (None if content is None else _revision(content)) != expected:
                    return False
                self._replace(target, text.encode("ascii"))
                return True
        except OSError as error:
            failure = self._failure(error, "be changed")
        raise failure

    def note(self, name: str, notes: Sequence[Note]) -> None:
        """As `KeepsNotes.note`."""
        try:
            target = os.path.realpath(self._path)
            with self._locked(f"{target}.lock"):
                file_notes.append(f"{target}.changes", name, notes)
        except OSError as error:
            failure = self._failure(error, "be noted", f"{self.place}.changes")
        else:
            return
        raise failure

    def notes(self, name: str) -> Sequence[Note]:
        """As `KeepsNotes.notes`. Lines that are not notes are skipped."""
        try:
            return file_notes.read(f"{os.path.realpath(self._path)}.changes", name)
        except OSError as error:
            failure = self._failure(error, "be read", f"{self.place}.changes")
        raise failure

    def __repr__(self) -> str:
        return f"<FileKeysetStore {self.place}>"

    def _content(self, path: str) -> bytes | None:
        try:
            return read_file(path, MOST_BYTES + 1, what=self.place, secret=False, strict=self._strict)
        except FileNotFoundError:
            if Path(path).parent.is_dir():
                return None
            raise

    def _text(self, content: bytes) -> str:
        if len(content) > MOST_BYTES:
            raise InvalidKeyError(f"{self.place} has more than {MOST_BYTES} bytes, so it is not a keyset")
        if not content.isascii():
            raise InvalidKeyError(
                f"{self.place} is not a keyset: it has bytes that are not ASCII; restore its last good copy"
            )
        return content.decode("ascii")

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        try:
            import fcntl  # noqa: PLC0415 - readers need none, and Windows has none
        except ModuleNotFoundError:
            fcntl = None  # type: ignore[assignment] # told below, outside of the handler
        if fcntl is None:
            raise ProviderConfigError(
                f"{self.place} cannot be changed on this platform, which has no fcntl to lock it; change it on another"
                " platform, or keep the keyset in an SQL database"
            )
        # A lock of the open file: it keeps threads apart too, and ends with the process.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _NEW_MODE)
        try:
            until = time.monotonic() + _LOCK_WAIT_S
            while not _taken(fcntl, lock):
                if time.monotonic() >= until:
                    raise KeyUnavailableError(
                        f"{self.place} is being changed by another process, which has held its lock for"
                        f" {_LOCK_WAIT_S:g} s; try again, and check which process has {path} open"
                    )
                time.sleep(_LOCK_PAUSE_S)
            yield
        finally:
            os.close(lock)

    def _replace(self, target: Path, content: bytes) -> None:
        new = Path(f"{target}.new")
        # What a killed process left behind: nobody else is here, under the lock.
        new.unlink(missing_ok=True)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _NEW_MODE)
        try:
            with os.fdopen(file, "wb") as opened:
                self._keep_owner(target, file)
                opened.write(content)
                opened.flush()
                os.fsync(file)
            new.replace(target)
        except BaseException:  # an interrupt too: nothing half-written stays
            with suppress(OSError):
                new.unlink()
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            # Some file systems cannot do that. The change is made.
            if error.errno not in _CANNOT:
                raise
        finally:
            os.close(folder)

    def _keep_owner(self, target: Path, file: int) -> None:
        try:
            before = target.stat()
        except FileNotFoundError:
            return
        now = os.fstat(file)
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            try:
                os.fchown(file, before.st_uid, before.st_gid)
            except OSError:
                kept = False
            else:
                kept = True
            if not kept:
                raise KeyAccessDeniedError(
                    f"{self.place} belongs to user {before.st_uid} and group {before.st_gid}, which this process cannot"
                    " preserve, so readers might lose access; make the change as that user"
                )
        os.fchmod(file, stat.S_IMODE(before.st_mode))
        _keep_access_list(target, file)

    def _failure(self, error: OSError, action: str, place: str = "") -> KeyProviderError:
        place = place or self.place
        if error.errno in _DENIED:
            return KeyAccessDeniedError(
                f"{place} cannot {action}: {error.strerror}; check the owner and mode of the file and its folder"
            )
        if error.errno in _MISTAKEN:
            return ProviderConfigError(f"{place} cannot {action}: {error.strerror}; check the path and its folder")
        return KeyUnavailableError(f"{place} cannot {action}: {error.strerror or type(error).__name__}")


def _keep_access_list(target: Path, file: int) -> None:
    """Let those read the new file to whom the old one was given one by one (Linux: setfacl)."""
    if not hasattr(os, "getxattr"):
        return
    try:
        entries = os.getxattr(target, _ACCESS_LIST)
    except OSError as error:
        if error.errno in _CANNOT or error.errno == errno.ENODATA:
            return
        raise
    os.setxattr(file, _ACCESS_LIST, entries)


def _taken(fcntl: object, lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined] # the module, where there is one
    except BlockingIOError:
        return False
    return True


def _revision(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

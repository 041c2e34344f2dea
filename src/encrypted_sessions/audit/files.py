"""One file of an audit log, and the folder that it lies in."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

__all__ = ["AuditFile", "FileMovedError", "checked_folder"]

_MAY_WRITE = 0o022


def checked_folder(folder: object) -> str:
    """The real path of a folder that nobody else may write to. Raises TypeError and ValueError."""
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder must be a str or a path, not {type(folder).__name__}")
    given: object = os.fspath(folder)
    if not isinstance(given, str):
        raise TypeError(f"folder must give a str, not {type(given).__name__}")
    try:
        path = os.path.realpath(given)
        status = os.stat(path)  # noqa: PTH116 - a path of str is all that is needed here
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no folder at {given!r} for the audit log: {_reason(error)}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{given!r} is not a folder; give one for the files of the audit log")
    # On Windows neither mode nor owner tells.
    if os.name == "posix":
        if status.st_mode & _MAY_WRITE:
            raise ValueError(
                f"users other than its owner may write to {given!r}, so they can remove or replace the audit"
                " log; remove that permission (chmod go-w)"
            )
        if status.st_uid not in {0, os.geteuid()}:
            raise ValueError(
                f"{given!r} belongs to another user (uid {status.st_uid}), who can remove the audit log; make"
                f" the user of this process its owner (chown {os.geteuid()})"
            )
    return path


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


class FileMovedError(OSError):
    """A file that is not to be written to any more: it is gone, or it is not as it was left."""


class AuditFile:
    """A new file for its owner alone, to which lines are appended. Raises OSError where it cannot be made."""

    def __init__(self, path: str, kids: tuple[str | None, str | None]) -> None:
        """`kids` are the keys under which all of its lines are."""
        self.path = path
        self.kids = kids
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o600)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self.size = 0
        self.is_synced = True

    def append(self, lines: bytes) -> None:
        """Write all of it, or nothing. Raises OSError."""
        self.is_synced = False
        written = os.write(self._descriptor, lines)
        if written < len(lines):
            try:
                while written < len(lines):
                    written += os.write(self._descriptor, lines[written:])
            except OSError:
                self._take_back()
                raise
        self.size += written

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            raise FileMovedError(f"part of a line was left in {self.path}, and cannot be removed") from None

    def sync(self) -> None:
        """Have the disk hold what was written. Raises OSError."""
        self.is_synced = True  # what failed once is not to be had by asking again
        os.fsync(self._descriptor)

    def sync_folder(self) -> None:
        """Have the disk know that there is this file. Raises OSError."""
        if os.name != "posix":
            return
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH120 - as above
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go of it."""
        with suppress(OSError):  # as some file systems tell what they could not keep
            os.close(self._descriptor)

    def remove(self) -> None:
        """Take it away again, as one that could not be begun."""
        self.close()
        with suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108 - as above

    def check(self) -> None:
        """Raise FileMovedError where it is no longer at its path, or somebody else wrote to it."""
        try:
            there = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116 - as above
        except OSError as error:
            raise FileMovedError(f"{self.path} is no longer at its path ({_reason(error)})") from None
        if (there.st_dev, there.st_ino) != self._identity:
            raise FileMovedError(f"there is another file at {self.path} now")
        if there.st_size != self.size:
            raise FileMovedError(f"somebody else changed {self.path}")

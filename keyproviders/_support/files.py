"""Files of keys and credentials: read without waiting for anybody, and looked at for who else could."""

from __future__ import annotations

import os
import stat

from ..errors import InsecurePermissionsWarning, ProviderConfigError
from .warnings import warn_caller

__all__ = ["check_directory", "read_file"]

_MAY_READ = 0o077
_MAY_WRITE = 0o022

# A path is told once in a process, whoever reads it.
_told: set[str] = set()


def read_file(path: str, most_bytes: int, *, what: str, secret: bool, strict: bool) -> bytes:
    """The first bytes of a file. `what` names it in messages.

    Warns InsecurePermissionsWarning, once a path, when others than its owner may replace it, or, where it is
    `secret`, read it, or when its owner is neither root nor the user of this process. Raises OSError, and
    ProviderConfigError for what is no file and, where it is `strict`, for what it would warn of.
    """
    # Not to wait for the writer of a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    file = os.open(path, flags)
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ProviderConfigError(f"{what}: {path} is not a file; give the path of a file")
        content = opened.read(most_bytes)
    _check(path, status, what=what, forbidden=_MAY_READ if secret else _MAY_WRITE, owned=secret, strict=strict)
    folders = {os.path.dirname(one) or os.curdir for one in (path, os.path.realpath(path))}  # noqa: PTH120 - no pathlib at import
    for folder in sorted(folders):
        check_directory(folder, what=what, owned=secret, strict=strict, may_be_sticky=True)
    return content


def check_directory(path: str, *, what: str, owned: bool, strict: bool, may_be_sticky: bool = False) -> None:
    """The same for a directory in which others may put files. In a sticky one they cannot replace those of others.

    Its owner can, so where it is `owned`, that is to be root or the user of this process.
    """
    status = os.stat(path)  # noqa: PTH116 - likewise
    sticky = may_be_sticky and status.st_mode & stat.S_ISVTX
    _check(path, status, what=what, forbidden=0 if sticky else _MAY_WRITE, owned=owned, strict=strict)


def _check(path: str, status: os.stat_result, *, what: str, forbidden: int, owned: bool, strict: bool) -> None:
    # On Windows neither mode nor owner tells.
    if os.name != "posix":
        return
    mode, of_another = status.st_mode & forbidden, owned and status.st_uid not in {0, os.geteuid()}
    if not mode and not of_another:
        return
    # Kubernetes and Docker give every right to a secret, and mount it read-only for this process and no other.
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return
    if of_another:
        problem = (
            f"{path} belongs to another user (uid {status.st_uid}), who can change what is read; make root, or the"
            " user of this process, its owner"
        )
        way_out = f"chown {os.geteuid()}"
    elif mode & _MAY_WRITE:
        problem = (
            f"users other than the owner may write to {path}, so they can change what is read; remove that permission"
        )
        way_out = "chmod go-rwx" if forbidden == _MAY_READ else "chmod go-w"
    else:
        problem = f"users other than the owner may read {path}; remove that permission"
        way_out = "chmod go-rwx"
    problem = f"{what}: {problem} ({way_out})"
    if strict:
        raise ProviderConfigError(f"{problem}; strict mode refuses it")
    if path not in _told:
        _told.add(path)
        warn_caller(problem, InsecurePermissionsWarning)

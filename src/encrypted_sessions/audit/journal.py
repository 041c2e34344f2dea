"""The chain of lines of one process, over as many files as it takes."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .chain import FIRST_PREV, HMAC_SHA256, SHA256, as_json, chained, digest
from .files import AuditFile, FileMovedError
from .lines import now

if TYPE_CHECKING:
    from keyproviders import Key

__all__ = ["Journal", "Keys"]

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST_HOST = 64
#: Seconds between two looks at whether the file is still at its path.
_LOOK_S = 1.0


class Keys:
    """What lines are made with: the chain's key, and that of the pseudonyms."""

    __slots__ = ("chain", "kids", "pseudonyms")

    def __init__(self, chain: Key | None, pseudonyms: Key | None) -> None:
        self.chain = chain
        self.pseudonyms = pseudonyms
        self.kids = (None if chain is None else chain.kid, None if pseudonyms is None else pseudonyms.kid)
        """Their public ids."""

    def __repr__(self) -> str:
        return f"Keys{self.kids}"


class Journal:
    """Writes lines to a file, and begins the next file where one is full, gone, or of another key.

    `about` stands in each file's first line. Not to be shared by threads.
    """

    def __init__(
        self, folder: str, about: Mapping[str, Any], rotate_bytes: int, sync: str, *, looks_always: bool
    ) -> None:
        """With `looks_always` a file is looked for before each line, else once a second."""
        self._folder = folder
        self._about = about
        self._rotate_bytes = rotate_bytes
        self._syncs_always, self._syncs = sync == "always", sync != "never"
        self._looks_always = looks_always
        self._look_at = 0.0
        host = _NOT_IN_A_NAME.sub("_", socket.gethostname())[:_LONGEST_HOST] or "unknown"
        started = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
        self._stem = f"audit-{host}-{os.getpid()}-{started}"
        self._log = os.urandom(8).hex()
        self._files = 0
        self._file: AuditFile | None = None
        self._last: bytes | None = None
        self._begun_size = 0
        self.number = 0
        """Of the last line."""
        self.hash = FIRST_PREV
        """The digest of the last line."""

    @property
    def path(self) -> str | None:
        """Of the file that is written to."""
        return None if self._file is None else self._file.path

    @property
    def kids(self) -> tuple[str | None, str | None]:
        """The keys of the file that is written to."""
        return (None, None) if self._file is None else self._file.kids

    def write(self, said: Sequence[str], keys: Keys) -> int:
        """Write the first of these, as many as the file has room for, at least one.

        Raises OSError; then what was not written before is not in the file, or is its last line and not whole.
        """
        file = self._file
        if file is None or file.kids != keys.kids:
            file = self._begin(keys)
        lines: list[bytes] = []
        number, prev, size = self.number, self.hash, file.size
        for one in said:
            line = chained(number + 1, prev, one)
            size += len(line) + 1
            # In a file without any, one fits in any case.
            if size > self._rotate_bytes and (lines or file.size > self._begun_size):
                break
            lines.append(line)
            number, prev = number + 1, digest(line, keys.chain)
        if not lines:
            self._begin(keys)
            return self.write(said, keys)
        self._append(file, lines)
        self.number, self._last, self.hash = number, lines[-1], prev
        if self._syncs_always:
            self.sync()
        return len(lines)

    def sync(self) -> None:
        """Have the disk hold what was written. Raises OSError."""
        if self._file is not None and self._syncs and not self._file.is_synced:
            try:
                self._file.sync()
            except OSError:
                self._let_go()  # nobody knows what it holds
                raise

    def close(self) -> None:
        """Let go of the file."""
        self._let_go()

    def _begin(self, keys: Keys) -> AuditFile:
        """The next file, with its first line."""
        self.sync()
        self._let_go()
        while True:
            path = os.path.join(self._folder, f"{self._stem}-{self._files + 1:04}.jsonl")  # noqa: PTH118 - text is all it takes
            try:
                file = AuditFile(path, keys.kids)
                break
            except FileExistsError:
                self._files += 1
        chain = {"by": SHA256} if keys.chain is None else {"by": HMAC_SHA256, "kid": keys.chain.kid}
        pseudonyms = {} if keys.pseudonyms is None else {"session_kid": keys.pseudonyms.kid}
        own = {"event": "begin", "at": now(), "log": self._log, "file": self._files + 1, "chain": chain}
        # The line before may have counted under another key, and counts under this one now.
        prev = FIRST_PREV if self._last is None else digest(self._last, keys.chain)
        line = chained(self.number + 1, prev, as_json({**own, **self._about, **pseudonyms}))
        try:
            self._append(file, [line])
            if self._syncs:
                file.sync_folder()
        except OSError:
            file.remove()
            raise
        self._files += 1
        self._file = file
        self._begun_size = file.size
        self.number, self._last, self.hash = self.number + 1, line, digest(line, keys.chain)
        return file

    def _append(self, file: AuditFile, lines: Sequence[bytes]) -> None:
        try:
            moment = time.monotonic()
            if self._looks_always or moment >= self._look_at:
                self._look_at = moment + _LOOK_S
                file.check()
            file.append(b"\n".join([*lines, b""]))
        except FileMovedError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

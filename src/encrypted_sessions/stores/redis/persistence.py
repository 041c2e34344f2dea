"""Whether a server of Redis keeps its rows when it ends, as far as the user may ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .connection import RedisConnection

__all__ = ["persistence_notices"]

_NOTHING_KEPT = (
    "Redis keeps nothing on disk (appendonly no, no save): after a crash, all histories are empty. Turn on"
    " appendonly, or make sure that losing every history is acceptable"
)
_UNSEEN = (
    "it could not be seen whether Redis keeps its rows on disk: the user has no right to ask (ACL SETUSER ..."
    " +info +config|get). Without appendonly or save, all histories are empty after a crash"
)
_NO_FILE = (
    "Redis has no append-only file, and it could not be seen whether it saves snapshots (ACL SETUSER ..."
    " +config|get): without them, all histories are empty after a crash"
)


async def persistence_notices(connection: RedisConnection) -> Sequence[str]:
    """What to know of it: nothing where a file is kept, or snapshots are."""
    info, appendonly, save = await connection.run_if_allowed(
        [("INFO", "persistence"), ("CONFIG", "GET", "appendonly"), ("CONFIG", "GET", "save")]
    )
    appends = _setting(info, "aof_enabled") if appendonly is None else _setting(appendonly, "appendonly")
    if appends in ("1", "yes"):
        return ()
    saves = _setting(save, "save")
    if saves is None:
        return (_UNSEEN if appends is None else _NO_FILE,)
    return () if saves else (_NOTHING_KEPT,)


def _setting(reply: Any, name: str) -> str | None:
    """Of INFO, which is lines, or CONFIG GET, which is a list or a map; None where it is not there."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    if isinstance(reply, dict):
        found = {_text(key): value for key, value in reply.items()}.get(name)
        return None if found is None else _text(found)
    lines = dict(line.partition(":")[::2] for line in _text(reply).splitlines())
    return lines.get(name)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else "" if value is None else str(value)

"""Keys found by SCAN, and the ids of the sessions that they belong to."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from heapq import nsmallest
from typing import Any

from ..whole import is_utf8
from .connection import RedisConnection

__all__ = ["MESSAGES", "SCANNED", "ids_of_sessions", "scan_keys"]

#: How the key of a session's list ends.
MESSAGES = b":messages"

#: How many keys Redis looks at in one step.
SCANNED = 1_000


async def scan_keys(
    connection: RedisConnection, begin: bytes, pattern: bytes, kind: str
) -> AsyncGenerator[list[bytes], None]:
    """The keys of a kind that begin so, and match a pattern from there on, in pages. Unlike KEYS it holds up nobody."""
    pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", begin) + pattern
    cursor: Any = 0
    while True:
        ((cursor, keys),) = await connection.run([("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED, "TYPE", kind)])
        if keys:
            yield keys
        if int(cursor) == 0:
            return


async def ids_of_sessions(
    connection: RedisConnection, key_prefix: bytes, prefix: str, after: str | None, count: int
) -> list[str]:
    """The next ids that begin with `prefix`, after `after`: of sessions that have a list, or a hash without one."""
    last = b"" if after is None else after.encode("utf-8")
    met = set[bytes]()
    for kind, ending in (("list", MESSAGES), ("hash", b"")):
        begin = key_prefix + prefix.encode("utf-8")
        async for keys in scan_keys(connection, begin, b"*" + ending, kind):
            # A prefix may end as a key does.
            ids = [key[len(key_prefix) : len(key) - len(ending)] for key in keys if len(key) >= len(begin + ending)]
            owners = await connection.run([("HGET", key_prefix + one, "session_id") for one in ids], of_any_type=True)
            # Only the hash says whose a key is, which may read the same for two prefixes. A list may have none.
            mine = (b for b, owner in zip(ids, owners, strict=True) if owner == b or (ending and owner is None))
            met.update(one for one in mine if one > last and is_utf8(one))
            if len(met) > 2 * count:
                met = set(nsmallest(count, met))
    return [one.decode("utf-8") for one in nsmallest(count, met)]

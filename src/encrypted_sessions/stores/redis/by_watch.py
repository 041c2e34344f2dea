"""What maintenance does by scripts, done by WATCH, MULTI and EXEC for a user who may run none.

Each function looks at what is watched, and gives the commands of the change with what it will have done. Nothing is
changed between the look and them, or they are not run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis import exceptions

from ...errors import StoreError
from ..whole import StoredRow
from .connection import Command
from .scripts import LOOK_BACK, NOTED_MS

__all__ = ["plan_change", "plan_erasure"]

_KINDS = (b"hash", b"list", b"string")


async def plan_change(
    watched: Any, key: bytes, note: bytes, number: str, changes: Sequence[tuple[StoredRow, bytes]], *, removes: bool
) -> tuple[list[Command], bytes]:
    """As the scripts REPLACE and REMOVE: a 1 or 0 for each row, which is noted beside the list."""
    before = await watched.execute_command("GET", note)
    if before is not None:
        return [], before
    offsets = [row.id.offset for row, _ in changes]
    first = min(offsets)
    try:
        there = await watched.execute_command("LRANGE", key, first, max(offsets))
    except exceptions.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        there = []
    done = bytearray(b"0" * len(changes))
    found: list[tuple[int, bytes]] = []
    lost: defaultdict[object, list[int]] = defaultdict(list)
    for index, (row, new) in enumerate(changes):
        place = row.id.offset - first
        if place < len(there) and there[place] == row.data:
            there[place] = None
            found.append((row.id.offset, new))
            done[index] = ord("1")
        else:
            lost[row.data].append(index)
    if lost and there:
        begin = max(0, first - LOOK_BACK)
        there = (await watched.execute_command("LRANGE", key, begin, first - 1) if first else []) + there
        for place, index in _elsewhere(there, lost):
            found.append((begin + place, changes[index][1]))
            done[index] = ord("1")
    if not found:
        return [], bytes(done)
    mark = b"removed:" + number.encode("ascii")
    commands: list[Command] = [("LSET", key, offset, mark if removes else new) for offset, new in found]
    if removes:
        commands.append(("LREM", key, 0, mark))
    return [*commands, ("SET", note, bytes(done), "PX", NOTED_MS)], bytes(done)


def _elsewhere(there: Sequence[bytes | None], lost: Mapping[object, list[int]]) -> Iterator[tuple[int, int]]:
    """Where elements are that were not at their places: of equal ones, the last place for the first of them."""
    for place in range(len(there) - 1, -1, -1):
        if alike := lost.get(there[place]):
            yield place, alike.pop(0)


async def plan_erasure(
    watched: Any, keys: Sequence[bytes], session_id: str, *, dry_run: bool
) -> tuple[list[Command], list[int]]:
    """As the script ERASE: how many there are of each. Raises StoreError for keys that are somebody else's."""
    for key, expected in zip(keys, _KINDS, strict=True):
        kind = await watched.execute_command("TYPE", key)
        if kind not in (b"none", expected):
            raise _not_ours(key, f"is not a {expected.decode()} but a {kind.decode()}")
    owner = await watched.execute_command("HGET", keys[0], "session_id")
    if owner not in (None, session_id.encode("utf-8")):
        raise _not_ours(keys[0], "belongs to a session with another id")
    found = [
        await watched.execute_command("EXISTS", keys[0]),
        await watched.execute_command("LLEN", keys[1]),
        await watched.execute_command("EXISTS", keys[2]),
    ]
    return [] if dry_run or not any(found) else [("DEL", *keys)], found


def _not_ours(key: bytes, why: str) -> StoreError:
    return StoreError(f"{key.decode('utf-8', 'backslashreplace')} {why}: nothing of that session was removed")

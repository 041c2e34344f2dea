"""Redis: the lists of RedisSession, found by SCAN and changed by scripts, or by WATCH where none may be run.

A session's key is `{prefix}:{session id}`, which may read the same for two prefixes; the hash that
the SDK keeps there says whose it is.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import count as count_from
from itertools import repeat
from typing import Any, NamedTuple

from ..replicas import Replication
from ..time_limits import time_limit_notice
from ..whole import PAGE_BYTES, Block, StoredRow, WholeStore
from .by_watch import plan_erasure
from .changes import ListPosition, ScriptedChanges
from .connection import Command, RedisConnection
from .persistence import persistence_notices
from .replicas import replication_of
from .scripts import ERASE, PART, REMOVE, REPLACE
from .session_ids import MESSAGES, SCANNED, ids_of_sessions, scan_keys

__all__ = ["RedisStore"]

#: Seconds for one command: a server that is stopped keeps its connections and answers nothing.
_TIMEOUT_S = 30.0

#: How many keys are shuffled together, and how many make a block.
_SHUFFLED = 2_000
_BLOCK = 50

#: The most sessions erased in one step, and counted for `count`.
_ERASED = 50
_SAMPLED = 2_000

_shuffle = secrets.SystemRandom().shuffle


class _List(NamedTuple):
    """How long a list is, and how many bytes it takes: -1 where that is not known."""

    length: int
    size: int


class RedisStore(WholeStore):
    """The lists under one prefix."""

    kind = "redis"

    def __init__(self, url: str, key_prefix: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._connection = RedisConnection(url, timeout_s)
        self._run = self._connection.run
        self._changes = ScriptedChanges(self._connection)
        self.location = self._connection.location
        self._prefix = key_prefix.encode("utf-8") + b":"
        # The lists of the block that is being read, as they were when it was begun.
        self._lists: tuple[Block | None, dict[bytes, _List]] = (None, {})
        # The sessions that are being read, and their lists as a block.
        self._sessions: tuple[Sequence[str] | None, Block] = (None, Block((), None))

    async def open(self) -> None:
        """As `WholeStore.open`. A cluster is refused."""
        await self._connection.open()

    async def aclose(self) -> None:
        """As `WholeStore.aclose`."""
        await self._connection.aclose()

    async def clock(self) -> float:
        """As `WholeStore.clock`."""
        ((seconds, microseconds),) = await self._run([("TIME",)])
        return int(seconds) + int(microseconds) / 1e6

    async def notices(self) -> Sequence[str]:
        """As `WholeStore.notices`: where a server that is killed comes back empty, and how sessions' calls end."""
        return [*await persistence_notices(self._connection), time_limit_notice("redis")]

    async def replication(self) -> Replication:
        """As `WholeStore.replication`: by INFO, where the user may ask."""
        return await replication_of(self._connection)

    async def count(self) -> int:
        """As `WholeStore.count`: worked out from some thousand sessions."""
        looked_at = sessions = rows = 0
        async with aclosing(self._pages()) as pages:
            async for keys in pages:
                looked_at += SCANNED
                sessions += len(keys)
                rows += sum(found.length for found in (await self._look(keys, measure=False)).values())
                if sessions >= _SAMPLED:
                    (keys_in_all,) = await self._run([("DBSIZE",)])
                    return max(rows, rows * int(keys_in_all) // looked_at)
        return rows

    async def blocks(self) -> AsyncIterator[Block]:
        """As `WholeStore.blocks`."""
        met: dict[bytes, None] = {}
        async for keys in self._pages():
            met.update(dict.fromkeys(keys))
            if len(met) >= _SHUFFLED:
                for block in _shuffled_blocks(met):
                    yield block
                met = {}
        for block in _shuffled_blocks(met):
            yield block

    async def _pages(self) -> AsyncGenerator[list[bytes], None]:
        """Every list that may be a session's, in pages. SCAN holds up nobody, as KEYS would."""
        async for keys in scan_keys(self._connection, self._prefix, b"?*" + MESSAGES, "list"):
            yield keys

    async def _look(self, keys: Sequence[bytes], *, measure: bool = True) -> dict[bytes, _List]:
        """Those of the lists that are sessions' of this prefix."""
        commands: list[Command] = []
        for key in keys:
            commands += [("LLEN", key), ("HGET", key[: -len(MESSAGES)], "session_id")]
        measures: list[Command] = [("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys if measure]
        replies = await self._run(commands + measures, of_any_type=True)
        lengths, owners, sizes = (
            replies[: len(commands) : 2],
            replies[1 : len(commands) : 2],
            replies[len(commands) :] or [None] * len(keys),
        )
        return {
            key: _List(length, -1 if size is None else size)
            for key, length, owner, size in zip(keys, lengths, owners, sizes, strict=True)
            # The list may have become something else, and the hash may be missing or something else.
            if length is not None and owner in (None, self._session_of(key))
        }

    def _session_of(self, key: bytes) -> bytes:
        return key[len(self._prefix) : -len(MESSAGES)]

    async def rows(self, block: Block, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.rows`."""
        keys: tuple[bytes, ...] = block.first
        if after is None or self._lists[0] is not block:
            self._lists = (block, await self._look(keys))
        lists = self._lists[1]
        ends = {key: found.length for key, found in lists.items()}
        if after is not None:
            keys = keys[keys.index(after.id.key) :]
            ends[after.id.key] = after.id.offset
        found: list[StoredRow] = []
        while not found:
            parts = _last_parts(keys, ends, count)
            if not parts:
                break
            small = self._small_enough(parts, lists)
            if small:
                commands = [("LRANGE", key, first, end - 1) for key, first, end in small]
                for (key, first, _), elements in zip(small, await self._run(commands, of_any_type=True), strict=True):
                    if elements:
                        found += self._stored(key, first, elements)[::-1]
                    ends[key] = first  # nothing is found where a list has become shorter: go on before that
            else:
                key, first, end = parts[0]
                found = await self._part(key, first, end - 1, backwards=True)
                ends[key] = first
        return found

    def _small_enough(
        self, parts: Sequence[tuple[bytes, int, int]], lists: Mapping[bytes, _List]
    ) -> list[tuple[bytes, int, int]]:
        """The first of these parts whose lists are, taken together, no larger than a page."""
        small, left = [], min(PAGE_BYTES, self.max_row_bytes)
        for part in parts:
            size = lists[part[0]].size
            left -= size
            if size < 0 or left < 0:
                break
            small.append(part)
        return small

    async def _part(self, key: bytes, first: int, last: int, *, backwards: bool = False) -> list[StoredRow]:
        """Elements of one list as far as they fit into a page, from the first on, or from the last."""
        command = ("EVAL", PART, 1, key, first, last, PAGE_BYTES, self.max_row_bytes, int(backwards))
        (reply,) = await self._run([command], of_any_type=True)
        if reply is None:  # no script may be run: one by one then, for sizes are not known before
            begin = last if backwards else first
            (elements,) = await self._run([("LRANGE", key, begin, begin)], of_any_type=True)
        else:
            begin, elements = reply
        session_id, step = self._session_of(key).decode("utf-8", "surrogateescape"), -1 if backwards else 1
        return [
            StoredRow(ListPosition(key, begin + step * number), session_id, b"", None, element)
            if isinstance(element, int)
            else StoredRow(ListPosition(key, begin + step * number), session_id, element, None)
            for number, element in enumerate(elements or ())
        ]

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.session_rows`."""
        key = self._prefix + session_id.encode("utf-8") + MESSAGES
        if not await self._look([key], measure=False):
            return []
        first = 0 if after is None else after.id.offset + 1
        return await self._part(key, first, first + count - 1)

    async def session_ids(self, prefix: str, after: str | None, count: int) -> list[str]:
        """As `WholeStore.session_ids`: SCAN goes through all keys for each call."""
        return await ids_of_sessions(self._connection, self._prefix, prefix, after, count)

    async def present(self, session_ids: Sequence[str]) -> set[str]:
        """As `WholeStore.present`."""
        found = await self._run([("EXISTS", *self._keys_of(session_id)) for session_id in session_ids])
        return {session_id for session_id, keys in zip(session_ids, found, strict=True) if keys}

    async def rows_of_sessions(
        self, session_ids: Sequence[str], after: StoredRow | None, count: int
    ) -> list[StoredRow]:
        """As `WholeStore.rows_of_sessions`."""
        if after is None or self._sessions[0] is not session_ids:
            self._sessions = (
                session_ids,
                Block(tuple(self._keys_of(session_id)[1] for session_id in session_ids), None),
            )
        return await self.rows(self._sessions[1], after, count)

    def beyond_reach(self) -> Sequence[str]:
        """As `WholeStore.beyond_reach`."""
        return (
            "replicas that were not connected, or that this user has no right to see",
            "earlier dumps (RDB) and their copies; the append-only file until it is rewritten (BGREWRITEAOF)",
            "commands recorded by MONITOR or in the slow log",
            "logs and traces of the applications and of the model's provider",
        )

    async def later_rows(self, row: StoredRow, last: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.later_rows`: from the newest element back to this one. Places move, and bytes do not."""
        if last is not None and last.data == row.data:
            return []
        found = await self.rows(Block((row.id.key,), None), last, count)
        datas = [one.data for one in found]
        return found[: datas.index(row.data) + 1] if row.data in datas else found

    def _stored(self, key: bytes, first: int, elements: list[bytes]) -> list[StoredRow]:
        session_id = self._session_of(key).decode("utf-8", "surrogateescape")
        positions = map(ListPosition, repeat(key), count_from(first))
        return list(map(StoredRow, positions, repeat(session_id), elements, repeat(None)))

    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        """As `WholeStore.replace`. A time to live of the list stays what it was."""
        return await self._changes.make(REPLACE, [(row, new.encode("utf-8")) for row, new in changes])

    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        """As `WholeStore.remove`. Redis drops a list with its last element; the session's hash stays."""
        return await self._changes.make(REMOVE, [(row, b"") for row in rows])

    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        """As `WholeStore.erase`."""
        found = Counter[str](session=0, messages=0, counter=0)
        for start in range(0, len(session_ids), _ERASED):
            some = session_ids[start : start + _ERASED]
            keys = [self._keys_of(session_id) for session_id in some]
            commands: list[Command] = [
                ("EVAL", ERASE, 3, *three, session_id, int(not dry_run))
                for three, session_id in zip(keys, some, strict=True)
            ]
            counts_of_some = await self._connection.run_scripts(commands)
            if counts_of_some is None:
                counts_of_some = [
                    await self._erase_by_watch(three, session_id, dry_run=dry_run)
                    for three, session_id in zip(keys, some, strict=True)
                ]
            for counts in counts_of_some:
                found.update(dict(zip(found, counts, strict=True)))
        return found

    def _keys_of(self, session_id: str) -> tuple[bytes, bytes, bytes]:
        key = self._prefix + session_id.encode("utf-8")
        return key, key + MESSAGES, key + b":counter"

    async def _erase_by_watch(self, keys: tuple[bytes, bytes, bytes], session_id: str, *, dry_run: bool) -> list[int]:
        async def plan(watched: Any) -> tuple[list[Command], list[int]]:
            return await plan_erasure(watched, keys, session_id, dry_run=dry_run)

        return await self._connection.transact(keys, plan)

    async def checkpoint(self) -> Sequence[str]:
        """As `WholeStore.checkpoint`: memory holds nothing old. Files of Redis are its operator's business."""
        await self._changes.remove_notes()
        return ()


def _last_parts(keys: Sequence[bytes], ends: Mapping[bytes, int], count: int) -> list[tuple[bytes, int, int]]:
    """Which `count` elements come next: of each list, from the first of a part up to where that list ends."""
    parts = []
    for key in keys:
        end = ends.get(key, 0)
        first = max(0, end - count)
        if first < end:
            parts.append((key, first, end))
            count -= end - first
        if count == 0:
            break
    return parts


def _shuffled_blocks(keys: Iterable[bytes]) -> list[Block]:
    shuffled = list(keys)
    _shuffle(shuffled)
    return [Block(tuple(shuffled[start : start + _BLOCK]), None) for start in range(0, len(shuffled), _BLOCK)]

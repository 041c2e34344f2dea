"""Redis: the lists of RedisSession, found by SCAN and changed by scripts.

A session's key is `{prefix}:{session id}`, which may read the same for two prefixes; the hash that
the SDK keeps there says whose it is.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from itertools import count as count_from
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...errors import StoreConfigError, StoreError, StoreUnavailableError
from ..descriptor import StoreNames, StoreUrl
from ..whole import Block, StoredRow, WholeStore
from .scripts import ERASE, REMOVE, REPLACE, note_of

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool, Redis

__all__ = ["ListPosition", "RedisStore", "open_redis"]

_T = TypeVar("_T")
_Command = tuple[object, ...]
#: A row, and what comes in its place.
_Change = tuple[StoredRow, bytes]

_MESSAGES = b":messages"

#: Seconds for one command: a server that is stopped keeps its connections and answers nothing.
_TIMEOUT_S = 30.0
_CONNECT_S = 5.0

#: How many keys Redis looks at in one step, how many are shuffled together, and how many make a block.
_SCANNED = 1_000
_SHUFFLED = 2_000
_BLOCK = 50

#: The most elements that one script changes, the most sessions erased in one step, and counted for `count`.
_CHUNK = 500
_ERASED = 50
_SAMPLED = 2_000

# What passes, though Redis answers it like a wrong command.
_PASSING = ("BUSY ", "LOADING ", "MASTERDOWN ", "NOREPLICAS ", "OOM ", "TRYAGAIN ")

_shuffle = secrets.SystemRandom().shuffle


class ListPosition(NamedTuple):
    """Where an element was: the key of the list, and how many elements were before it."""

    key: bytes
    offset: int


class _Chunk(NamedTuple):
    """The part of a change that one script makes: a list, the change's number, and which of its rows."""

    key: bytes
    number: str
    rows: list[int]


def open_redis(url: StoreUrl, names: StoreNames) -> RedisStore:
    """The store of a Redis database."""
    return RedisStore(url.text, names.key_prefix)


class RedisStore(WholeStore):
    """The lists under one prefix. A cluster is refused: the SDK does not write to one either."""

    def __init__(self, url: str, key_prefix: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._pool = _pool_of(url, timeout_s)
        self.location = f"the Redis database {_shown(self._pool.connection_kwargs)}"
        self._prefix = key_prefix.encode("utf-8") + b":"
        self._client: Redis | None = None
        # A change whose reply was lost: if it is asked for again, it goes out under the same numbers.
        self._in_doubt: tuple[str, Sequence[_Change], list[_Chunk]] | None = None
        self._notes: list[bytes] = []
        # The lists of the block that is being read, with their lengths when it was begun.
        self._lists: tuple[Block | None, dict[bytes, int]] = (None, {})

    async def open(self) -> None:
        """As `WholeStore.open`."""
        from redis.asyncio import Redis  # noqa: PLC0415 - an SDK, when it is used
        from redis.exceptions import NoPermissionError  # noqa: PLC0415 - as above

        self._client = Redis(connection_pool=self._pool)

        async def is_cluster() -> bool:
            try:
                return bool((await self._connected().info("cluster")).get("cluster_enabled"))
            except NoPermissionError:  # then the first command will tell
                return False

        if await self._within_timeout(is_cluster()):
            raise StoreError(f"{self.location} is a cluster, which the SDK's RedisSession does not write to either")

    async def aclose(self) -> None:
        """As `WholeStore.aclose`."""
        self._client = None
        await self._pool.disconnect()

    async def clock(self) -> float:
        """As `WholeStore.clock`."""
        ((seconds, microseconds),) = await self._run([("TIME",)])
        return int(seconds) + int(microseconds) / 1e6

    async def count(self) -> int:
        """As `WholeStore.count`: worked out from some thousand sessions."""
        looked_at = sessions = rows = 0
        async with aclosing(self._pages()) as pages:
            async for keys in pages:
                looked_at += _SCANNED
                sessions += len(keys)
                rows += sum(length for _, length in await self._lengths(keys))
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
        pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", self._prefix) + b"?*" + _MESSAGES
        cursor: Any = 0
        while True:
            ((cursor, keys),) = await self._run([("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED, "TYPE", "list")])
            if keys:
                yield keys
            if int(cursor) == 0:
                return

    async def _lengths(self, keys: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Those of the lists that are sessions' of this prefix, with their lengths."""
        commands: list[_Command] = []
        for key in keys:
            commands += [("LLEN", key), ("HGET", key[: -len(_MESSAGES)], "session_id")]
        replies = await self._run(commands, of_any_kind=True)
        return [
            (key, length)
            for key, length, owner in zip(keys, replies[::2], replies[1::2], strict=True)
            # The list may have become something else, and the hash may be missing or something else.
            if length is not None and owner in (None, self._session_of(key))
        ]

    def _session_of(self, key: bytes) -> bytes:
        return key[len(self._prefix) : -len(_MESSAGES)]

    async def rows(self, block: Block, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.rows`."""
        keys: tuple[bytes, ...] = block.first
        if after is None or self._lists[0] is not block:
            self._lists = (block, dict(await self._lengths(keys)))
        ends = dict(self._lists[1])
        if after is not None:
            keys = keys[keys.index(after.id.key) :]
            ends[after.id.key] = after.id.offset
        found: list[StoredRow] = []
        while not found:
            parts = _last_parts(keys, ends, count)
            if not parts:
                break
            replies = await self._run([("LRANGE", key, first, end - 1) for key, first, end in parts], of_any_kind=True)
            for (key, first, _), elements in zip(parts, replies, strict=True):
                if elements:
                    found += self._stored(key, first, elements)[::-1]
                ends[key] = first  # nothing is found where a list has become shorter: go on before that
        return found

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.session_rows`."""
        key = self._prefix + session_id.encode("utf-8") + _MESSAGES
        if not await self._lengths([key]):
            return []
        first = 0 if after is None else after.id.offset + 1
        (elements,) = await self._run([("LRANGE", key, first, first + count - 1)])
        return self._stored(key, first, elements)

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
        return await self._change(REPLACE, [(row, new.encode("utf-8")) for row, new in changes])

    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        """As `WholeStore.remove`. Redis drops a list with its last element; the session's hash stays."""
        return await self._change(REMOVE, [(row, b"") for row in rows])

    async def _change(self, script: str, changes: Sequence[_Change]) -> list[bool]:
        """Run a script over the rows of each list."""
        if self._in_doubt is None or self._in_doubt[:2] != (script, changes):
            self._in_doubt = (script, changes, list(_chunks(changes)))
        _, _, chunks = self._in_doubt
        commands: list[_Command] = [("UNLINK", *self._notes)] if self._notes else []
        commands += [_command(script, chunk, changes) for chunk in chunks]
        outcomes = (await self._run(commands))[len(commands) - len(chunks) :]
        self._in_doubt = None
        self._notes = [note_of(chunk.key, chunk.number) for chunk in chunks]
        changed = [False] * len(changes)
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            for place, done in zip(chunk.rows, outcome, strict=True):
                changed[place] = done == ord("1")
        return changed

    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        """As `WholeStore.erase`."""
        found = Counter[str](session=0, messages=0, counter=0)
        for start in range(0, len(session_ids), _ERASED):
            commands: list[_Command] = []
            for session_id in session_ids[start : start + _ERASED]:
                key = self._prefix + session_id.encode("utf-8")
                commands.append(
                    ("EVAL", ERASE, 3, key, key + _MESSAGES, key + b":counter", session_id, int(not dry_run))
                )
            for counts in await self._run(commands):
                found.update(dict(zip(found, counts, strict=True)))
        return found

    async def checkpoint(self) -> Sequence[str]:
        """As `WholeStore.checkpoint`: memory holds nothing old. Files of Redis are its operator's business."""
        if self._notes:
            await self._run([("UNLINK", *self._notes)])
            self._notes = []
        return ()

    async def _run(self, commands: Sequence[_Command], *, of_any_kind: bool = False) -> list[Any]:
        """The replies to commands that are sent together; None for a key `of_any_kind` that is of another."""
        if not commands:
            return []
        pipeline = self._connected().pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = await self._within_timeout(pipeline.execute(raise_on_error=not of_any_kind))
        if of_any_kind:
            for place, reply in enumerate(replies):
                if isinstance(reply, Exception):
                    if not str(reply).startswith("WRONGTYPE"):  # what cannot be read is not to pass for empty
                        raise self._problem(reply)
                    replies[place] = None
        return replies

    async def _within_timeout(self, answer: Awaitable[_T]) -> _T:
        from redis.exceptions import RedisError  # noqa: PLC0415 - an SDK, when it is used

        try:
            return await answer
        except (RedisError, OSError) as error:
            problem = self._problem(error)
        raise problem

    def _problem(self, error: Exception) -> StoreError:
        from redis import exceptions  # noqa: PLC0415 - an SDK, when it is used

        # A pipeline puts the command before Redis's own words, with all it holds, and a script its own name behind.
        words = str(error).rpartition(" of pipeline caused error: ")[2].partition(" script: ")[0].strip(" .,'\"()")
        if words.startswith("NOTOURS "):
            return StoreError(f"{self.location}: {words.removeprefix('NOTOURS ')}: nothing of that session was removed")
        text = f"{self.location}: {words or type(error).__name__}"
        passing = (exceptions.OutOfMemoryError, exceptions.ClusterDownError, exceptions.TryAgainError)
        refused = isinstance(error, (exceptions.AuthenticationError, exceptions.ResponseError))
        if refused and not isinstance(error, passing) and not words.startswith(_PASSING):
            return StoreError(f"{text}. See that the user of the URL may run SCAN, EVAL and the commands of lists")
        return StoreUnavailableError(f"{text}. Try again when it answers")

    def _connected(self) -> Redis:
        if self._client is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        return self._client


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


def _chunks(changes: Sequence[_Change]) -> Iterator[_Chunk]:
    by_list: dict[bytes, list[int]] = {}
    for place, (row, _) in enumerate(changes):
        by_list.setdefault(row.id.key, []).append(place)
    for key, places in by_list.items():
        for start in range(0, len(places), _CHUNK):
            yield _Chunk(key, secrets.token_hex(16), places[start : start + _CHUNK])


def _command(script: str, chunk: _Chunk, changes: Sequence[_Change]) -> _Command:
    elements: list[bytes] = []
    lengths: list[str] = []
    for place in chunk.rows:
        (row, new), old = changes[place], changes[place][0].data
        elements += (old, new)  # type: ignore[arg-type] # an element of Redis is bytes
        lengths.append(f"{row.id.offset},{len(old)},{len(new)}")
    places = [changes[place][0].id.offset for place in chunk.rows]
    head = (script, 1, chunk.key, chunk.number, min(places), max(places))
    return ("EVAL", *head, " ".join(lengths), b"".join(elements))


def _shuffled_blocks(keys: Iterable[bytes]) -> list[Block]:
    shuffled = list(keys)
    _shuffle(shuffled)
    return [Block(tuple(shuffled[start : start + _BLOCK]), None) for start in range(0, len(shuffled), _BLOCK)]


def _pool_of(url: str, timeout_s: float) -> ConnectionPool:
    if find_spec("redis") is None:
        raise StoreConfigError("Redis needs redis; pip install 'encrypted-sessions[redis]'")
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - an SDK, when it is used
    from redis.asyncio.retry import Retry  # noqa: PLC0415 - as above
    from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
    from redis.exceptions import ConnectionError as CutError  # noqa: PLC0415 - as above

    try:
        pool = ConnectionPool.from_url(url)
    except (ValueError, TypeError):  # whose words may show a part of the URL
        problem = "the store's URL is none of Redis; write redis://host:6379/0, rediss://... or unix:///path?db=0"
    else:
        options = pool.connection_kwargs
        options.setdefault("socket_timeout", timeout_s)
        options.setdefault("socket_connect_timeout", _CONNECT_S)
        options["decode_responses"] = False  # an element need not be UTF-8
        # A connection may have been cut while it was idle. More patience is the caller's business.
        options["retry"] = Retry(NoBackoff(), 1, supported_errors=(CutError,))
        return pool
    raise StoreConfigError(problem)


def _shown(options: Mapping[str, Any]) -> str:
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{where}/{options.get('db') or 0}"

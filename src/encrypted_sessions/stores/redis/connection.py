"""The connection to a Redis server: commands sent together, and what their errors mean."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ...errors import StoreConfigError, StoreError, StoreUnavailableError
from ..driver_errors import trouble_of, words_of

__all__ = ["Command", "RedisConnection"]

_T = TypeVar("_T")

#: A command and its arguments.
Command = tuple[object, ...]

_CONNECT_TIMEOUT_S = 5.0


class RedisConnection:
    """One database, named by its URL. A cluster is refused: the SDK does not write to one either."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.pool = _pool_of(url, timeout_s)
        self.location = f"the Redis database {_shown(self.pool.connection_kwargs)}"
        self._client: Redis | None = None

    async def open(self) -> None:
        """Connect. Raises StoreError for a cluster."""
        self._client = Redis(connection_pool=self.pool)
        if await self._within_timeout(self._is_cluster()):
            raise StoreError(f"{self.location} is a cluster, which the SDK's RedisSession does not write to either")

    async def _is_cluster(self) -> bool:
        try:
            return bool((await self._connected().info("cluster")).get("cluster_enabled"))
        except exceptions.NoPermissionError:  # then the first command will tell
            return False

    async def aclose(self) -> None:
        """Let go of every connection. May be called again."""
        self._client = None
        await self.pool.disconnect()

    async def run(self, commands: Sequence[Command], *, of_any_type: bool = False) -> list[Any]:
        """The replies to commands that are sent together; None for a key `of_any_type` that is of another.

        Of these also None for what not every user may run, and can do without: to measure, and reading by a script.
        """
        if not commands:
            return []
        pipeline = self._connected().pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = await self._within_timeout(pipeline.execute(raise_on_error=not of_any_type))
        if of_any_type:
            for number, reply in enumerate(replies):
                if isinstance(reply, Exception):
                    if not _can_do_without(commands[number], reply):  # what cannot be read is not to pass for empty
                        raise self._problem(reply)
                    replies[number] = None
        return replies

    async def _within_timeout(self, answer: Awaitable[_T]) -> _T:
        """What the server answers, within the time limits of its connections."""
        try:
            return await answer
        except (exceptions.RedisError, OSError) as error:
            problem = self._problem(error)
        raise problem

    def _problem(self, error: Exception) -> StoreError:
        words = words_of(error).strip(" .,'\"()")
        if words.startswith("NOTOURS "):
            return StoreError(f"{self.location}: {words.removeprefix('NOTOURS ')}: nothing of that session was removed")
        text, trouble = f"{self.location}: {words or type(error).__name__}", trouble_of(error)
        if trouble is not None and not trouble.passes:
            return StoreError(f"{text}. See that the user of the URL may run SCAN, EVAL and the commands of lists")
        return StoreUnavailableError(f"{text}. Try again when it answers")

    def _connected(self) -> Redis:
        if self._client is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        return self._client


def _can_do_without(command: Command, error: Exception) -> bool:
    if str(error).startswith("WRONGTYPE") or command[0] == "MEMORY":
        return True
    return command[0] == "EVAL" and isinstance(error, exceptions.NoPermissionError)


def _pool_of(url: str, timeout_s: float) -> ConnectionPool:
    try:
        pool = ConnectionPool.from_url(url)
    except (ValueError, TypeError):  # whose words may show a part of the URL
        problem = "the store's URL is none of Redis; write redis://host:6379/0, rediss://... or unix:///path?db=0"
    else:
        options = pool.connection_kwargs
        options.setdefault("socket_timeout", timeout_s)
        options.setdefault("socket_connect_timeout", _CONNECT_TIMEOUT_S)
        options["decode_responses"] = False  # an element need not be UTF-8
        # A connection may have been cut while it was idle. To try for longer is the caller's business.
        options["retry"] = Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,))
        return pool
    raise StoreConfigError(problem)


def _shown(options: Mapping[str, Any]) -> str:
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{where}/{options.get('db') or 0}"

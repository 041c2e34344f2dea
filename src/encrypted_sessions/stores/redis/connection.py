"""The connection to a Redis server: commands sent together, and what their errors mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..._support.lots import pause_by_lot
from ...errors import StoreConfigError, StoreError, StoreUnavailableError
from ..driver_errors import trouble_of, words_of
from .rights import forbids_scripts

__all__ = ["Command", "RedisConnection"]

_T = TypeVar("_T")

#: A command and its arguments.
Command = tuple[object, ...]

_CONNECT_TIMEOUT_S = 5.0

#: How often a transaction is tried while others change what it has looked at.
_ATTEMPTS = 1000


class _ScriptsForbiddenError(StoreError):
    """The user may run no scripts: what they do can be done otherwise."""


class RedisConnection:
    """One database, named by its URL. A cluster is refused: the SDK does not write to one either."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.pool = _pool_of(url, timeout_s)
        self.location = f"the Redis database {_shown(self.pool.connection_kwargs)}"
        self._client: Redis | None = None
        self._is_multi_proven = False
        self._may_run_scripts = True

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

    async def run_if_allowed(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands that are sent together; None for one that was refused."""
        pipeline = self._connected().pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = await self._within_timeout(pipeline.execute(raise_on_error=False))
        return [None if isinstance(reply, exceptions.ResponseError) else reply for reply in replies]

    async def run_scripts(self, commands: Sequence[Command]) -> list[Any] | None:
        """The replies to commands that run scripts, among others; None where the user may run none."""
        if self._may_run_scripts:
            try:
                return await self.run(commands)
            except _ScriptsForbiddenError:
                self._may_run_scripts = False
        return None

    async def transact(self, keys: Sequence[bytes], plan: Callable[[Any], Awaitable[tuple[list[Command], _T]]]) -> _T:
        """Run the commands that `plan` gives for what it finds, if nothing of `keys` has changed since; its result.

        `plan` is asked again where something has, or where a reply was lost.
        """
        return await self._within_timeout(self._transact(keys, plan))

    async def _transact(self, keys: Sequence[bytes], plan: Callable[[Any], Awaitable[tuple[list[Command], _T]]]) -> _T:
        client = self._connected()
        if not self._is_multi_proven:
            # Were MULTI forbidden alone, what follows it would be run all the same, command by command.
            async with client.pipeline(transaction=True) as proof:
                proof.execute_command("PING")
                await proof.execute()
            self._is_multi_proven = True
        for _ in range(_ATTEMPTS):
            pipeline: Any = client.pipeline(transaction=True)  # its methods have no types
            async with pipeline as pipe:
                try:
                    await pipe.watch(*keys)
                    commands, result = await plan(pipe)
                    if commands:
                        pipe.multi()
                        for command in commands:
                            pipe.execute_command(*command)
                        await pipe.execute()
                except exceptions.WatchError:
                    await pause_by_lot()
                else:
                    return result
        raise StoreUnavailableError(
            f"{self.location}: other clients changed a list during each of {_ATTEMPTS} attempts"
        )

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
        if isinstance(error, exceptions.ResponseError) and forbids_scripts(error):
            return _ScriptsForbiddenError(text)
        if trouble is None or trouble.passes:
            return StoreUnavailableError(f"{text}. {trouble.advice if trouble else 'Try again when it answers'}")
        if isinstance(error, exceptions.ConnectionError):  # of who may connect, or to whom
            return StoreError(f"{text}. {trouble.advice}")
        rights = "SCAN, EVAL (or WATCH, MULTI and EXEC) and the commands of lists (docs/redis.md)"
        return StoreError(f"{text}. Check that the user in the URL may run {rights}")

    def _connected(self) -> Redis:
        if self._client is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        return self._client


def _can_do_without(command: Command, error: Exception) -> bool:
    if str(error).startswith("WRONGTYPE") or command[0] == "MEMORY":
        return True
    return command[0] == "EVAL" and isinstance(error, exceptions.ResponseError) and forbids_scripts(error)


def _pool_of(url: str, timeout_s: float) -> ConnectionPool:
    try:
        pool = ConnectionPool.from_url(url)
    except (ValueError, TypeError):  # whose words may show a part of the URL
        problem = "the store's URL is not a Redis URL; write redis://host:6379/0, rediss://... or unix:///path?db=0"
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

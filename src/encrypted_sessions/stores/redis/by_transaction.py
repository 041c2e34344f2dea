"""A session's list where no script may be run: WATCH, a look, then MULTI and EXEC if nothing has changed since.

What is sent after MULTI runs as a whole or not at all. A lost reply is asked for again: the note that the same
transaction leaves says whether it took place, and WATCH lets none that is still under way take place after that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import RedisCluster
from redis.client import NEVER_DECODE

from ..._support.lots import pause_by_lot
from ...errors import StoreError, StoreUnavailableError
from ..driver_errors import words_of
from ..rows import Row
from ..sizes import PAGE
from .lists import MOST_FORESEEN, ListAccess, ListPage, Removal, RemovedElement
from .notes import NOTED_MS, note_of

__all__ = ["ListByTransaction"]

#: How often a change looks again because others changed the list after its look.
_ATTEMPTS = 1000

#: The most elements fetched in one step of a list that is known to have none that is too large, and of another.
_STEP, _CAREFUL_STEP = 64, 16

_Command = tuple[object, ...]

#: From what a look at the watched list gave, and from more such looks: the commands of the change, and what to note.
_Plan = Callable[[Any, Any], Awaitable[tuple[list[_Command], int]]]


class ListByTransaction(ListAccess):
    """Transactions over the list at `key`, by connections of the session's client."""

    def __init__(self, client: Callable[[], Any], key: str) -> None:
        self._client = client
        self._key = key
        self._measures = True
        self._is_multi_proven = False

    # -- Reading ------------------------------------------------------------------------------

    async def page(self, upto: int | None, count: int, page_bytes: int, most: int) -> ListPage:
        """As `ListAccess.page`, in steps: a list that moves meanwhile ends it, and whoever walks finds that out."""
        some, longest = await self._steps(count, page_bytes, most)
        places = (-some, -1) if upto is None else (max(0, upto - some + 1), upto)
        length, elements = await self._at_once(("LLEN", self._key), ("LRANGE", self._key, *places))
        last = length - 1 if upto is None else upto
        if last >= length:
            return ListPage(-1, [], 0)
        wanted = min(count, last + 1)
        taken = _Taken(page_bytes, most)
        taken.add(reversed(elements))
        while elements and taken.goes_on(wanted):
            some = taken.next_step(some, longest)
            end = last - len(taken.elements) + 1  # the one that was taken last: it is to be there still
            first = max(last - wanted + 1, end - some)
            elements = await self._at_once(("LRANGE", self._key, first, end))
            if not taken.is_joined_by(elements[0][-1:]):
                break
            elements = elements[0][:-1]
            taken.add(reversed(elements))
        return ListPage(last, taken.elements, wanted)

    async def oldest(self, count: int, page_bytes: int, most: int) -> Sequence[bytes | None]:
        """As `ListAccess.oldest`."""
        some, longest = await self._steps(count, page_bytes, most)
        (elements,) = await self._at_once(("LRANGE", self._key, 0, some - 1))
        taken = _Taken(page_bytes, most)
        taken.add(elements)
        while elements and taken.goes_on(count):
            some = taken.next_step(some, longest)
            begin = len(taken.elements) - 1
            (elements,) = await self._at_once(("LRANGE", self._key, begin, min(count - 1, begin + some)))
            if not taken.is_joined_by(elements[:1]):
                break
            elements = elements[1:]
            taken.add(elements)
        return taken.elements

    async def _steps(self, count: int, page_bytes: int, most: int) -> tuple[int, int]:
        """How many elements the first step may have, and a later one.

        The size of an element cannot be asked for, only that of the list: where it is small, so is each of them.
        """
        if count <= 1:
            return count, 1
        size = await self._size()
        if size is not None and size <= min(page_bytes, most):
            return count, count
        return 1, _STEP if size is not None and size <= most else _CAREFUL_STEP

    async def _size(self) -> int | None:
        """The bytes that the list takes; None where they may not be asked for."""
        if self._measures:
            try:
                return int(await self._client().execute_command("MEMORY", "USAGE", self._key, "SAMPLES", 0) or 0)
            except exceptions.ResponseError:
                self._measures = False
        return None

    async def _at_once(self, *commands: _Command) -> list[Any]:
        """The replies to commands that read, all of one moment."""
        async with self._pipeline() as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = await pipe.execute()
        self._is_multi_proven = True
        return replies

    # -- Changing -----------------------------------------------------------------------------

    async def remove(self, number: str, newest: bytes, rows: Sequence[Row]) -> Removal:
        """As `ListAccess.remove`."""
        outcome, seen = await self._remove(number, newest, rows, 1)
        return Removal(bool(outcome), seen)

    async def remove_one_of(self, number: str, rows: Sequence[Row], tells: int) -> RemovedElement:  # noqa: ARG002 - few come here
        """As `ListAccess.remove_one_of`, of the first of them alone."""
        newest: bytes = rows[0].data  # type: ignore[assignment] # no text comes from Redis
        # What is noted is what a script would note: after a lost reply either may ask what the other one did.
        outcome, seen = await self._remove(number, newest, rows[:1], rows[0].id + 1)
        return RemovedElement(outcome - 1, () if seen is None else (seen,))

    async def _remove(self, number: str, newest: bytes, rows: Sequence[Row], noted: int) -> tuple[int, Row | None]:
        first, seen = min(row.id for row in rows), None
        begin = max(0, first - 1)  # what lies before them is the newest then, if they are all that comes after it

        async def plan(_: Any, elements: list[bytes]) -> tuple[list[_Command], int]:
            nonlocal seen
            seen = None
            if elements[-1:] != [newest] or not all(_is_there(row, begin, elements) for row in rows):
                seen = Row(begin + len(elements) - 1, elements[-1]) if elements else None
                return [], 0
            if len(rows) == len(elements) - (first - begin):
                seen = Row(begin, elements[0]) if begin < first else None
                return [("RPOP", self._key)] * len(rows), noted
            return self._removal(number, rows, -len(rows)), noted

        outcome = await self._change(number, ("LRANGE", self._key, begin, -1), plan)
        return outcome, None if seen is None or len(seen.data) > MOST_FORESEEN else seen  # type: ignore[arg-type] # bytes

    async def remove_any(self, number: str, rows: Sequence[Row]) -> int:
        """As `ListAccess.remove_any`."""
        if not rows:
            return 0
        places = [row.id for row in rows]
        first = min(places)

        async def plan(_: Any, elements: list[bytes]) -> tuple[list[_Command], int]:
            there = [row for row in rows if _is_there(row, first, elements)]
            return self._removal(number, there, len(there)) if there else [], len(there)

        return await self._change(number, ("LRANGE", self._key, first, max(places)), plan)

    async def replace_tail(self, number: str, old: Sequence[bytes], new: Sequence[str]) -> bool:
        """As `ListAccess.replace_tail`."""

        async def plan(watched: Any, length: int) -> tuple[list[_Command], int]:
            begin = length - len(old)
            if begin < 0 or (not old and length):
                return [], 0
            for start in range(0, len(old), PAGE):
                expected = list(old[start : start + PAGE])
                places = (begin + start, begin + start + len(expected) - 1)
                if await watched.execute_command("LRANGE", self._key, *places, **{NEVER_DECODE: True}) != expected:
                    return [], 0
            expires_in = await watched.execute_command("PTTL", self._key)
            commands: list[_Command] = [("LTRIM", self._key, 0, begin - 1) if begin else ("DEL", self._key)]
            commands += [("RPUSH", self._key, element) for element in new]
            if expires_in > 0:
                commands.append(("PEXPIRE", self._key, expires_in))
            return commands, 1

        return bool(await self._change(number, ("LLEN", self._key), plan))

    def _removal(self, number: str, rows: Sequence[Row], count: int) -> list[_Command]:
        """Mark and remove so many, from the tail on where the count is negative."""
        mark = f"removed:{number}"
        marking: list[_Command] = [("LSET", self._key, row.id, mark) for row in rows]
        return [*marking, ("LREM", self._key, count, mark)]

    async def _change(self, number: str, look: _Command, plan: _Plan) -> int:
        """Make the change that is planned on what is watched; the outcome, also when its reply was lost."""
        if not self._is_multi_proven:
            # Were MULTI forbidden alone, what follows it would be run all the same, command by command.
            await self._at_once(("LLEN", self._key))
        note = note_of(self._key.encode("utf-8"), number)
        for attempt in range(_ATTEMPTS):
            try:
                return await self._attempt(note, look, plan)
            except exceptions.WatchError:  # the list has changed, or the connection broke: the next look tells
                if attempt:
                    await pause_by_lot()
        raise StoreUnavailableError(
            f"other Redis clients changed the list during each of {_ATTEMPTS} attempts to change it. Try again"
        )

    async def _attempt(self, note: bytes, look: _Command, plan: _Plan) -> int:
        async with self._pipeline() as pipe:
            before, seen = await _watch(pipe, ("WATCH", self._key, note), ("GET", note), look)
            if before is not None:
                return int(before)
            commands, outcome = await plan(pipe, seen)
            if commands:
                pipe.multi()
                for command in commands:
                    pipe.execute_command(*command)
                pipe.execute_command("SET", note, outcome, "PX", NOTED_MS)
                await pipe.execute()
            return outcome

    @asynccontextmanager
    async def _pipeline(self) -> AsyncIterator[Any]:
        client = self._client()
        if isinstance(client, RedisCluster):
            raise StoreError(
                "on a cluster, a session reads and changes its list only with scripts, and the Redis user may"
                " not run any: ACL SETUSER ... +eval"
            )
        async with client.pipeline(transaction=True) as pipe:
            parse = pipe.parse_response

            async def parse_undecoded(connection: Any, command_name: Any, **options: Any) -> Any:
                return await parse(connection, command_name, **{**options, NEVER_DECODE: True})

            # What comes back from EXEC would be decoded otherwise, and an element need not be UTF-8.
            pipe.parse_response = parse_undecoded
            try:
                yield pipe
            except exceptions.ResponseError as error:
                error.args = (words_of(error),)  # and no part of what was sent
                raise
            finally:
                del pipe.parse_response  # it holds the pipeline, which holds it


async def _watch(pipe: Any, watch: _Command, *looks: _Command) -> list[Any]:
    """Watch, and look, all in one exchange with the server, where redis-py takes one for each of them."""
    pipe.connection = connection = await pipe.connection_pool.get_connection()
    replies: list[Any] = []
    try:
        await connection.send_packed_command(connection.pack_commands([watch, *looks]))
        for command in (watch, *looks):
            try:
                replies.append(await pipe.parse_response(connection, command[0]))
            except exceptions.ResponseError as error:  # and the others are still to be read
                replies.append(error)
    except (exceptions.ConnectionError, exceptions.TimeoutError):  # it was cut while it was idle, perhaps
        await connection.disconnect()
        await pipe.watch(*watch[1:])  # which tries as often as the client is told to
        return [await pipe.execute_command(*look) for look in looks]
    for reply in replies:
        if isinstance(reply, exceptions.ResponseError):
            raise reply
    return replies[1:]


class _Taken:
    """Elements that were fetched, as far as they fit into a page."""

    def __init__(self, page_bytes: int, most: int) -> None:
        self.elements: list[bytes | None] = []
        self._left = page_bytes
        self._most = most
        self._largest = 1
        self._last = b""

    def add(self, elements: Iterable[bytes]) -> None:
        for element in elements:
            if self._left <= 0:
                return
            size = len(element)
            self._last = element
            self._largest = max(self._largest, size)
            if size > self._most:
                self.elements.append(None)
            else:
                self.elements.append(element)
                self._left -= size

    def goes_on(self, wanted: int) -> bool:
        return self._left > 0 and len(self.elements) < wanted

    def next_step(self, some: int, longest: int) -> int:
        """How many come next: more and more, but not more than fit if all are as large as the largest."""
        return max(1, min(4 * some, longest, self._left // self._largest))

    def is_joined_by(self, elements: list[bytes]) -> bool:
        """Whether this is the element that was taken last: then what lies beyond it is what lay there."""
        return elements == [self._last]


def _is_there(row: Row, first: int, elements: Sequence[bytes]) -> bool:
    place: int = row.id - first
    return place < len(elements) and bool(elements[place] == row.data)

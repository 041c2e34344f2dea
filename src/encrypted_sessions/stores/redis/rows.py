"""Rows of the SDK's RedisSession: elements of a list, changed by scripts, or in transactions where none may be run.

Replies are read undecoded, so that a client with `decode_responses=True` can look at a row that is not UTF-8.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from redis import exceptions
from redis.client import NEVER_DECODE

from ..rows import TOO_LARGE, CutPage, RemovedRow, Row, RowStore, bytes_of_page
from ..sizes import PAGE_BYTES
from .by_script import ListByScript
from .by_transaction import ListByTransaction
from .lists import ListAccess
from .rights import forbids_scripts, missing_right, stopped_a_script

if TYPE_CHECKING:
    from agents.extensions.memory import RedisSession

__all__ = ["RedisRows"]

_T = TypeVar("_T")

#: Seconds after which a user who might run no script is tried once more: the right may have been given.
_TRY_SCRIPTS_AGAIN_S = 60.0


class _Connection:
    """How a session's commands reach its server."""

    def __init__(self, session: RedisSession) -> None:
        self._session: Any = session  # what it needs is not public: see stores/__init__

    def client(self) -> Any:
        self._session._check_not_closed()
        return self._session._redis

    async def send(self, *words: object) -> Any:
        return await self.client().execute_command(*words, **{NEVER_DECODE: True})


class RedisRows(RowStore):
    """Rows by their position in the list, which only counts together with their bytes."""

    NEEDS: ClassVar[tuple[str, ...]] = (
        "_check_not_closed",
        "_messages_key",
        "_redis",
        "_serialize_item",
    )
    IDS_ARE_POSITIONS: ClassVar[bool] = True

    def __init__(self, session: RedisSession) -> None:
        self._session: Any = session  # as above
        self._key: str = self._session._messages_key
        connection = _Connection(session)
        self._scripts = ListByScript(connection.send, self._key)
        self._transactions = ListByTransaction(connection.client, self._key)
        self._no_scripts_until = 0.0
        self._foreseen: Row | None = None

    async def _ask(self, question: Callable[[ListAccess], Awaitable[_T]]) -> _T:
        """By script, or in a transaction where the user may run none. Raises an error that names a missing right."""
        if time.monotonic() >= self._no_scripts_until:
            try:
                return await question(self._scripts)
            except exceptions.ResponseError as error:
                problem = None
                if forbids_scripts(error) or stopped_a_script(error):  # a transaction says what stopped it
                    self._no_scripts_until = time.monotonic() + _TRY_SCRIPTS_AGAIN_S
                else:
                    problem = missing_right(error)
                    if problem is None:
                        raise
            if problem is not None:
                raise problem
        try:
            return await question(self._transactions)
        except exceptions.ResponseError as error:
            problem = missing_right(error)
            if problem is None:
                raise
        raise problem

    def reads_end_when_cancelled(self) -> bool:
        """As `RowStore.reads_end_when_cancelled`: the client drops its connection. A transaction may ask once more."""
        return time.monotonic() >= self._no_scripts_until

    async def page(self, upto: Row | None, count: int) -> list[Row]:
        """As `RowStore.page`."""
        place, page_bytes = None if upto is None else upto.id, bytes_of_page(upto)
        newest, elements, wanted = await self._ask(
            lambda access: access.page(place, count, page_bytes, self.max_row_bytes)
        )
        rows = [Row(newest - offset, TOO_LARGE if data is None else data) for offset, data in enumerate(elements)]
        return rows if len(rows) == wanted else CutPage(rows)

    async def remove(self, rows: Sequence[Row], newest: Row) -> bool:
        """As `RowStore.remove`."""
        number, data = _new_number(), newest.data
        found = await self._ask(lambda access: access.remove(number, data, rows))  # type: ignore[arg-type] # bytes
        self._foreseen = found.newest
        return found.done

    def place(self) -> Hashable:
        """As `RowStore.place`: the list, in its database, for one user, who may do the same for all."""
        pool = getattr(self._session._redis, "connection_pool", None)  # a cluster's client has none
        where = getattr(pool, "connection_kwargs", None)
        if not where:
            return id(self)
        # A Sentinel's client is told where to connect, by a name that other Sentinels may have as well.
        sentinel = id(getattr(pool, "sentinel_manager", None)), getattr(pool, "service_name", None)
        return (*sentinel, *(where.get(part) for part in ("host", "port", "path", "db", "username")), self._key)

    def removes_one_of(self) -> bool:
        """As `RowStore.removes_one_of`: by script. A transaction that another one came before has to begin anew."""
        return time.monotonic() >= self._no_scripts_until

    async def remove_one_of(self, rows: Sequence[Row], tells: int) -> RemovedRow:
        """As `RowStore.remove_one_of`."""
        number = _new_number()
        position, newest = await self._ask(lambda access: access.remove_one_of(number, rows, tells))
        return RemovedRow(next((row for row in rows if row.id == position), None), newest)

    def foreseen(self) -> Row | None:
        """As `RowStore.foreseen`: the newest row after the last removal, or that hindered it."""
        row, self._foreseen = self._foreseen, None
        return row

    async def oldest(self, count: int) -> list[Row]:
        """As `RowStore.oldest`."""
        elements = await self._ask(lambda access: access.oldest(count, PAGE_BYTES, self.max_row_bytes))
        return [Row(offset, TOO_LARGE if data is None else data) for offset, data in enumerate(elements)]

    async def remove_any(self, rows: Sequence[Row]) -> int:
        """As `RowStore.remove_any`."""
        number = _new_number()
        return await self._ask(lambda access: access.remove_any(number, rows))

    async def replace_tail(self, expected: Sequence[Row], envelopes: Sequence[dict[str, Any]]) -> bool:
        """As `RowStore.replace_tail`. A time to live of the key stays what it was."""
        number, old = _new_number(), [row.data for row in expected]
        new = [await self._session._serialize_item(envelope) for envelope in envelopes]
        return await self._ask(lambda access: access.replace_tail(number, old, new))  # type: ignore[arg-type] # bytes


def _new_number() -> str:
    """Of a change: the same by whichever way it is made."""
    return os.urandom(16).hex()

"""PostgreSQL, by SQLAlchemy's async engine: the tables of SQLAlchemySession.

Each statement is a transaction of its own, so no row is locked longer than one takes. The SDK's
column created_at has no time zone: it is in that of the connection that wrote it. It is turned into
UTC by the time zone of the connection used here, which is the same unless an application sets one for
its own connections alone; then set it for the role or the database (ALTER ROLE ... SET timezone).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import StoreError, StoreUnavailableError
from ..blocks import Extent, TableStore
from ..descriptor import StoreNames, StoreUrl
from ..tables import Tables, quoted
from ..whole import Block, StoredRow
from .drivers import async_url, errors_of, first_line_of, shown, state_of

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["PostgreSQLStore", "open_postgresql"]

_T = TypeVar("_T")

#: How long one call may take. A server that is stopped keeps its connections and answers nothing.
_TIMEOUT_S = 30.0

# How often a change is tried that PostgreSQL gave up in favour of another (serialization, deadlock).
_ATTEMPTS = 5
_GAVE_WAY = ("40001", "40P01")
# Errors that pass: of connections, of resources, an operator's doing, a lock, and the above.
_PASSING = ("08", "40", "53", "57", "55P03")

# Fewer rows than this are counted, more are taken from the planner's own estimate.
_COUNTED = 100_000

#: How many sessions one step erases.
_SESSIONS = 20


def open_postgresql(url: StoreUrl, names: StoreNames) -> PostgreSQLStore:
    """The store of a PostgreSQL database."""
    tables = Tables(names.sessions_table, names.messages_table)
    return PostgreSQLStore(f"postgresql://{url.rest}", url.driver, tables)


class PostgreSQLStore(TableStore):
    """The rows of one pair of tables, found by the connection's search path."""

    def __init__(self, url: str, driver: str, tables: Tables, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._url = async_url(url, driver)
        self._errors = errors_of(self._url.get_driver_name())
        self.location = f"the PostgreSQL database {shown(self._url)}"
        self._tables = tables
        self._timeout_s = timeout_s
        self._engine: AsyncEngine | None = None
        # Once SQLAlchemy is known to be there.
        from .statements import Statements  # noqa: PLC0415

        self._sql = Statements(tables)

    async def open(self) -> None:
        """As `WholeStore.open`."""
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - an SDK, when it is used

        # Nothing is to be undone when a connection goes back: every statement is over by then.
        self._engine = create_async_engine(
            self._url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, hide_parameters=True
        )
        found = await self._fetch(self._sql.tables)
        self._tables.check({name: set(columns) for name, columns in found}, self.location)

    async def aclose(self) -> None:
        """As `WholeStore.aclose`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def clock(self) -> float:
        """As `WholeStore.clock`."""
        ((seconds,),) = await self._fetch(self._sql.clock)
        return float(seconds)

    async def count(self) -> int:
        """As `WholeStore.count`. A large table is not counted: the planner's estimate will do."""
        ((estimate,),) = await self._fetch(self._sql.estimate, table=quoted(self._tables.messages))
        if estimate >= _COUNTED:
            return int(estimate)
        ((number,),) = await self._fetch(self._sql.count)
        return int(number)

    async def _look(self, first: int, last: int) -> Extent | None:
        (found,) = await self._fetch(self._sql.look, first=first, last=last)
        return None if found[0] is None else Extent(*found)

    async def _between(self, first: int, last: int, count: int) -> list[StoredRow]:
        found = await self._fetch(self._sql.rows, first=first, last=last, count=count)
        return list(map(StoredRow._make, found))

    async def rows_unless(self, block: Block, openings: Sequence[str], count: int) -> list[StoredRow] | int:
        """As `WholeStore.rows_unless`: what need not be looked at does not travel."""
        values = {"first": block.first, "last": block.last, "openings": list(openings), "count": count}
        found = await self._fetch(self._sql.rows_unless, **values)
        if found and found[0][1] is None:
            return int(found[0][0])
        return list(map(StoredRow._make, found))

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.session_rows`."""
        if after is None:
            found = await self._fetch(self._sql.session_rows, session=session_id, count=count)
        else:
            found = await self._fetch(
                self._sql.session_rows_after, session=session_id, time=after.created_at, id=after.id, count=count
            )
        return list(map(StoredRow._make, found))

    async def replace(self, changes: Sequence[tuple[StoredRow, str]]) -> list[bool]:
        """As `WholeStore.replace`."""
        # In one order for all, so that two runs that meet wait for each other, and not in a circle.
        ordered = sorted(changes, key=lambda change: change[0].id)
        ids = await self._changed(self._sql.replace, [row for row, _ in ordered], new=[new for _, new in ordered])
        return [row.id in ids for row, _ in changes]

    async def remove(self, rows: Sequence[StoredRow]) -> list[bool]:
        """As `WholeStore.remove`."""
        ids = await self._changed(self._sql.remove, sorted(rows, key=lambda row: row.id))
        return [row.id in ids for row in rows]

    async def _changed(self, statement: TextClause, rows: Sequence[StoredRow], **values: object) -> set[int]:
        """The ids of those rows that were as they were read."""
        ((ids,),) = await self._fetch(statement, ids=[row.id for row in rows], old=[row.data for row in rows], **values)
        return set(ids or ())

    async def erase(self, session_ids: Sequence[str], *, dry_run: bool = False) -> Mapping[str, int]:
        """As `WholeStore.erase`."""
        found: Counter[str] = Counter()
        for start in range(0, len(session_ids), _SESSIONS):
            some = list(session_ids[start : start + _SESSIONS])
            found.update(await (self._count_traces(some) if dry_run else self._erase(some)))
        return found

    async def _count_traces(self, sessions: list[str]) -> dict[str, int]:
        found = {}
        for table, statement in self._sql.traces.items():
            ((found[table],),) = await self._fetch(statement, sessions=sessions)
        return found

    async def _erase(self, sessions: list[str]) -> Counter[str]:
        async def part(connection: AsyncConnection) -> int:
            return (await connection.execute(self._sql.erase_part, {"sessions": sessions})).rowcount

        async def rest(connection: AsyncConnection) -> dict[str, int]:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                # Who writes to one of these sessions comes before this or after it, not in between.
                await connection.execute(self._sql.lock, {"sessions": sessions})
                return {
                    table: (await connection.execute(statement, {"sessions": sessions})).rowcount
                    for table, statement in self._sql.erase.items()
                }

        found: Counter[str] = Counter()
        # Long histories in parts, so that nobody waits long; what is left, in one step.
        while removed := await self._within_timeout(part):
            found[self._tables.messages] += removed
        found.update(await self._within_timeout(rest))
        return found

    async def checkpoint(self) -> Sequence[str]:
        """As `WholeStore.checkpoint`: vacuuming is PostgreSQL's own business, and its operator's."""
        return ()

    async def _fetch(self, statement: TextClause, **values: object) -> Sequence[Any]:
        async def ask(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(statement, values)).all()

        return await self._within_timeout(ask)

    async def _within_timeout(self, ask: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """What `ask` gives, within the timeout; again where PostgreSQL let another go first."""
        for attempt in range(_ATTEMPTS):
            try:
                return await asyncio.wait_for(self._connected(ask), self._timeout_s)
            except self._errors as error:
                state, problem = state_of(error), self._problem(error)
            if state not in _GAVE_WAY:
                break
            await asyncio.sleep(0.05 * 2**attempt)
        raise problem

    async def _connected(self, ask: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        if self._engine is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        async with self._engine.connect() as connection:
            return await ask(connection)

    def _problem(self, error: BaseException) -> StoreError:
        if isinstance(error, asyncio.TimeoutError):
            return StoreUnavailableError(f"{self.location} did not answer within {self._timeout_s:g} s; try again")
        state, words = state_of(error), first_line_of(error)
        text = f"{self.location}: {words}" + (f" (SQLSTATE {state})" if state else "")
        if state.startswith(_PASSING) or (not state and "authentication" not in words):
            return StoreUnavailableError(f"{text}. Try again when it answers")
        return StoreError(f"{text}. See that the user of the URL may read and write both tables")

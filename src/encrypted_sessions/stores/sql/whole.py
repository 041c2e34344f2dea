"""PostgreSQL, by SQLAlchemy's async engine: the tables of SQLAlchemySession.

Each statement is a transaction of its own, so no row is locked longer than one takes. The SDK's
column created_at has no time zone: it is in that of the connection that wrote it. It is turned into
UTC by the time zone of the connection used here, which is the same unless an application sets one for
its own connections alone; then set it for the role or the database (ALTER ROLE ... SET timezone).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..blocks import Extent, TableStore
from ..replicas import Replication
from ..tables import Tables, quoted
from ..time_limits import time_limit_notice
from ..whole import PAGE_BYTES, Block, Place, SideEffect, StoredRow
from .connection import PostgreSQLConnections
from .drivers import DRIVERS
from .putting_back import put_rows_back
from .replicas import replication_of
from .session_ids import SessionIds, facts_of_sessions
from .statements import PART, Statements

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["PostgreSQLStore"]

#: How long one call may take. A server that is stopped keeps its connections and answers nothing.
_TIMEOUT_S = 30.0

# Fewer rows than this are counted, more are taken from the planner's own estimate.
_COUNTED = 100_000

#: How many sessions one step erases.
_SESSIONS = 20


class PostgreSQLStore(TableStore):
    """The rows of one pair of tables, found by the connection's search path."""

    kind = "postgresql"

    def __init__(self, url: str, driver: str, tables: Tables, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._connections = PostgreSQLConnections(url, driver, timeout_s)
        self._fetch = self._connections.fetch
        self.location = self._connections.location
        self._drivers_of_sessions = (driver,) if driver in DRIVERS else DRIVERS
        self._tables = tables
        self._sql = Statements(tables)
        self._session_ids: SessionIds | None = None
        self._counts_exactly = False

    async def open(self) -> None:
        """As `WholeStore.open`."""
        self._connections.open()
        found = await self._fetch(self._sql.tables)
        self._tables.check({name: set(columns) for name, columns in found}, self.location)

    async def aclose(self) -> None:
        """As `WholeStore.aclose`."""
        await self._connections.aclose()

    async def clock(self) -> float:
        """As `WholeStore.clock`."""
        ((seconds,),) = await self._fetch(self._sql.clock)
        return float(seconds)

    async def notices(self) -> Sequence[str]:
        """As `WholeStore.notices`: how sessions' calls end, by the driver that the URL names, or by each."""
        return [time_limit_notice(*self._drivers_of_sessions)]

    async def side_effects(self) -> Sequence[SideEffect]:
        """As `WholeStore.side_effects`: on the tables, and on their partitions."""
        found = await self._fetch(self._sql.side_effects, tables=[quoted(name) for name in self._tables])
        self._counts_exactly = bool(found)  # no more is changed then than there was
        return [SideEffect(*one) for one in found]

    async def replication(self) -> Replication:
        """As `WholeStore.replication`: by pg_stat_replication and the replication slots."""
        return await replication_of(self._connections, self._sql)

    async def count(self) -> int:
        """As `WholeStore.count`. A large table is not counted: the planner's estimate will do, mostly."""
        ((estimate,),) = await self._fetch(self._sql.estimate, table=quoted(self._tables.messages))
        if estimate >= _COUNTED and not self._counts_exactly:
            return int(estimate)
        ((number,),) = await self._fetch(self._sql.count)
        return int(number)

    async def _look(self, first: int, last: int) -> Extent | None:
        (found,) = await self._fetch(self._sql.look, first=first, last=last)
        return None if found[0] is None else Extent(*found)

    async def _between(self, first: int, last: int, count: int) -> list[StoredRow]:
        return list(map(StoredRow._make, await self._rows(self._sql.rows, first=first, last=last, count=count)))

    async def _rows(self, statement: TextClause, **values: object) -> Sequence[Any]:
        return await self._fetch(statement, most=self.max_row_bytes, page=PAGE_BYTES, **values)

    async def rows_unless(self, block: Block, openings: Sequence[str], count: int) -> list[StoredRow] | int:
        """As `WholeStore.rows_unless`: what need not be looked at does not travel."""
        values = {"first": block.first, "last": block.last, "openings": list(openings), "count": count}
        found = await self._rows(self._sql.rows_unless, **values)
        if found and found[0][1] is None:
            return int(found[0][0])
        return list(map(StoredRow._make, found))

    async def session_rows(self, session_id: str, after: StoredRow | None, count: int) -> list[StoredRow]:
        """As `WholeStore.session_rows`."""
        if after is None:
            found = await self._rows(self._sql.session_rows, session=session_id, count=count)
        else:
            found = await self._rows(
                self._sql.session_rows_after, session=session_id, time=after.created_at, id=after.id, count=count
            )
        return list(map(StoredRow._make, found))

    async def session_ids(self, prefix: str, after: str | None, count: int) -> list[str]:
        """As `WholeStore.session_ids`: from the table of sessions."""
        if self._session_ids is None:
            values = {"sessions": quoted(self._tables.sessions), "messages": quoted(self._tables.messages)}
            ((is_bytewise, has_all),) = await self._fetch(facts_of_sessions, **values)
            self._session_ids = SessionIds(self._tables, is_bytewise=is_bytewise, has_all=has_all)
        statement, bounds = self._session_ids.page(prefix, after)
        return [session_id for (session_id,) in await self._fetch(statement, count=count, **bounds)]

    async def present(self, session_ids: Sequence[str]) -> set[str]:
        """As `WholeStore.present`."""
        return {session_id for (session_id,) in await self._fetch(self._sql.present, sessions=list(session_ids))}

    async def _ids_of(self, session_ids: Sequence[str]) -> list[int]:
        ((ids,),) = await self._fetch(self._sql.ids_of, sessions=list(session_ids))
        return ids or []

    async def _with_ids(self, ids: Sequence[int], session_ids: Sequence[str]) -> list[StoredRow]:
        found = await self._rows(self._sql.with_ids, ids=list(ids), sessions=list(session_ids), count=len(ids))
        return list(map(StoredRow._make, found))

    def beyond_reach(self) -> Sequence[str]:
        """As `WholeStore.beyond_reach`."""
        return (
            "replicas and subscribers that were not connected, or that this role has no right to see",
            "base backups, dumps, snapshots, and the archived log (WAL)",
            "dead versions of rows, until VACUUM removes them",
            "the server's log, if it records statements with their values",
            "logs and traces of the applications and of the model's provider",
        )

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

    async def put_back(self, rows: Sequence[StoredRow], *, dry_run: bool = False) -> list[Place]:
        """As `WholeStore.put_back`."""
        return await put_rows_back(self._connections, self._tables, rows, dry_run=dry_run) if rows else []

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
        while (removed := await self._connections.run(part)) == PART:
            found[self._tables.messages] += removed
        found[self._tables.messages] += removed
        found.update(await self._connections.run(rest))
        return found

    async def checkpoint(self) -> Sequence[str]:
        """As `WholeStore.checkpoint`: vacuuming is PostgreSQL's own business, and its operator's."""
        return ()

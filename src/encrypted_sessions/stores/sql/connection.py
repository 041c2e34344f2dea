"""Connections to a PostgreSQL database: every call in its time, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from ...errors import StoreError, StoreUnavailableError
from ..driver_errors import sqlstate_of, trouble_of, words_of
from .drivers import async_url, driver_errors

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["PostgreSQLConnections"]

_T = TypeVar("_T")

# How often a change is tried that PostgreSQL gave up in favour of another (serialization, deadlock).
_ATTEMPTS = 5
_GAVE_WAY = ("40001", "40P01")

_ADVICE = "Check that the user in the URL may read and write both tables"


class PostgreSQLConnections:
    """A pool of connections on which each statement is a transaction of its own."""

    def __init__(self, url: str, driver: str, timeout_s: float) -> None:
        self.url = async_url(url, driver)
        self.location = f"the PostgreSQL database {_shown(self.url)}"
        # SQLAlchemy does not wrap all that a driver raises while it connects.
        self._errors: tuple[type[BaseException], ...] = (
            SQLAlchemyError,
            OSError,
            asyncio.TimeoutError,
            *driver_errors(self.url.get_driver_name()),
        )
        self._timeout_s = timeout_s
        self._engine: AsyncEngine | None = None

    def open(self) -> None:
        """Make the pool; the first call connects."""
        # Nothing is to be undone when a connection goes back: every statement is over by then.
        self._engine = create_async_engine(
            self.url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, hide_parameters=True
        )

    async def aclose(self) -> None:
        """Let go of every connection. May be called again."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def fetch(self, statement: TextClause, **values: object) -> Sequence[Any]:
        """All rows that a statement gives."""

        async def execute(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(statement, values)).all()

        return await self.run(execute)

    async def run(self, work: Callable[[AsyncConnection], Awaitable[_T]], advice: str = _ADVICE) -> _T:
        """What `work` gives, within the timeout; again where PostgreSQL let another go first.

        `advice` is what to do where waiting does not mend what goes wrong.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return await asyncio.wait_for(self._connected(work), self._timeout_s)
            except self._errors as error:
                state, problem = sqlstate_of(error), self._problem(error, advice)
            if state not in _GAVE_WAY:
                break
            await asyncio.sleep(0.05 * 2**attempt)
        raise problem

    async def _connected(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        if self._engine is None:
            raise RuntimeError("the store is not open; use it in 'async with'")
        async with self._engine.connect() as connection:
            return await work(connection)

    def _problem(self, error: BaseException, advice: str) -> StoreError:
        if isinstance(error, asyncio.TimeoutError):
            return StoreUnavailableError(f"{self.location} did not answer within {self._timeout_s:g} s; try again")
        state, trouble = sqlstate_of(error), trouble_of(error)
        text = f"{self.location}: {words_of(error)}" + (f" (SQLSTATE {state})" if state else "")
        if trouble is None or trouble.passes:
            return StoreUnavailableError(f"{text}. {trouble.advice if trouble else 'Try again when it answers'}")
        return StoreError(f"{text}. {advice}")


def _shown(url: URL) -> str:
    """Where the database is: no user, no password, no option."""
    port = f":{url.port}" if url.port else ""
    return f"{url.host or 'localhost'}{port}/{url.database or ''}"

"""Which driver leads to PostgreSQL, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...errors import StoreConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = ["async_url", "errors_of", "first_line_of", "shown", "state_of"]

_DRIVERS = ("asyncpg", "psycopg")


def async_url(url: str, driver: str) -> URL:
    """The URL with the driver that it names if that is an async one, else with one that is installed."""
    parsed = _parsed(url)
    named = driver if driver in _DRIVERS else None
    # Options as libpq knows them are psycopg's.
    wanted = [named] if named else sorted(_DRIVERS, reverse=bool(parsed.query))
    installed = [name for name in wanted if find_spec(name)]
    if not installed:
        raise StoreConfigError(f"PostgreSQL needs a driver; pip install {wanted[0]} 'encrypted-sessions[sql]'")
    if installed[0] == "asyncpg" and not named:
        parsed = _with_options_of_asyncpg(parsed)
    return parsed.set(drivername=f"postgresql+{installed[0]}")


def _parsed(url: str) -> URL:
    if find_spec("sqlalchemy") is None:
        raise StoreConfigError("PostgreSQL needs sqlalchemy; pip install 'encrypted-sessions[sql]'")
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - an SDK, when it is used
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - as above

    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # whose words show the URL
        problem = "the store's URL is none of PostgreSQL; write postgresql://user@host:5432/database"
    raise StoreConfigError(problem)


def _with_options_of_asyncpg(url: URL) -> URL:
    options = dict(url.query)
    if "sslmode" in options:
        options["ssl"] = options.pop("sslmode")
    others = sorted(options.keys() - {"ssl"})
    if others:
        raise StoreConfigError(
            f"asyncpg takes no {', '.join(others)} in a URL; leave it out, or pip install psycopg, which knows"
            " all options of libpq"
        )
    return url.set(query=options)


def errors_of(driver: str) -> tuple[type[BaseException], ...]:
    """What can go wrong on the way to the database. SQLAlchemy does not wrap all that a driver raises."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - an SDK, when it is used

    ways: tuple[type[BaseException], ...] = (SQLAlchemyError, OSError, asyncio.TimeoutError)
    if driver == "asyncpg":
        import asyncpg  # type: ignore[import-untyped] # noqa: PLC0415 - it ships no types; when it is used

        return (*ways, asyncpg.PostgresError, asyncpg.InterfaceError)
    import psycopg  # noqa: PLC0415 - an SDK, when it is used

    return (*ways, psycopg.Error)


def state_of(error: BaseException) -> str:
    """The five characters by which PostgreSQL tells errors apart; empty if it had no say."""
    original = getattr(error, "orig", None) or error
    return str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")


def first_line_of(error: BaseException) -> str:
    """What went wrong, in the driver's words. Further lines can quote a row."""
    original = getattr(error, "orig", None) or error
    line = (str(original).strip() or type(original).__name__).splitlines()[0]
    return line.rpartition("'>: ")[2].strip().rstrip(".")


def shown(url: URL) -> str:
    """Where the database is: no user, no password, no option."""
    port = f":{url.port}" if url.port else ""
    return f"{url.host or 'localhost'}{port}/{url.database or ''}"

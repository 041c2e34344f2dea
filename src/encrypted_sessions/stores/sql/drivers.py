"""Which driver leads to PostgreSQL."""

from __future__ import annotations

from importlib.util import find_spec

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ...errors import StoreConfigError

__all__ = ["DRIVERS", "async_url", "driver_errors"]

DRIVERS = ("asyncpg", "psycopg")


def async_url(url: str, driver: str) -> URL:
    """The URL with the driver that it names if that is an async one, else with one that is installed."""
    parsed = _parsed(url)
    named = driver if driver in DRIVERS else None
    # Options as libpq knows them are psycopg's.
    wanted = [named] if named else sorted(DRIVERS, reverse=bool(parsed.query))
    installed = [name for name in wanted if find_spec(name)]
    if not installed:
        raise StoreConfigError(f"PostgreSQL needs a driver; pip install {wanted[0]} 'encrypted-sessions[sql]'")
    if installed[0] == "asyncpg" and not named:
        parsed = _with_options_of_asyncpg(parsed)
    return parsed.set(drivername=f"postgresql+{installed[0]}")


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # whose words show the URL
        problem = "the store's URL is not a PostgreSQL URL; write postgresql://user@host:5432/database"
    raise StoreConfigError(problem)


def _with_options_of_asyncpg(url: URL) -> URL:
    options = dict(url.query)
    if "sslmode" in options:
        options["ssl"] = options.pop("sslmode")
    others = sorted(options.keys() - {"ssl"})
    if others:
        raise StoreConfigError(
            f"asyncpg does not accept {', '.join(others)} in a URL; leave it out, or pip install psycopg,"
            " which accepts all options of libpq"
        )
    return url.set(query=options)


def driver_errors(driver: str) -> tuple[type[Exception], ...]:
    """What that driver raises while it connects, which SQLAlchemy passes on as it is."""
    if driver != "asyncpg":
        return ()
    import asyncpg  # type: ignore[import-untyped] # noqa: PLC0415 - it ships no types; only if it is installed

    return (asyncpg.PostgresError, asyncpg.InterfaceError)

"""The settings that docs and doctor give for drivers exist, end a call, and are the same in both."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from encrypted_sessions.stores.time_limits import TIME_LIMITS, time_limit_notice
from encrypted_sessions.stores.urls import open_store as open_whole

_PAGE = Path(__file__).parents[2] / "docs" / "failures.md"

#: Far less than the minute that is asked for.
_LIMIT_S, _PATIENCE_S = 0.3, 20.0


def settings_of(driver: str) -> dict[str, Any]:
    """What a session is given by these settings, with a limit that is over soon."""
    found = re.fullmatch(r"\w+=(\{.*\})", TIME_LIMITS[driver])
    assert found
    assert len(re.findall(r"\b20(?=[s,}\"])", found[1])) == 1
    settings: dict[str, Any] = ast.literal_eval(
        found[1]
        .replace("20s", f"{int(_LIMIT_S * 1000)}ms")
        .replace("=20", f"={_LIMIT_S}")
        .replace(": 20", f": {_LIMIT_S}")
    )
    return settings


def test_the_page_of_failures_has_the_same():
    table = re.findall(r"^\| `(\w+)` \| (\w+) \| `(.*)` \|$", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {driver: settings for _, driver, settings in table} == dict(TIME_LIMITS)
    assert {session for session, driver, _ in table if driver != "redis"} == {"SQLAlchemySession"}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_call_of_postgresql_ends_at_the_server_too(postgres_url: str, driver: str):
    from sqlalchemy.ext.asyncio import create_async_engine

    url = postgres_url.replace("+asyncpg", f"+{driver}")
    await _takes_too_long(create_async_engine(url, **settings_of(driver)), "SELECT pg_sleep(60)")
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        ends = time.monotonic() + _PATIENCE_S
        while (await connection.execute(text(sleeping))).scalar_one():
            assert time.monotonic() < ends
    await engine.dispose()


@pytest.mark.parametrize("driver", ["aiomysql", "asyncmy"])
async def test_a_call_of_mariadb_ends(mariadb_url: str, driver: str):
    from sqlalchemy.ext.asyncio import create_async_engine

    pytest.importorskip(driver)
    url = mariadb_url.replace("+pymysql", f"+{driver}")
    await _takes_too_long(create_async_engine(url, **settings_of(driver)), "SELECT SLEEP(60) FROM seq_1_to_2")


async def _takes_too_long(engine: Any, statement: str) -> None:
    began = time.monotonic()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each driver has one of its own
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    assert re.search("cancel|time", repr(caught.value), re.IGNORECASE)
    assert time.monotonic() - began < _PATIENCE_S
    await engine.dispose()


async def test_a_call_of_redis_ends(redis_url: str):
    import redis.asyncio
    from redis.exceptions import TimeoutError as RedisTimeoutError

    async with redis.asyncio.from_url(redis_url, **settings_of("redis")) as client:
        began = time.monotonic()
        with pytest.raises(RedisTimeoutError):
            await client.blpop(["nothing"], timeout=60)
        assert time.monotonic() - began < _PATIENCE_S


@pytest.mark.parametrize(
    ("url", "drivers"),
    [
        ("postgresql+asyncpg://user@host/name", ["asyncpg"]),
        ("postgresql+psycopg://user@host/name", ["psycopg"]),
        ("postgresql+psycopg2://user@host/name", ["asyncpg", "psycopg"]),
        ("postgresql://user@host/name", ["asyncpg", "psycopg"]),
    ],
)
async def test_doctor_gives_the_settings_of_the_driver_that_a_url_names(url: str, drivers: list[str]):
    assert list(await open_whole(url).notices()) == [time_limit_notice(*drivers)]
    for driver in drivers:
        assert TIME_LIMITS[driver] in time_limit_notice(*drivers)


async def test_doctor_gives_that_of_redis(redis_url: str):
    async with open_whole(redis_url) as store:
        assert list(await store.notices())[-1] == time_limit_notice("redis")

"""With which settings drivers end a call at the server, too: `store_timeout_s` only ends the waiting for it.

For whoever makes a session's store: this library opens none for sessions. docs/failures.md shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["TIME_LIMITS", "time_limit_notice"]

#: From a driver to what `SQLAlchemySession.from_url` or `RedisSession.from_url` takes: a little less than the 30 s that
#: sessions wait.
TIME_LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "asyncpg": 'engine_kwargs={"pool_timeout": 10, "connect_args": {"command_timeout": 20, "timeout": 10}}',
        "psycopg": (
            'engine_kwargs={"pool_timeout": 10, "connect_args": {"connect_timeout": 10,'
            ' "options": "-c statement_timeout=20s"}}'
        ),
        "aiomysql": (
            'engine_kwargs={"pool_timeout": 10, "connect_args": {"connect_timeout": 10,'
            ' "init_command": "SET SESSION max_statement_time=20"}}'
        ),
        "asyncmy": 'engine_kwargs={"pool_timeout": 10, "connect_args": {"read_timeout": 20, "connect_timeout": 10}}',
        "redis": 'redis_kwargs={"socket_timeout": 20, "socket_connect_timeout": 10}',
    }
)


def time_limit_notice(*drivers: str) -> str:
    """The notice of a store that sessions reach by one of these drivers."""
    settings = " or ".join(f"{TIME_LIMITS[driver]} ({driver})" for driver in drivers)
    return (
        "store_timeout_s of a session only ends the waiting; to end a call on the server too, give the driver"
        f" {settings}"
    )

"""Servers that the matrix has of its own, one set a worker: they cost milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from encrypted_sessions_tests.redis_servers import TlsRedisServer, WatchedRedis
from encrypted_sessions_tests.servers import Server


@pytest.fixture(scope="session")
def _lasting_redis(_redis: Server) -> Iterator[TlsRedisServer]:  # which skips where there is no Redis
    with TlsRedisServer() as server:
        yield server


@pytest.fixture
def lasting_redis(_lasting_redis: TlsRedisServer) -> Iterator[TlsRedisServer]:
    """Redis that keeps its rows and its users when it is killed, with and without TLS. It runs again after the test."""
    yield _lasting_redis
    _lasting_redis.restore()


@pytest.fixture(scope="session")
def _watched_redis(_redis: Server) -> Iterator[WatchedRedis]:
    with WatchedRedis() as servers:
        yield servers


@pytest.fixture
def watched_redis(request: pytest.FixtureRequest) -> Iterator[WatchedRedis]:
    """A primary, its replica and a Sentinel: this test's own, if it makes them fail over."""
    if request.node.get_closest_marker("private_servers") is None:
        yield request.getfixturevalue("_watched_redis")
        return
    request.getfixturevalue("_redis")
    with WatchedRedis() as servers:
        yield servers

"""Fixtures that every test may use, and what holds for the whole run."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from encrypted_sessions_tests.servers import MariaDbServer, PostgresServer, ProgramMissingError, RedisServer, Server

# The SDK would try to send traces of scripted conversations over the network.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

# No deadline: no timing is asserted. No database: a run leaves nothing behind.
settings.register_profile("project", deadline=None, database=None)
settings.load_profile("project")

SERVERS_REQUIRED = os.environ.get("ENCRYPTED_SESSIONS_REQUIRE_SERVERS", "").split(",")


def pytest_report_header() -> list[str]:
    """Say which copy is under test: the tree's or an installed one."""
    found = {name: importlib.util.find_spec(name) for name in ("encrypted_sessions", "keyproviders")}
    return [f"{name}: {spec.origin if spec else 'not installed'}" for name, spec in found.items()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the logs of the servers that it used."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Server):
                report.sections.append((f"{value.name} log", value.log_tail()))
    return report


def _running(make_server: type[Server]) -> Iterator[Server]:
    try:
        server = make_server()
    except ProgramMissingError as missing:
        if make_server.name in SERVERS_REQUIRED or "1" in SERVERS_REQUIRED:
            pytest.fail(f"ENCRYPTED_SESSIONS_REQUIRE_SERVERS says that {make_server.name} must be there, but {missing}")
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Server]:
    yield from _running(PostgresServer)


@pytest.fixture(scope="session")
def _mariadb() -> Iterator[Server]:
    yield from _running(MariaDbServer)


@pytest.fixture(scope="session")
def _redis() -> Iterator[Server]:
    yield from _running(RedisServer)


@pytest.fixture(scope="session")
def postgres_url(_postgres: Server) -> str:
    """`postgresql+asyncpg://…`: this worker's own server, with one empty database."""
    return _postgres.url


@pytest.fixture(scope="session")
def mariadb_url(_mariadb: Server) -> str:
    """`mysql+pymysql://…`: this worker's own server, with one empty database."""
    return _mariadb.url


@pytest.fixture(scope="session")
def redis_url(_redis: Server) -> str:
    """`redis://127.0.0.1:PORT/0`: this worker's own server."""
    return _redis.url


@pytest.fixture
def postgres_server(_postgres: Server) -> Iterator[Server]:
    """The server behind `postgres_url`, to pause, resume, kill and start. It runs again after the test."""
    yield _postgres
    _postgres.restore()


@pytest.fixture
def mariadb_server(_mariadb: Server) -> Iterator[Server]:
    """The server behind `mariadb_url`, likewise."""
    yield _mariadb
    _mariadb.restore()


@pytest.fixture
def redis_server(_redis: Server) -> Iterator[Server]:
    """The server behind `redis_url`, likewise; if it was killed, it is empty afterwards."""
    yield _redis
    _redis.restore()

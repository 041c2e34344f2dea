"""Fixtures that every test may use, and what holds for the whole run."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from encrypted_sessions_tests.databases import new_mariadb_database, new_postgres_database
from encrypted_sessions_tests.openbao import StoredOpenBaoServer, make_certificate
from encrypted_sessions_tests.sealed_rows import Sealer
from encrypted_sessions_tests.servers import MariaDbServer, PostgresServer, ProgramMissingError, RedisServer, Server
from encrypted_sessions_tests.shared_servers import Address, ServerHost, worker_number
from encrypted_sessions_tests.soak import FULL, Rounds, Seed, examples, is_soak
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.whole_stores import MAINTAINED

# The SDK would try to send traces of scripted conversations over the network.
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

# No deadline: no timing is asserted. No database: a run leaves nothing behind.
settings.register_profile("project", deadline=None, database=None, max_examples=examples(100))
settings.load_profile("project")

SERVERS_REQUIRED = os.environ.get("ENCRYPTED_SESSIONS_REQUIRE_SERVERS", "").split(",")

HOST = pytest.StashKey[ServerHost]()
ADDRESS = pytest.StashKey[Address]()


def pytest_configure(config: pytest.Config) -> None:
    """Have the servers of the run started by the process that outlives all others; workers ask it."""
    worker = getattr(config, "workerinput", None)
    if worker is not None or config.getoption("dist", "no") == "no":
        _ignore_signals_without_inheritance()
    if worker is None:
        # A build that is cancelled ends as one that is interrupted: with its servers.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        config.stash[HOST] = ServerHost()
        config.stash[ADDRESS] = config.stash[HOST].address
        _trust_nobody_else(Path(config.stash[ADDRESS].folder))
    else:
        config.stash[ADDRESS] = Address(*worker["address_of_servers"])
    Server.parent_folder = config.stash[ADDRESS].folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: two more than cores, since tests wait for servers and programs, but no crowd."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8) + 2


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make test-soak` need not collect ten thousand tests to find two hundred."""
    if config.getoption("-m") != "soak" or FULL or not collection_path.match("test_*.py"):
        return None
    return None if _speaks_of_soak(collection_path) else True


@functools.cache
def _speaks_of_soak(path: Path) -> bool:
    return "soak" in path.read_text(encoding="utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Begin with what takes long, or all workers but one would wait for it in the end.

    Of the tests in their order, xdist gives each worker an equal part to begin with.
    """
    unseen = {item.path for item in items if item.get_closest_marker("soak") and not _speaks_of_soak(item.path)}
    if unseen and not FULL:
        raise pytest.UsageError(f"`make test-soak` would pass over these, which do not name it: {unseen}")
    yield
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    parts = []
    for worker in range(workers):
        part = long[worker::workers]
        more = max(0, (len(items) - len(parts)) // (workers - worker) - len(part))
        parts += [*part, *rest[:more]]
        del rest[:more]
    items[:] = parts + rest


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a new worker of xdist where to ask for servers."""
    node.workerinput["address_of_servers"] = tuple(node.config.stash[ADDRESS])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers, however the run has ended."""
    if HOST in config.stash:
        config.stash[HOST].close()


def _trust_nobody_else(folder: Path) -> None:
    """Have all that asks for this system's certificate authorities get a single one, which signs for nobody.

    No test speaks to a server outside. To read all authorities takes 40 ms, as often as a client of MariaDB connects.
    """
    certificate, key = make_certificate(folder, "nobody")
    key.unlink()
    os.environ |= {"SSL_CERT_FILE": str(certificate), "SSL_CERT_DIR": os.devnull}


def _ignore_signals_without_inheritance() -> None:
    """In a process that runs tests: go on ignoring what nohup and background jobs ignore, but keep it to oneself.

    A program that is started inherits that a signal is ignored, and it does not inherit a handler. Tests send
    such signals to what they start.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_report_header() -> list[str]:
    """Say which copy is under test: the tree's or an installed one."""
    found = {name: importlib.util.find_spec(name) for name in ("encrypted_sessions", "keyproviders")}
    return [f"{name}: {spec.origin if spec else 'not installed'}" for name, spec in found.items()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the logs of the servers that it used, and the seed of its random moments."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Server):
                report.sections.append((f"{value.name} log", value.log_tail()))
            elif isinstance(value, Seed):
                report.sections.append(("seed", value.how_to_replay(item.nodeid)))
    return report


@pytest.fixture(params=MAINTAINED)
def place(request: pytest.FixtureRequest) -> StoreLocation:
    """One of each kind of store that maintenance works on."""
    return new_place(request.param, request)


@pytest.fixture
def file(request: pytest.FixtureRequest) -> StoreLocation:
    """One that is quick, where the kind of store makes no difference."""
    return new_place("sqlite", request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    """Keys of every fate, and the rows that they seal."""
    sealer = Sealer()
    yield sealer
    sealer.ring.close()


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Rounds:
    """How many rounds of kills, races or load this test does."""
    return Rounds(many=is_soak(request))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> Seed:
    """Of the moments at which this test kills."""
    return Seed.of(request.node.nodeid)


def _missing(name: str, missing: ProgramMissingError) -> None:
    if name in SERVERS_REQUIRED or "1" in SERVERS_REQUIRED:
        pytest.fail(f"ENCRYPTED_SESSIONS_REQUIRE_SERVERS says that {name} must be there, but {missing}")
    pytest.skip(str(missing))


def shared_server(config: pytest.Config, name: str) -> Server:
    """The server of this name that all workers use."""
    try:
        return config.stash[ADDRESS].server(name)
    except ProgramMissingError as missing:
        _missing(name.partition("-")[0], missing)
        raise


def private_server(make_server: Callable[..., Server], *arguments: object) -> Iterator[Server]:
    """A server of this worker's own."""
    try:
        server = make_server(*arguments)
    except ProgramMissingError as missing:
        name: str = getattr(make_server, "name", "")
        _missing(name.partition("-")[0], missing)
        raise
    with server:
        yield server


# -- Shared by all workers, each of which has a database of its own -------------------------------


@pytest.fixture(scope="session")
def _postgres(pytestconfig: pytest.Config) -> Server:
    return shared_server(pytestconfig, "postgres")


@pytest.fixture(scope="session")
def _mariadb(pytestconfig: pytest.Config) -> Server:
    return shared_server(pytestconfig, "mariadb")


@pytest.fixture(scope="session")
def _redis(pytestconfig: pytest.Config) -> Server:
    return shared_server(pytestconfig, "redis")


@pytest.fixture(scope="session")
def _openbao(pytestconfig: pytest.Config) -> Server:
    return shared_server(pytestconfig, "openbao")


@pytest.fixture(scope="session")
def _audited_openbao(pytestconfig: pytest.Config) -> Server:
    return shared_server(pytestconfig, "openbao-audit")


@pytest.fixture(scope="session")
def _postgres_database(_postgres: Server) -> str:
    return new_postgres_database(_postgres.url, f"worker_{worker_number()}")


@pytest.fixture(scope="session")
def _mariadb_database(_mariadb: Server) -> str:
    return new_mariadb_database(_mariadb.url, f"worker_{worker_number()}")


# -- A worker's own, for tests that are marked private_servers ------------------------------------


@pytest.fixture(scope="session")
def _private_postgres() -> Iterator[Server]:
    yield from private_server(PostgresServer)


@pytest.fixture(scope="session")
def _private_mariadb() -> Iterator[Server]:
    yield from private_server(MariaDbServer)


@pytest.fixture(scope="session")
def _private_redis() -> Iterator[Server]:
    yield from private_server(RedisServer)


@pytest.fixture(scope="session")
def _private_openbao() -> Iterator[Server]:
    yield from private_server(StoredOpenBaoServer)


def _is_private(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("private_servers") is not None


def _restored(name: str, request: pytest.FixtureRequest) -> Iterator[Server]:
    if not _is_private(request):
        pytest.fail("only a test that is marked private_servers has a server to stop")
    server: Server = request.getfixturevalue(f"_private_{name}")
    yield server
    server.restore()


@pytest.fixture(scope="session")
def new_server() -> Callable[..., AbstractContextManager[Any]]:
    """For a class of servers and its arguments: one that runs, for tests that need several which know each other."""
    return contextlib.contextmanager(private_server)


# -- What tests ask for ---------------------------------------------------------------------------


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> str:
    """`postgresql+asyncpg://…`: a database that no test uses at the same time."""
    if _is_private(request):
        return str(request.getfixturevalue("_private_postgres").url)
    return str(request.getfixturevalue("_postgres_database"))


@pytest.fixture
def postgres_programs(_postgres: PostgresServer) -> Path:
    """The folder of PostgreSQL's programs, psql among them."""
    return _postgres.programs


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's program that tests rules."""
    program = shutil.which("promtool")
    if program is None:
        _missing("promtool", ProgramMissingError("promtool is not installed (on Debian: apt-get install prometheus)"))
        raise FileNotFoundError
    return program


@pytest.fixture
def mariadb_url(request: pytest.FixtureRequest) -> str:
    """`mysql+pymysql://…`: likewise."""
    if _is_private(request):
        return str(request.getfixturevalue("_private_mariadb").url)
    return str(request.getfixturevalue("_mariadb_database"))


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """`redis://127.0.0.1:PORT/NUMBER`: likewise."""
    if _is_private(request):
        return str(request.getfixturevalue("_private_redis").url)
    return f"{request.getfixturevalue('_redis').url.rpartition('/')[0]}/{worker_number()}"


@pytest.fixture
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server behind `postgres_url`, to pause, resume, kill and start. It runs again after the test."""
    yield from _restored("postgres", request)


@pytest.fixture
def mariadb_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server behind `mariadb_url`, likewise."""
    yield from _restored("mariadb", request)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server behind `redis_url`, likewise; if it was killed, it is empty afterwards."""
    yield from _restored("redis", request)

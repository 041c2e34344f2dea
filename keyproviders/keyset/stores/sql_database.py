"""A database as a DSN names it: its label for messages, the driver, the time-outs, the engine."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote, unquote, urlsplit

from ..._support.extras import import_sdk
from ..._support.redaction import redact_frames
from ..._support.strictness import is_strict
from ..._support.text import single_line
from ..._support.transport_security import is_loopback, warn_insecure_transport
from ...errors import KeyAccessDeniedError, ProviderConfigError

__all__ = ["Database"]

_CONNECT_TIMEOUT_S = 1
_TIMEOUT_S = 2
_LOCK_TIMEOUT_S = 1
_IDLE_TIMEOUT_S = 5

_FORM = "postgresql://user:password@host/database, mysql://... or sqlite:////folder/file.db"


class _Driver(NamedTuple):
    """A synchronous driver: its name in a DSN, its module, the package that has it, its settings."""

    name: str
    module: str
    package: str
    settings: Mapping[str, Any]


class _Family(NamedTuple):
    """Databases that speak alike.

    `tls` is how a DSN asks for TLS. `before` are statements that come first in every transaction,
    `before_writing` in one that writes. `engine` are settings of the engine.
    """

    name: str
    drivers: tuple[_Driver, ...]
    tls: str = ""
    before: tuple[str, ...] = ()
    before_writing: tuple[str, ...] = ()
    engine: Mapping[str, Any] = {}


# libpq makes 2 s of a time-out of 1 s. It has none for answers: the server is told, and the system
# gives up a connection on which nothing arrives any more.
_LIBPQ = {"connect_timeout": _CONNECT_TIMEOUT_S, "tcp_user_timeout": 1000 * _TIMEOUT_S}
_SOCKET = {"connect_timeout": _CONNECT_TIMEOUT_S, "read_timeout": _TIMEOUT_S, "write_timeout": _TIMEOUT_S}

# For one transaction only: a pooler may hand the connection to others afterwards.
_TIMEOUTS_OF_POSTGRESQL = (
    f"SELECT set_config('statement_timeout', '{1000 * _TIMEOUT_S}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{1000 * _IDLE_TIMEOUT_S}', true)"
)

_POSTGRESQL = _Family(
    "postgresql",
    (
        _Driver("psycopg", "psycopg", "psycopg[binary]", {**_LIBPQ, "prepare_threshold": None}),
        _Driver("psycopg2", "psycopg2", "psycopg2-binary", _LIBPQ),
    ),
    tls="sslmode=verify-full (and sslrootcert=, the file of its CA)",
    before=(_TIMEOUTS_OF_POSTGRESQL,),
    engine={"use_native_hstore": False},  # which would cost a query
)
_MARIADB = _Family(
    "mysql",
    (
        _Driver("pymysql", "pymysql", "pymysql", _SOCKET),
        _Driver("mysqldb", "MySQLdb", "mysqlclient", _SOCKET),
    ),
    tls="ssl_ca=, the file of its CA",
    # Else the server would wait on, and write, after the driver has given up.
    before=(f"SET SESSION lock_wait_timeout = {_LOCK_TIMEOUT_S}, innodb_lock_wait_timeout = {_LOCK_TIMEOUT_S}",),
)
_SQLITE = _Family(
    "sqlite",
    # The driver begins no transactions of its own.
    (_Driver("pysqlite", "sqlite3", "Python with sqlite3", {"timeout": float(_TIMEOUT_S), "isolation_level": None}),),
    before_writing=("BEGIN IMMEDIATE",),
)
_FAMILIES = {"postgresql": _POSTGRESQL, "mysql": _MARIADB, "mariadb": _MARIADB, "sqlite": _SQLITE}

# What asynchronous drivers take in a DSN and the others do not; None: it has no meaning for those.
_OPTIONS_OF_OTHERS: Mapping[str, Mapping[str, str | None]] = {
    "asyncpg": {
        "ssl": "sslmode",
        "timeout": None,
        "command_timeout": None,
        "statement_cache_size": None,
        "prepared_statement_cache_size": None,
        "max_cached_statement_lifetime": None,
        "max_cacheable_statement_size": None,
        "async_fallback": None,
    },
    "aiomysql": {"async_fallback": None},
    "asyncmy": {"async_fallback": None},
    "aiosqlite": {"async_fallback": None},
}


class Database:
    """Where a DSN leads to. Opens a connection for each piece of work, and closes it afterwards.

    `label` names it without user, password and options. Importing SQLAlchemy and a driver is all
    that happens before the first `engine()`. Raises ProviderConfigError.
    """

    __slots__ = ("_engine", "_family", "_file", "_lock", "_settings", "_url", "label")

    @redact_frames
    def __init__(self, dsn: str) -> None:
        url = _parsed(dsn)
        backend, _, given = url.drivername.partition("+")
        self._family = family = _FAMILIES[backend]
        self._file: str | None = None
        if family is _SQLITE:
            url, self._file = _of_a_file(url)
            self.label = f"sqlite:///{self._file}"
        else:
            place = f"{_host(url)}{f':{url.port}' if url.port else ''}/{url.database or ''}"
            self.label = f"{backend}://{place}"
        driver = _driver(family, given, self.label)
        self._url = _with_driver(url, backend, driver, given)
        self._settings = driver.settings
        self._lock = threading.Lock()
        self._engine: Any = None

    @property
    def family(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""
        return self._family.name

    def check_transport(self, *, allow_insecure: bool) -> None:
        """Raise ProviderConfigError, or warn, where others on the way could put another keyset in its place."""
        if not _is_in_the_clear(self._url, self._family, strict=is_strict()):
            return
        problem = (
            f"{self.label} is on another machine, and the DSN does not require TLS: anyone on the network path"
            f" can change the keyset; add {self._family.tls}"
        )
        if not allow_insecure:
            raise ProviderConfigError(f"{problem}; allow_insecure=True in code allows it")
        warn_insecure_transport(problem)

    def before(self, *, writing: bool) -> tuple[str, ...]:
        """The statements that begin a transaction."""
        return self._family.before + (self._family.before_writing if writing else ())

    @redact_frames
    def engine(self) -> Any:
        """The engine of SQLAlchemy."""
        with self._lock:
            if self._engine is None:
                self._engine = self._made()
            return self._engine

    def _made(self) -> Any:
        sqlalchemy = import_sdk("sqlalchemy", "sql")
        try:
            return sqlalchemy.create_engine(
                self._url,
                # One read in minutes: nothing is won by connections that wait, and none breaks meanwhile.
                poolclass=sqlalchemy.pool.NullPool,
                connect_args=dict(self._settings),
                hide_parameters=True,
                **self._family.engine,
            )
        except (ImportError, TypeError, ValueError, sqlalchemy.exc.ArgumentError) as error:
            # The driver is there and does not load (a library that it misses), or an option is no such thing.
            problem = self.without_password(f"{type(error).__name__}: {error}")
        raise ProviderConfigError(f"{self.label}: no connection can be made ({problem}); check the DSN and its driver")

    def is_there(self) -> bool:
        """Whether there is anything to open. Without I/O, except for a look at an SQLite file.

        Opening an SQLite file that is not there would make it. Raises ProviderConfigError when
        there is no folder for it, KeyAccessDeniedError when it cannot be reached.
        """
        if self._file is None:
            return True
        try:
            mode = os.stat(self._file).st_mode  # noqa: PTH116 - follows links: what counts is where they point to
        except FileNotFoundError:
            folder = os.path.dirname(self._file)  # noqa: PTH120 - a path as text, as it came
            if os.path.isdir(folder):  # noqa: PTH112 - likewise
                return False
            problem: Exception = ProviderConfigError(
                f"{self.label}: the folder {folder} does not exist; create it first"
            )
        except PermissionError:
            problem = KeyAccessDeniedError(f"{self.label}: this process has no permission to read the folder")
        except OSError as error:
            problem = ProviderConfigError(
                f"{self.label}: no such file or folder ({error.strerror}); check the path in the DSN"
            )
        else:
            if stat.S_ISREG(mode):
                return True
            problem = ProviderConfigError(f"{self.label} is not a file; give the path of an SQLite file")
        raise problem

    def without_password(self, detail: str) -> str:
        """What a driver said, in one line, without the password."""
        password = str(self._url.password or "")
        for form in (password, quote(password, safe="")):
            if form:
                detail = detail.replace(form, "...")
        return single_line(detail)

    def after_fork(self) -> None:
        """In a child: a new lock, and an engine of its own."""
        self._lock = threading.Lock()
        self._engine = None

    def close(self) -> None:
        """Drop the engine. The next use makes another."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def __repr__(self) -> str:
        return f"<Database {self.label}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"the connection to {self.label} cannot be pickled: the pickle would contain its password; let"
            " the other process read the DSN from the same source"
        )


def _parsed(dsn: str) -> Any:
    # Said here, since the errors of the parser may show any part of the DSN.
    engine, exceptions = import_sdk("sqlalchemy.engine", "sql"), import_sdk("sqlalchemy.exc", "sql")
    scheme, sign, rest = dsn.partition("://")
    backend = scheme.partition("+")[0].lower()
    if backend == "postgres":
        backend = "postgresql"
    if not sign or backend not in _FAMILIES:
        raise ProviderConfigError(
            f"dsn is not a DSN of PostgreSQL, MariaDB or SQLite ({len(dsn)} characters); write it as in {_FORM}"
        )
    driver = scheme.partition("+")[2].lower()
    try:
        url = engine.make_url(f"{backend}{'+' if driver else ''}{driver}://{rest}")
    except (exceptions.ArgumentError, ValueError):
        url = None
    # An unescaped sign in a password ends it early, and the rest of it would pass for a host or a name.
    if url is None or "@" in (url.host or "") or (backend != "sqlite" and "@" in (url.database or "")):
        raise ProviderConfigError(
            f"dsn cannot be read ({len(dsn)} characters); write it as in {_FORM}, with characters such as @ : /"
            " in a user"
            " or a password written as %40 %3A %2F"
        )
    return _password_in_its_place(url)


def _password_in_its_place(url: Any) -> Any:
    for name in ("password", "passwd"):
        given = url.query.get(name)
        if isinstance(given, str):
            url = url.difference_update_query([name]).set(password=given)
    return url


def _host(url: Any) -> str:
    host = url.host or ""
    return f"[{host}]" if ":" in host else host


def _of_a_file(url: Any) -> tuple[Any, str]:
    """The URL, and the absolute path of the file."""
    name = url.database or ""
    if url.host or url.username or url.password:
        raise ProviderConfigError(
            "a DSN of SQLite must not have a host or a password; write the path after three slashes, as in"
            " sqlite:////folder/file.db"
        )
    if not name or ":memory:" in name or url.query.get("mode") == "memory":
        raise ProviderConfigError(
            "a database in memory is lost when its connection closes, and other processes cannot see it; give the"
            " path of a file, as"
            " in sqlite:////folder/file.db"
        )
    if name.startswith("file:"):
        return url, os.path.abspath(unquote(urlsplit(name).path))  # noqa: PTH100 - a path as text, as it came
    path = os.path.abspath(name)  # noqa: PTH100 - likewise; here, so that a later chdir does not move it
    return url.set(database=path), path


def _is_in_the_clear(url: Any, family: _Family, *, strict: bool) -> bool:
    """Whether it leaves this machine without TLS, or where it is `strict`, to a server that is not verified."""
    if family is _SQLITE:
        return False
    is_postgresql = family is _POSTGRESQL
    hosts = [url.host] if url.host else _texts(url.query.get("hostaddr") or url.query.get("host"))
    hosts = [one for text in hosts for one in text.split(",")]
    if not hosts and is_postgresql:
        hosts = os.environ.get("PGHOST", "").split(",")  # as libpq does
    away = [host for host in hosts if host and not host.startswith(("/", "@")) and not _is_this_machine(host)]
    if not away:
        return False
    if is_postgresql:
        mode = "".join(_texts(url.query.get("sslmode"))) or os.environ.get("PGSSLMODE", "")
        return mode not in {"verify-ca", "verify-full"} and (strict or mode != "require")
    mode = "".join(_texts(url.query.get("ssl_mode"))).upper()
    if mode in {"VERIFY_CA", "VERIFY_IDENTITY"} or (mode == "REQUIRED" and not strict):
        return False
    return not url.query.get("ssl_ca") and not url.query.get("ssl_capath")


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _is_this_machine(host: str) -> bool:
    host = host.rpartition(":")[0] if host.count(":") == 1 else host  # one of several, with its port
    return is_loopback(f"//[{host}]" if ":" in host else f"//{host}")


def _driver(family: _Family, given: str, label: str) -> _Driver:
    """The driver that the DSN names, if it is a synchronous one; else the first that is installed."""
    wanted = sorted(family.drivers, key=lambda driver: driver.name != given)
    for driver in wanted:
        if find_spec(driver.module) is not None:
            return driver
    packages = " or ".join(driver.package for driver in wanted)
    why = f" ({given} is not synchronous)" if given and given != wanted[0].name else ""
    raise ProviderConfigError(
        f"{label}: no synchronous driver is installed{why}; pip install '{wanted[0].package}' ({packages} will do;"
        " the DSN may stay as it is)"
    )


def _with_driver(url: Any, backend: str, driver: _Driver, given: str) -> Any:
    others = _OPTIONS_OF_OTHERS.get(given, {})
    query = {name: value for name, value in url.query.items() if name not in others}
    for name, meant in others.items():
        if meant is not None and name in url.query:
            query.setdefault(meant, url.query[name])
    return url.set(drivername=f"{backend}+{driver.name}", query=query)

"""What the errors of drivers mean, told by the names of their classes, codes and words: no driver is imported.

Sessions and maintenance both ask here whether waiting helps. What is of no driver that is known here, and no
OSError or time-out, has no meaning here: it may be a mistake in a program, which nobody should wait for.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Trouble", "hide_parameters", "quotes_values", "sqlstate_of", "trouble_of", "words_of"]


class Trouble(NamedTuple):
    """What is wrong with a store, by what to do about it, as a sentence."""

    advice: str
    #: Whether it may pass by itself.
    passes: bool = False
    #: Whether what was asked for may have taken place all the same.
    leaves_doubt: bool = False


_AWAY = Trouble("Try again when it answers", passes=True, leaves_doubt=True)
_LOCKED = Trouble("Something else holds a lock in it: try again, or let the driver wait longer for locks", passes=True)
_GAVE_WAY = Trouble("Another change went first: try again", passes=True)
_USED_UP = Trouble(
    "All allowed connections are in use: allow more, or close some, and try again",
    passes=True,
)
_READ_ONLY = Trouble(
    "It does not accept changes now, as is normal for a replica: connect to the server that does, and try again",
    passes=True,
)
_FULL = Trouble("Free space where it stores its data, and try again", passes=True)
_NO_MEMORY = Trouble("Allow it more memory (maxmemory), or remove what is not needed, and try again", passes=True)
_CANNOT_SAVE = Trouble(
    "It could not write to its disk, and does not accept changes until it can: its log says why. Fix that, and"
    " try again",
    passes=True,
)
_BAD_DISK = Trouble("Check that its disk works and has free space, and try again", passes=True, leaves_doubt=True)
_NO_TABLES = Trouble("Create its tables, as create_tables=True of SQLAlchemySession does, or correct their names")
_NO_TABLES_IN_MYSQL = Trouble("Create its tables with the statements in docs/mysql.md, or correct their names")
_NO_SUCH_LETTER = Trouble(
    "A column's character set lacks a character: create the tables with the statements in docs/mysql.md"
)
_TOO_LONG = Trouble("Raise max_allowed_packet on the server, or add less at once")
_NO_PERMISSION = Trouble("Give the database user the right to read and write")
_NOT_LET_IN = Trouble("Check the user and the password")
_UNTRUSTED = Trouble(
    "Its certificate is not trusted here: tell the driver which authority signed it, and use a server name that"
    " is in the certificate"
)
_CANNOT_OPEN = Trouble("Check that its folder exists, and that this user may write in it")
_DAMAGED = Trouble("Its file is damaged, or is not such a store: restore the last good copy")
_REFUSED = Trouble("Waiting does not help: see what the store says, and correct the request")

#: The first names of the modules in which drivers have their errors.
_DRIVERS = frozenset(
    (
        "MySQLdb",
        "aiomysql",
        "aiosqlite",
        "asyncmy",
        "asyncpg",
        "dapr",
        "grpc",
        "psycopg",
        "psycopg2",
        "psycopg_pool",
        "pymongo",
        "pymysql",
        "redis",
        "sqlalchemy",
        "sqlite3",
        "valkey",
    )
)

_MYSQL_DRIVERS = frozenset(("MySQLdb", "aiomysql", "asyncmy", "pymysql"))

#: By SQLSTATE, the longest match first: SQLAlchemy's own classes follow the driver, and asyncpg's hardly tell errors
#: apart. Of connections, of resources, an operator's doing, locks.
_SQLSTATES = (
    ("55P03", _LOCKED),
    ("42501", _NO_PERMISSION),
    ("42P01", _NO_TABLES),
    ("42703", _NO_TABLES),
    ("3F000", _NO_TABLES),
    ("25006", _READ_ONLY),
    ("53300", _USED_UP),
    ("08", _AWAY),
    ("28", _NOT_LET_IN),
    ("40", _GAVE_WAY),
    ("53", _FULL),
    ("57", _AWAY),
    ("XX001", _DAMAGED),
    ("XX002", _DAMAGED),
)

_SQLITE_WORDS = (
    ("locked", _LOCKED),
    ("busy", _LOCKED),
    ("is full", _FULL),
    ("disk i/o error", _BAD_DISK),
    ("malformed", _DAMAGED),
    ("not a database", _DAMAGED),
    ("no such table", _NO_TABLES),
    ("no such column", _NO_TABLES),
    ("readonly", _NO_PERMISSION),
    ("unable to open", _CANNOT_OPEN),
    ("syntax error", _REFUSED),
)

#: What Redis answers like a wrong command.
_REDIS_WORDS = (
    ("READONLY ", _READ_ONLY),
    ("OOM ", _NO_MEMORY),
    ("MISCONF ", _CANNOT_SAVE),
    (("No connection available", "max number of clients"), _USED_UP),
    ("NOPERM ", _NO_PERMISSION),
    (("NOAUTH ", "WRONGPASS "), _NOT_LET_IN),
    (("BUSY ", "LOADING ", "MASTERDOWN ", "NOREPLICAS ", "TRYAGAIN ", "CLUSTERDOWN "), _AWAY),
)
_REDIS_CLASSES = {
    "ReadOnlyError": _READ_ONLY,
    "OutOfMemoryError": _NO_MEMORY,
    "NoPermissionError": _NO_PERMISSION,
    "AuthenticationError": _NOT_LET_IN,
    "AuthorizationError": _NOT_LET_IN,
    "MaxConnectionsError": _USED_UP,
    "ClusterDownError": _AWAY,
    "TryAgainError": _AWAY,
    "ResponseError": _REFUSED,
    "DataError": _REFUSED,
}

#: The numbers of MySQL's errors.
_MYSQL_CODES = {
    **dict.fromkeys((1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 1969, 3024, 4031), _AWAY),
    **dict.fromkeys((1047, 2002, 2003, 2006, 2013, 2014, 2055), _AWAY),
    **dict.fromkeys((1205, 3572), _LOCKED),
    **dict.fromkeys((1020, 1213), _GAVE_WAY),
    1153: _TOO_LONG,
    **dict.fromkeys((1267, 1366, 3988), _NO_SUCH_LETTER),
    **dict.fromkeys((1040, 1203, 1226), _USED_UP),
    **dict.fromkeys((1290, 1792, 1836), _READ_ONLY),
    **dict.fromkeys((1021, 1037, 1038, 1041, 1114), _FULL),
    1045: _NOT_LET_IN,
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370), _NO_PERMISSION),
    **dict.fromkeys((1049, 1054, 1146), _NO_TABLES_IN_MYSQL),
    **dict.fromkeys((126, 127, 1034, 1035, 1194, 1195), _DAMAGED),
}

_MONGO_CLASSES = {
    **dict.fromkeys(("ConnectionFailure", "ExecutionTimeout", "WTimeoutError", "CursorNotFound"), _AWAY),
    "NotPrimaryError": _READ_ONLY,
    "WaitQueueTimeoutError": _USED_UP,
}
_MONGO_CODES = {11600: _AWAY, 11602: _AWAY, 91: _AWAY, 189: _AWAY, 13: _NO_PERMISSION, 18: _NOT_LET_IN}

#: What PostgreSQL says, and libpq without its code, when there are too many connections: of all, of a user, of those
#: that are left to superusers.
_TOO_MANY = ("too many clients", "too many connections", "remaining connection slots")

_PASSING_STATUS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED")

#: Words behind which drivers and databases put values: keys, rows, arguments.
_QUOTES = (
    ")=(",
    "row contains",
    "Duplicate entry",
    "dup key",
    "caused error: ",
    "query argument",
    "Incorrect string value",
    "input syntax",
    "__enc__",
    "gAAAA",
)


def trouble_of(error: BaseException) -> Trouble | None:
    """What an error means for whoever waits for a store; None for what is of no store that is known here."""
    families = _families(error)
    if families.isdisjoint(_DRIVERS):
        return _of_system(error)
    if any(map(_is_of_certificate, _chain(error))):  # drivers call it a connection that failed
        return _UNTRUSTED
    return _of_sqlalchemy(error) if "sqlalchemy" in families else _of_driver(error, families)


def sqlstate_of(error: BaseException) -> str:
    """The five characters by which PostgreSQL tells errors apart; empty if it had no say."""
    return str(getattr(getattr(error, "orig", None) or error, "sqlstate", None) or "")


def words_of(error: BaseException) -> str:
    """What went wrong, in the driver's words. Further lines can quote a row, and a pipeline the command before."""
    original = getattr(error, "orig", None) or error
    _, is_of_pipeline, words = str(original).rpartition(" of pipeline caused error: ")
    words = words.partition(" script: ")[0].strip(" .,'\"()" if is_of_pipeline and words.startswith("(") else None)
    line = words.splitlines()[0].rpartition("'>: ")[2].strip() if words else ""
    return line.rstrip(".") or type(original).__name__


def quotes_values(error: BaseException, *values: str) -> bool:
    """Whether the text of an error, or of one that led to it, quotes what was stored, or one of these values."""
    wanted = [re.compile(rf"(?<!\w){re.escape(value)}(?!\w)") for value in values]
    for text in map(_text_of, _chain(error)):
        if any(mark in text for mark in _QUOTES) or any(value.search(text) for value in wanted):
            return True
    return False


def hide_parameters(error: BaseException) -> None:
    """Take the parameters out of what SQLAlchemy raised: whoever logs the error would log rows."""
    for one in _chain(error):
        if "sqlalchemy.exc.StatementError" in _names(one):
            one.hide_parameters = True  # type: ignore[attr-defined]  # it has both, as its name says
            one.params = None  # type: ignore[attr-defined]


def _families(error: BaseException) -> set[str]:
    return {name.partition(".")[0] for name in _names(error)}


def _names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        yield f"{kind.__module__}.{kind.__qualname__}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and every one that a traceback would show with it."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            todo += [one.__cause__, None if one.__suppress_context__ else one.__context__, getattr(one, "orig", None)]


def _text_of(error: BaseException) -> str:
    # What is hidden is no text, and what is not would be found by its marks.
    parts = [str(error), *map(str, error.args), getattr(error, "detail", None), getattr(error, "details", None)]
    return "\n".join(map(str, parts))


def _first_of(error: BaseException, meanings: dict[str, Trouble]) -> Trouble | None:
    """The meaning of the first class, from the error's own on, that has one."""
    return next((meanings[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in meanings), None)


def _of_driver(error: BaseException, families: set[str]) -> Trouble:
    for family, meaning in (("sqlite3", _of_sqlite), ("redis", _of_redis), ("valkey", _of_redis)):
        if family in families:
            return meaning(error)
    if families & _MYSQL_DRIVERS:
        return _of_mysql(error)
    if state := sqlstate_of(error):
        return _of_state(state)
    if "pymongo" in families:
        return _first_of(error, _MONGO_CLASSES) or _MONGO_CODES.get(getattr(error, "code", None) or 0, _REFUSED)
    if families & {"grpc", "dapr"}:
        return _of_grpc(error)
    if families & {"asyncpg", "psycopg", "psycopg2", "psycopg_pool"}:
        return _of_postgresql_client(error)
    return _by_dbapi_class(error)


def _of_system(error: BaseException) -> Trouble | None:
    if not isinstance(error, (OSError, asyncio.TimeoutError)):
        return None
    if isinstance(error, PermissionError):
        return _NO_PERMISSION
    if _is_of_certificate(error):
        return _UNTRUSTED
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return _FULL
    return _READ_ONLY if code == errno.EROFS else _AWAY


def _is_of_certificate(error: BaseException) -> bool:
    if type(error).__name__ == "SSLCertVerificationError":
        return True
    quotes_statements = "sqlalchemy.exc.StatementError" in _names(error)  # what it wraps is looked at, too
    return not quotes_statements and "certificate verify failed" in str(error).lower()


def _of_state(state: str) -> Trouble:
    return next((trouble for begin, trouble in _SQLSTATES if state.startswith(begin)), _REFUSED)


def _of_sqlalchemy(error: BaseException) -> Trouble:
    if type(error).__name__ == "TimeoutError":
        return _USED_UP
    original = getattr(error, "orig", None)
    if original is not None:
        if _families(original) & _MYSQL_DRIVERS:
            return _of_mysql(original)
        if state := sqlstate_of(original):
            return _of_state(state)
        if not any(name.startswith("sqlalchemy.") for name in _names(original)):
            return trouble_of(original) or _by_dbapi_class(error)
        if "asyncpg" in f"{type(original).__module__}":
            return _of_postgresql_client(original)
    return _AWAY if getattr(error, "connection_invalidated", False) else _by_dbapi_class(error)


def _of_sqlite(error: BaseException) -> Trouble:
    said = str(error).lower()
    for words, trouble in _SQLITE_WORDS:
        if words in said:
            return trouble
    return _by_dbapi_class(error)


def _of_redis(error: BaseException) -> Trouble:
    words = words_of(error)
    for begin, trouble in _REDIS_WORDS:
        if words.startswith(begin):
            return trouble
    return _first_of(error, _REDIS_CLASSES) or _AWAY


def _of_mysql(error: BaseException) -> Trouble:
    """By its number: the SQLSTATE is the same for most."""
    code = error.args[0] if error.args and type(error.args[0]) is int else 0
    return _MYSQL_CODES.get(code) or _by_dbapi_class(error)


def _of_postgresql_client(error: BaseException) -> Trouble:
    """What PostgreSQL had no say in: most such errors are of connections."""
    words = str(error)
    if "authentication" in words or "pg_hba.conf" in words:
        return _NOT_LET_IN
    if any(part in words for part in _TOO_MANY):
        return _USED_UP
    if "PoolTimeout" in type(error).__name__ or "TooManyRequests" in type(error).__name__:
        return _USED_UP
    return _REFUSED if "query argument" in words or "ProgrammingError" in type(error).__name__ else _AWAY


def _of_grpc(error: BaseException) -> Trouble:
    code = getattr(error, "code", None)
    status = getattr(code() if callable(code) else code, "name", "")
    return _AWAY if status in _PASSING_STATUS else _NO_PERMISSION if status == "PERMISSION_DENIED" else _REFUSED


def _by_dbapi_class(error: BaseException) -> Trouble:
    """By the names of classes that all drivers of databases share: of operation, but not of the program."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return _AWAY if kinds & {"OperationalError", "InterfaceError"} else _REFUSED

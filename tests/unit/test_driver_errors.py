"""What drivers' errors mean: also those of drivers that are not installed here."""

from __future__ import annotations

import errno
import sqlite3
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import exc

from encrypted_sessions.stores.driver_errors import quotes_values, trouble_of, words_of


def of(module: str, *names: str, said: tuple[Any, ...] = ("it failed",), **attributes: Any) -> Exception:
    """An error of a driver's class, and of those that it inherits from, the general first."""
    kind: type[Exception] = Exception
    for name in names:
        kind = type(name, (kind,), {"__module__": module, **attributes})
    return kind(*said)


def of_postgresql(state: str) -> Exception:
    return exc.DBAPIError("SELECT 1", {}, of("psycopg.errors", "Error", sqlstate=state))


def because_of(error: Exception) -> Exception:
    """The error of a driver that could not connect since the server's certificate is not trusted."""
    error.__cause__ = ssl.SSLCertVerificationError(1, "self-signed certificate")
    return error


PASSES = [
    *map(of_postgresql, ("08006", "40001", "40P01", "53100", "53300", "55P03", "57P01", "57P03", "57014", "25006")),
    of("asyncpg.exceptions", "InterfaceError", said=("connection is closed",)),
    of("psycopg", "Error", "OperationalError", said=("the connection is lost",)),
    of("psycopg_pool", "OperationalError", "PoolTimeout"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.OperationalError("database or disk is full"),
    *(of("redis.exceptions", "RedisError", name) for name in ("ConnectionError", "TimeoutError")),
    of("redis.exceptions", "RedisError", "ConnectionError", "MaxConnectionsError"),
    of("redis.exceptions", "RedisError", "ConnectionError", "BusyLoadingError"),
    of("redis.exceptions", "RedisError", "ResponseError", "ReadOnlyError"),
    of("redis.exceptions", "RedisError", "ResponseError", said=("MISCONF Redis cannot write its snapshot",)),
    of(
        "redis.exceptions",
        "RedisError",
        "ResponseError",
        said=("Command # 1 (EVAL k) of pipeline caused error: BUSY a",),
    ),
    *(of("pymysql.err", "MySQLError", "OperationalError", said=(code, "")) for code in (1205, 1213, 2006, 2013, 1040)),
    # PyMySQL of today gives a SQLSTATE as well, which is the same for most.
    *(
        exc.DBAPIError("", {}, of("pymysql.err", "MySQLError", "OperationalError", said=(code, ""), sqlstate="HY000"))
        for code in (1205, 1020, 1927)
    ),
    of("asyncmy.errors", "MySQLError", "OperationalError", said=(1290, "read-only")),
    of("pymongo.errors", "PyMongoError", "ConnectionFailure", "AutoReconnect", "NotPrimaryError"),
    of("pymongo.errors", "PyMongoError", "ConnectionFailure", "ServerSelectionTimeoutError"),
    of("grpc.aio", "AioRpcError", code=lambda _: SimpleNamespace(name="UNAVAILABLE")),
    exc.TimeoutError("QueuePool limit of size 5"),
    ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    OSError(errno.ENOSPC, "no space"),
    FileNotFoundError(errno.ENOENT, "no such socket"),
    TimeoutError(),
]

STAYS = [
    *map(of_postgresql, ("42P01", "42501", "28P01", "23505", "22021", "XX001")),
    of("psycopg", "Error", "OperationalError", said=("FATAL:  password authentication failed for user",)),
    of("asyncpg.exceptions", "DataError", said=("invalid input for query argument $1: 5",)),
    sqlite3.OperationalError("no such table: agent_messages"),
    sqlite3.OperationalError("attempt to write a readonly database"),
    sqlite3.OperationalError("unable to open database file"),
    sqlite3.DatabaseError("database disk image is malformed"),
    sqlite3.DatabaseError("file is not a database"),
    sqlite3.ProgrammingError("Cannot operate on a closed database."),
    of("redis.exceptions", "RedisError", "ResponseError", said=("WRONGTYPE Operation against a key",)),
    of("redis.exceptions", "RedisError", "ResponseError", "NoPermissionError"),
    of("redis.exceptions", "RedisError", "ConnectionError", "AuthenticationError"),
    *(of("pymysql.err", "MySQLError", "ProgrammingError", said=(code, "")) for code in (1146, 1142, 1045, 1062, 1153)),
    of("pymongo.errors", "PyMongoError", "OperationFailure", code=13),
    of("grpc.aio", "AioRpcError", code=lambda _: SimpleNamespace(name="PERMISSION_DENIED")),
    PermissionError(errno.EACCES, "denied"),
]


@pytest.mark.parametrize("error", PASSES, ids=repr)
def test_what_may_work_later(error: Exception):
    trouble = trouble_of(error)
    assert trouble is not None
    assert trouble.passes


@pytest.mark.parametrize("error", STAYS, ids=repr)
def test_what_waiting_does_not_mend(error: Exception):
    trouble = trouble_of(error)
    assert trouble is not None
    assert not trouble.passes


UNTRUSTED = [
    ssl.SSLCertVerificationError(1, "self-signed certificate"),
    of("redis.exceptions", "RedisError", "ConnectionError", said=("Error 1. [SSL: X] certificate verify failed: Y",)),
    exc.OperationalError("SELECT 1", {}, of("psycopg", "Error", said=("SSL error: certificate verify failed",))),
    exc.DBAPIError("SELECT 1", {}, because_of(of("pymysql.err", "Error", said=(2003, "Can't connect")))),
]


@pytest.mark.parametrize("error", UNTRUSTED, ids=repr)
def test_a_certificate_that_is_not_trusted_is_told_as_such(error: Exception):
    trouble = trouble_of(error)
    assert trouble is not None
    assert trouble.advice.startswith("Its certificate is not trusted here")
    assert not trouble.passes


def test_a_row_that_speaks_of_certificates_is_none():
    trouble = trouble_of(exc.DBAPIError("INSERT", {"data": "certificate verify failed"}, of_postgresql("42P01")))
    assert trouble is not None
    assert "certificate" not in trouble.advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (of("redis.exceptions", "RedisError", "ConnectionError", said=("No connection available.",)), "allow more"),
        (
            of("redis.exceptions", "RedisError", "ConnectionError", said=("max number of clients reached",)),
            "allow more",
        ),
        (of("psycopg", "Error", "OperationalError", said=("FATAL:  sorry, too many clients already",)), "allow more"),
        (of("redis.exceptions", "RedisError", "ResponseError", "OutOfMemoryError"), "maxmemory"),
        (of("redis.exceptions", "RedisError", "ResponseError", said=("MISCONF cannot persist",)), "its log says why"),
        (sqlite3.OperationalError("disk I/O error"), "its disk works"),
        (of_postgresql("53100"), "Free space"),
    ],
    ids=repr,
)
def test_what_to_do(error: Exception, advice: str):
    trouble = trouble_of(error)
    assert trouble is not None
    assert advice in trouble.advice


@pytest.mark.parametrize(
    "error", [TypeError("a"), ValueError("a"), KeyError("a"), RuntimeError("a"), of("mine", "OwnError")]
)
def test_what_is_of_no_store(error: Exception):
    assert trouble_of(error) is None


@pytest.mark.parametrize(
    "said",
    [
        'duplicate key value violates unique constraint "pk"\nDETAIL:  Key (session_id)=(user-1) already exists.',
        'new row for relation "m" violates check constraint "c"\nDETAIL:  Failing row contains (1, user-1, {...}).',
        "Command # 1 (RPUSH agents:user-1:messages {...}) of pipeline caused error: WRONGTYPE Operation",
        "(1062, \"Duplicate entry 'user-1' for key 'PRIMARY'\")",
        "E11000 duplicate key error collection: agents.m index: _id_ dup key: { _id: 1 }",
        "invalid input for query argument $2: {...} (expected str)",
        'what it got was {"__enc__": 1}',
        "whatever names user-1 itself",
    ],
)
def test_a_text_that_quotes_values(said: str):
    led_to_another = RuntimeError("it failed")
    led_to_another.__cause__ = RuntimeError(said)
    assert quotes_values(RuntimeError(said), "user-1")
    assert quotes_values(led_to_another, "user-1")


@pytest.mark.parametrize(
    "said", ["database is locked", 'relation "messages" does not exist', "no user-10, no superuser-1"]
)
def test_a_text_that_quotes_none(said: str):
    assert not quotes_values(RuntimeError(said), "user-1")


def test_the_words_are_the_drivers_and_hold_no_row():
    asyncpgs = of(
        "sqlalchemy.dialects.postgresql.asyncpg", "Error", said=("<class 'asyncpg.X'>: it failed.\nDETAIL: row",)
    )
    assert words_of(exc.DBAPIError("SELECT 1", {}, asyncpgs)) == "it failed"
    assert words_of(RuntimeError("Command # 1 (A\nB) of pipeline caused error: ('OOM no room.',)")) == "OOM no room"
    assert words_of(TimeoutError()) == "TimeoutError"

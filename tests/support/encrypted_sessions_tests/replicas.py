"""Servers that follow another one, as real as it: a standby of PostgreSQL, a replica of Redis.

Both can be made to lag, and go on: by pausing replay, or the whole process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from .servers import POLL_S, START_TIMEOUT_S, PostgresServer, ProgramMissingError, RedisServer

#: Settings of a primary server that may have subscribers, too.
OF_A_PRIMARY = {"wal_level": "logical"}


class PostgresStandby(PostgresServer):
    """A copy of a primary server that replays its log, and answers questions meanwhile."""

    def __init__(self, primary: PostgresServer, name: str) -> None:
        super().__init__({**OF_A_PRIMARY, "cluster_name": name})
        self._primary = primary
        self._copies = _basebackup(self)

    def _prepare(self) -> None:
        host, port, user, password = "127.0.0.1", self._primary.port, "sessions", self._primary._password
        passfile = self.folder / "passfile"
        passfile.touch(0o600)
        self._give_to_user(passfile)
        passfile.write_text(f"{host}:{port}:*:{user}:{password}\n")
        self._password = password
        source = f"host={host} port={port} user={user} passfile={passfile}"
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"]
        self._run([self._copies, f"--dbname={source}", f"--pgdata={self._data}", *options])

    def pause_replay(self) -> None:
        """Let it receive the log, and replay nothing of it."""
        with as_superuser(self) as execute:
            execute("SELECT pg_wal_replay_pause()")
            until(lambda: execute("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def resume_replay(self) -> None:
        with as_superuser(self) as execute:
            execute("SELECT pg_wal_replay_resume()")

    def stop_receiving(self) -> None:
        """Stop the process that receives the log where it stands: what is sent to it stays on its way."""
        self._receiver().suspend()

    def lose_what_is_on_its_way(self) -> None:
        """Kill that process. The standby begins anew with what it had received; its primary server is gone by now."""
        receiver = self._receiver()
        receiver.kill()
        psutil.wait_procs([receiver])
        until(self._answers)

    def _receiver(self) -> psutil.Process:
        (found,) = (one for one in self._processes() if "walreceiver" in " ".join(one.cmdline()))
        return found

    def _answers(self) -> bool:
        with contextlib.suppress(OperationalError), as_superuser(self) as execute:
            return bool(execute("SELECT pg_is_in_recovery()"))
        return False

    def promote(self) -> None:
        """Make it a server that takes changes, with the rows that it has replayed."""
        with as_superuser(self) as execute:
            assert execute("SELECT pg_promote()") is True


class RedisPrimary(RedisServer):
    """Redis that a replica need not wait for before it gets its copy."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--repl-diskless-sync-delay", "0"]


class RedisReplica(RedisServer):
    """A copy of a primary server that takes over its changes."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self._primary = primary

    def _command(self) -> list[str]:
        return [*super()._command(), "--replicaof", "127.0.0.1", str(self._primary.port)]


def _basebackup(server: PostgresServer) -> str:
    """The program that copies a server. Beside the server's own, or where these lead to, or on PATH."""
    beside = (server.programs, (server.programs / "postgres").resolve().parent)
    found = shutil.which("pg_basebackup", path=os.pathsep.join(map(str, beside))) or shutil.which("pg_basebackup")
    if found is None:
        raise ProgramMissingError("PostgreSQL's pg_basebackup is not there (Debian: apt-get install postgresql)")
    return found


@contextlib.contextmanager
def as_superuser(server: PostgresServer) -> Iterator[Callable[..., Any]]:
    """Run statements: each gives the first value of the first row, None without one."""
    url = make_url(server.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:

        def execute(statement: str) -> Any:
            result = connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None

        yield execute


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(POLL_S)

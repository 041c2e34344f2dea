"""The server of warm programs: it has imported everything, and forks for each program that it is asked for.

It has no threads and opens no store: nothing but modules is shared by fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from typing import Any

_IMPORTED = [
    "agents.extensions.memory.redis_session",
    "agents.extensions.memory.sqlalchemy_session",
    "aiosqlite",
    "asyncpg",
    "boto3",
    "encrypted_sessions.cli.app",
    "encrypted_sessions.cli.progress",
    "encrypted_sessions.cli.reports",
    "encrypted_sessions.doctor",
    "encrypted_sessions.maintenance",
    "encrypted_sessions.maintenance._inspect",
    "encrypted_sessions.stores.redis.whole",
    "encrypted_sessions.stores.sql.whole",
    "encrypted_sessions.stores.sqlite.whole",
    "encrypted_sessions_tests.keyset_fork_harness",
    "encrypted_sessions_tests.maintenance_fork_harness",
    "encrypted_sessions_tests.put_back_fork_harness",
    "encrypted_sessions_tests.session_fork_harness",
    "encrypted_sessions_tests.store_fork_harness",
    "keyproviders.aws",
    "keyproviders.keyset",
    "keyproviders.local",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
]


def main(listener: socket.socket) -> None:
    """Serve until standard input ends, in the server; run a program, in what it forks."""
    for module in _IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    if order := _next_program(listener):
        _begin(order)
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            if not isinstance(ended.code, int):
                raise
            _end(ended.code)
        _end(0)


def _next_program(listener: socket.socket) -> dict[str, Any] | None:
    """Nothing, in the server, when nobody is there any more; in each program, what it is to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no guard is waited for
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if listener not in ready:
            return None
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return _guarded(connection)
        connection.close()


def _guarded(connection: socket.socket) -> dict[str, Any]:
    """Fork the program, and tell how it ends. Returns in the program only."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("r") as asked:
        order: dict[str, Any] = json.load(asked)
    if pid := os.fork():
        for stream in (0, 1, 2, *streams):
            os.close(stream)
        connection.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return order


def _begin(order: dict[str, Any]) -> None:
    """As an interpreter does that has just been started."""
    os.setsid()  # so that it can be ended with its children
    os.chdir(order["folder"])
    sys.path[0] = order["folder"]
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[:] = order["words"]
    sys.modules.pop(sys.argv[0], None)  # it is run, not imported
    # They stay open to the end.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _end(code: int) -> None:
    """As an interpreter does that has no error to show, but for taking its modules apart: that takes the longest."""
    threading._shutdown()  # type: ignore[attr-defined]  # which multiprocessing calls in what it forks, too
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))

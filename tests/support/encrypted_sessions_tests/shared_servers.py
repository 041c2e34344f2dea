"""One set of servers a run: each is started when a test first asks for it, and all workers share it.

The process that the user has started owns them: pytest's own, or the controller of xdist's workers, which
outlives every worker. It ends all of them at the end of the run, also after Ctrl-C, and when it dies itself
the kernel ends them (see `Server.start`). A worker that crashes takes nothing with it and leaves nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import NamedTuple

import psutil

from .openbao import AuditedOpenBaoServer, OpenBaoServer
from .servers import MariaDbServer, PostgresServer, RedisServer, Server

SHARED: dict[str, type[Server]] = {
    kind.name: kind for kind in (PostgresServer, MariaDbServer, RedisServer, OpenBaoServer, AuditedOpenBaoServer)
}

_PATIENCE_S = 10.0


class Address(NamedTuple):
    """Where workers ask for servers, and where servers have their folders."""

    socket: str
    key: bytes
    folder: str

    def server(self, name: str) -> Server:
        """The shared server of this name, which runs. ProgramMissingError where it is not installed."""
        with Client(self.socket, authkey=self.key) as connection:
            connection.send(name)
            answer = connection.recv()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Server)
        return answer


class ServerHost:
    """Starts servers for those who ask at its `address`, until it is closed."""

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="encrypted-sessions-run-")
        Path(folder).chmod(0o711)  # servers that run as somebody else have their folders in it
        self.address = Address(str(Path(folder) / "socket"), secrets.token_bytes(16), folder)
        self._listener = Listener(self.address.socket, authkey=self.address.key)
        self._known: dict[str, Server | Exception] = {}
        # The one thread that starts servers: the kernel ends them with the thread that started them, so it stays.
        self._thread = threading.Thread(target=self._serve, name="servers of this run", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every server, those of workers that crashed too, and remove what they have left."""
        with contextlib.suppress(OSError), Client(self.address.socket, authkey=self.address.key) as connection:
            connection.send(None)
        self._thread.join()
        self._listener.close()
        _end_all_in(Path(self.address.folder))

    def _serve(self) -> None:
        with ExitStack() as servers:
            while True:
                # Whoever asked may have died meanwhile.
                with contextlib.suppress(OSError, EOFError), self._listener.accept() as connection:
                    name = connection.recv()
                    if name is None:
                        return
                    if name not in self._known:
                        self._known[name] = self._started(name, servers)
                    connection.send(self._known[name])

    def _started(self, name: str, servers: ExitStack) -> Server | Exception:
        try:
            return servers.enter_context(SHARED[name]())
        except Exception as error:  # noqa: BLE001 - it is raised where the server was asked for
            return error


def _end_all_in(folder: Path) -> None:
    """End the processes that work in a folder, and remove it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if folder in Path(process.cwd()).parents:
                process.kill()
    deadline = time.monotonic() + _PATIENCE_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(0.1)  # one of them is still at it


def worker_number() -> int:
    """The number of this worker of xdist, from 1 on; 0 without workers."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1

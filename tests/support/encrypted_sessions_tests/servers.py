"""Real servers for tests: PostgreSQL, MariaDB and Redis, each in a folder of its own and on a free port.

Tests never use a server that was running before: they start their own, and end it by its process id.
A server can be paused, resumed, killed and started again, so that tests can show what happens then.
A copy of a server that went to another process is shared: it says where the server is, and lets it alone.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil

if TYPE_CHECKING:
    from typing_extensions import Self

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.02
PORT_ATTEMPTS = 5
LOG_TAIL_CHARS = 4_000


class ProgramMissingError(Exception):
    """The server's program is not installed on this machine."""


class ServerStartError(Exception):
    """The server did not come up; the message ends with the tail of its log."""


class Server(abc.ABC):
    """A program that listens on a port of 127.0.0.1. Subclasses say which one.

    As a context manager it starts on entry, and stops and removes its folder on exit.
    """

    name: str
    interrupt: signal.Signals
    """Asks the program to end soon and to tidy up."""
    crash: signal.Signals
    """Ends the program at once: connections break, and nothing is written first."""
    runs_as_root: ClassVar[bool] = False
    """Whether the program is started as root when the tests are."""
    parent_folder: ClassVar[str | None] = None
    """Where servers make their folders. The run sets it; without it, where temporary files are."""

    def __init__(self) -> None:
        # Not in pytest's tmp_path: the folders above it are closed to the unprivileged user.
        self.folder = Path(tempfile.mkdtemp(prefix=f"encrypted-sessions-{self.name}-", dir=self.parent_folder))
        self.port = 0
        self._shared = False
        self._process: subprocess.Popen[bytes] | None = None
        self._user = None if self.runs_as_root else _unprivileged_user()
        self._give_to_user(self.folder)

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._start_on_afree_port()
        except BaseException:  # Ctrl-C too leaves no server behind
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_shared": True}

    # What subclasses fill in.

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where a store finds the server."""

    def _prepare(self) -> None:  # noqa: B027 - not every program needs it
        """Do what has to be done once, before the first start."""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """The program and its arguments, which say `self.port`."""

    @abc.abstractmethod
    def _ready(self, pid: int) -> bool:
        """Whether the process `pid` itself (not another one on that port) takes connections."""

    # What tests call.

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server, on the same port as before, and wait until it takes connections."""
        self._must_be_ours()
        if self.running:
            return
        log_path = self.folder / "log"
        # The server also ends when the tests die without a chance to tidy up.
        lifeline = [setpriv, "--pdeathsig", self.interrupt.name[3:]] if (setpriv := shutil.which("setpriv")) else []
        with log_path.open("ab") as log:
            self._process = self._popen([*lifeline, *self._command()], stdout=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready(self._process.pid):
            if self._process.poll() is not None:
                raise ServerStartError(f"{self.name} ended with {self._process.returncode}.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerStartError(f"{self.name} was not ready after {START_TIMEOUT_S:.0f} s.\n{self.log_tail()}")
            time.sleep(POLL_S)

    def pause(self) -> None:
        """Stop every process of the server where it stands: connections stay open, nothing answers."""
        self._must_be_ours()
        if self._process is None:
            return
        # The parent first, so that it starts no child while the children are stopped.
        parent = psutil.Process(self._process.pid)
        _suspend([parent])
        _suspend(parent.children(recursive=True))

    def resume(self) -> None:
        """Let a paused server go on. Does nothing to one that runs."""
        for process in reversed(self._processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self) -> None:
        """End the server at once, as a crash would. `start()` brings it back on the same port."""
        self._end(self.crash)

    def stop(self) -> None:
        """End the server in good order."""
        self._end(self.interrupt)

    def restore(self) -> None:
        """Make it run again, whatever a test did to it."""
        self.resume()
        self.start()

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self) -> str:
        log_path = self.folder / "log"
        text = log_path.read_text(errors="replace") if log_path.exists() else ""
        return f"--- {self.name} log ---\n{text[-LOG_TAIL_CHARS:]}"

    # How it is done.

    def _start_on_afree_port(self) -> None:
        # Between the look for a free port and the server's own bind, someone else may take it.
        for attempts_left in reversed(range(PORT_ATTEMPTS)):
            self.port = free_port()
            try:
                self.start()
            except ServerStartError as error:
                if not attempts_left or "address already in use" not in str(error).lower():
                    raise
            else:
                return

    def _prepare_folder(self, name: str, prepare: Callable[[Path], None]) -> None:
        """Make a folder of this name in the server's own, with what `prepare` puts in.

        The first server of its kind in a run does that for all: the others copy, which takes a tenth of the time.
        """
        if self.parent_folder is None:
            self._make_folder(self.folder / name, prepare)
            return
        made = Path(self.parent_folder) / f"{self.name}-{name}"
        with made.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                half_made = made.with_suffix(f".{os.getpid()}")
                self._make_folder(half_made, prepare)
                half_made.rename(made)
        self._run(["cp", "-Rp", str(made), str(self.folder / name)])

    def _make_folder(self, folder: Path, prepare: Callable[[Path], None]) -> None:
        folder.mkdir()
        self._give_to_user(folder)
        prepare(folder)

    def _give_to_user(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _processes(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def _must_be_ours(self) -> None:
        if self._shared:
            raise RuntimeError(f"this {self.name} is shared; a test that stops a server is marked private_servers")

    def _end(self, how: signal.Signals) -> None:
        self._must_be_ours()
        if self._process is None:
            return
        # A process that is stopped takes no signal but SIGKILL: wake it after it was told to end.
        with contextlib.suppress(psutil.NoSuchProcess):
            if processes := self._processes():
                self._process.send_signal(how)
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.resume()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for process in self._processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
        self._process = None

    def _popen(self, command: Sequence[str], stdout: object) -> subprocess.Popen[bytes]:
        identity: dict[str, object] = {}
        if self._user is not None:
            identity = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops the server in order
            **identity,
        )

    def _run(self, command: Sequence[str]) -> None:
        process = self._popen(command, stdout=subprocess.PIPE)
        output, _ = process.communicate(timeout=START_TIMEOUT_S)
        if process.returncode != 0:
            raise ServerStartError(f"{command[0]} ended with {process.returncode}.\n{output.decode(errors='replace')}")


#: What tests give up of PostgreSQL's safety and memory, for the sake of their time.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
#: Connections that a server takes at once: all workers' tests, and twenty processes of each.
_CONNECTIONS = 500


class PostgresServer(Server):
    """PostgreSQL with an empty database. `settings` are server settings, such as `{"timezone": "Asia/Kolkata"}`.

    With `as_shipped` it has its own settings otherwise, which keep what is committed.

    `kill()` is PostgreSQL's immediate shutdown: what a crash does, but it gives its shared memory back.
    """

    name = "postgres"
    interrupt = signal.SIGINT
    crash = signal.SIGQUIT

    def __init__(self, settings: Mapping[str, str] | None = None, *, as_shipped: bool = False) -> None:
        self.programs = _postgres_programs()
        """The folder of its programs, psql among them."""
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **({} if as_shipped else {**_FAST, "max_connections": str(_CONNECTIONS)}),
            **(settings or {}),
        }
        self._password = ""
        super().__init__()
        self._initialised = self.folder / "initialised"
        self._data = self._initialised / "data"

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://sessions:{self._password}@127.0.0.1:{self.port}/postgres"

    def _prepare(self) -> None:
        self._prepare_folder("initialised", self._initialise)
        self._password = (self._initialised / "password").read_text()

    def _initialise(self, folder: Path) -> None:
        # Anyone on this machine can reach the port.
        password = secrets.token_hex(16)
        verifier_file = folder / "verifier"
        for file, text in ((folder / "password", password), (verifier_file, _quick_verifier(password))):
            file.write_text(text)
            self._give_to_user(file)  # whatever the umask of the test that is the first to ask for a server
        self._run(
            [
                str(self.programs / "initdb"),
                f"--pgdata={folder / 'data'}",
                "--username=sessions",
                f"--pwfile={verifier_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]
        )

    def _command(self) -> list[str]:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]

    def _ready(self, pid: int) -> bool:
        # The server's own word: its lock file has its pid in line 1 and its state in line 8.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _quick_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (SCRAM-SHA-256: RFC 5802, section 3; RFC 7677), hashed once.

    4,096 times, as usual, would be most of what many tests do: asyncpg does that in Python, at each connection.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256$1:{salt_text}${stored_text}:{server_text}"


class MariaDbServer(Server):
    """MariaDB with an empty database. It keeps its data over `kill()` and `start()`."""

    name = "mariadb"
    interrupt = signal.SIGTERM
    crash = signal.SIGKILL

    def __init__(self) -> None:
        self._program = _system_program("mariadbd")
        self._install = _system_program("mariadb-install-db")
        # Anyone on this machine can reach the port.
        self._password = secrets.token_hex(16)
        super().__init__()
        self._data = self.folder / "initialised" / "data"
        self._pid_file = self.folder / "pid"
        self._first_statements = self.folder / "first.sql"

    @property
    def url(self) -> str:
        return f"mysql+pymysql://sessions:{self._password}@127.0.0.1:{self.port}/sessions"

    def _prepare(self) -> None:
        self._prepare_folder("initialised", self._initialise)
        # Run at every start; the server takes one statement a line.
        self._first_statements.write_text(
            "CREATE DATABASE IF NOT EXISTS sessions;\n"
            f"CREATE USER IF NOT EXISTS sessions@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO sessions@'127.0.0.1' WITH GRANT OPTION;\n"
            "DROP USER IF EXISTS root@localhost;\n"
        )
        if self._user is not None:
            self._first_statements.chmod(0o600)
            self._give_to_user(self._first_statements)

    def _initialise(self, folder: Path) -> None:
        self._run(
            [
                str(self._install),
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                f"--tmpdir={folder}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-log-file-size=8M",
                "--innodb-flush-method=nosync",
            ]
        )

    def _command(self) -> list[str]:
        return [
            str(self._program),
            "--no-defaults",
            f"--datadir={self._data}",
            # One that starts removes the temporary tables that it finds, also those of another that runs.
            f"--tmpdir={self.folder}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self._pid_file}",
            f"--init-file={self._first_statements}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-flush-method=nosync",
            "--innodb-fast-shutdown=2",
            "--max-connect-errors=1000000",
            f"--max-connections={_CONNECTIONS}",
        ]

    def _ready(self, pid: int) -> bool:
        # The port is open before anybody is let in. The greeting comes first thing after that.
        try:
            if self._pid_file.read_text().strip() != str(pid):
                return False
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                return bool(connection.recv(4))
        except OSError:
            return False


class RedisServer(Server):
    """Redis, in memory only: after `kill()` or `stop()` and `start()` it is empty.

    `settings` are settings of the server, such as `{"appendonly": "yes"}`.
    """

    name = "redis"
    interrupt = signal.SIGTERM
    crash = signal.SIGKILL
    databases = 1_000
    """Numbered from 0 on; each worker takes one of its own."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ProgramMissingError("redis-server is not on PATH (Debian: apt-get install redis-server)")
        self._program = program
        self._settings = {"save": "", "appendonly": "no", "databases": str(self.databases), **(settings or {})}
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        listen = ["--bind", "127.0.0.1", "--port", str(self.port)]
        settings = [part for name, value in self._settings.items() for part in (f"--{name}", value)]
        return [self._program, *listen, "--dir", str(self.folder), *settings]

    def _ready(self, pid: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"INFO server\r\n")
                answer = connection.recv(65_536)
        except OSError:
            return False
        return f"process_id:{pid}\r\n".encode() in answer


def _suspend(processes: Sequence[psutil.Process]) -> None:
    """Stop the processes, and wait until none of them runs any more."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
            # One that ended meanwhile stays a zombie: its parent is stopped, too.
            while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"process {process.pid} did not stop within {STOP_TIMEOUT_S:.0f} s")
                time.sleep(POLL_S)


def _system_program(name: str) -> Path:
    """A program of MariaDB: on PATH, or where Debian keeps servers, which is not on everybody's PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise ProgramMissingError(f"MariaDB's {name} is not on PATH (Debian: apt-get install mariadb-server)")
    return Path(found)


def _postgres_programs() -> Path:
    """The folder of initdb and postgres: on PATH, or where Debian puts the newest version."""
    if shutil.which("initdb") and (found := shutil.which("postgres")):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise ProgramMissingError(
            "PostgreSQL's initdb is not on PATH nor in /usr/lib/postgresql (Debian: apt-get install postgresql)"
        )
    return versions[-1].parent


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when the tests run as root (PostgreSQL refuses root); None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerStartError(
        "The tests run as root, and there is neither a user postgres nor nobody to start servers as."
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

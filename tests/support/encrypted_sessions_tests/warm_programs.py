"""Programs that begin with everything imported: forked from a server, which a test process starts when it needs one.

To import the SDK, SQLAlchemy or boto3 takes a second or more, and each program of a test would do so anew. What happens
before the first line of a program is not seen here: for that, some are started as anybody starts them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from . import warm_client

__all__ = ["COMMAND", "Program", "run", "run_command", "script"]

COMMAND = "encrypted_sessions.cli"
"""The module behind `encrypted-sessions`."""


class Program:
    """`python -m MODULE WORD...`, to be used as a `subprocess.Popen` with text in its streams."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
    ) -> None:
        self.args = list(words)
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        with contextlib.ExitStack() as theirs:
            given = [_fileno(stdin, theirs)]
            for name, stream in (("stdout", stdout), ("stderr", stderr)):
                if stream == subprocess.PIPE:
                    ours, their = os.pipe()
                    theirs.callback(os.close, their)
                    setattr(self, name, os.fdopen(ours, encoding="utf-8"))
                    given.append(their)
                else:
                    given.append(_fileno(stream, theirs))
            environment = os.environ if env is None else env
            self._server = warm_client.ask(_socket(), self.args, given, environment, str(Path.cwd()))
        self._answers = self._server.makefile()
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """How it ended, if it has."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """How it ended. TimeoutExpired where it does not in so many seconds."""
        status = self._ended(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing is sent to one that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that is still to come of its output and its errors, and wait for its end."""
        read = {}

        def read_all(name: str, stream: IO[str]) -> None:
            with stream:
                read[name] = stream.read()

        streams = [("stdout", self.stdout), ("stderr", self.stderr)]
        readers = [
            threading.Thread(target=read_all, args=(name, stream), daemon=True)
            for name, stream in streams
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return read.get("stdout", ""), read.get("stderr", "")

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._server], [], [], timeout)[0]:
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._server.close()
        return self.returncode


def run_command(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `encrypted-sessions WORD...` says, and how it ends."""
    program = Program([COMMAND, *words], env=env)
    stdout, stderr = program.communicate()
    return subprocess.CompletedProcess(program.args, program.wait(), stdout, stderr)


def script(module: str = COMMAND) -> str:
    """A shell script that is this program."""
    return f'#!/bin/sh\nexec "{sys.executable}" -IS "{warm_client.__file__}" "{_socket()}" {module} "$@"\n'


def run(module: str, order: Mapping[str, Any], *, timeout_s: float) -> None:
    """Run a module, which reads its order from standard input, and wait for its end.

    Raises RuntimeError where it fails, or takes too long: then it is killed with its children.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
        stdin.write(json.dumps(order).encode())
        stdin.seek(0)
        program = Program([module], stdin=stdin, stdout=output, stderr=output)
        how = "takes too long"
        try:
            how = f"ended with {program.wait(timeout_s)}"
        except subprocess.TimeoutExpired:
            pass
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
        if program.wait() != 0:
            output.seek(0)
            raise RuntimeError(f"{module} {how}:\n{output.read().decode(errors='replace')}")


def _fileno(stream: int | IO[Any], theirs: contextlib.ExitStack) -> int:
    if stream == subprocess.DEVNULL:
        return theirs.enter_context(Path(os.devnull).open("r+b")).fileno()
    return stream if isinstance(stream, int) else stream.fileno()


@cache
def _socket() -> str:
    """Where the server is asked. It ends with this process, whose end of its standard input is the only one."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    path = str(Path(folder.name, "socket"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.warm_server", str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            # What it imports, it finds by this alone.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return path

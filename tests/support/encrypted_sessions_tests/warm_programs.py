"""Programs that begin with everything imported: forked from a server, which a test process starts when it needs one.

To import the SDK takes seconds, and each of these programs, which fork and kill children of their own, would do so
anew. The server has no threads and opens no store: nothing but modules is shared by fork.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["run"]

_IMPORTED = [
    __name__,
    "agents.extensions.memory.redis_session",
    "agents.extensions.memory.sqlalchemy_session",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "encrypted_sessions_tests.keyset_fork_harness",
    "encrypted_sessions_tests.maintenance_fork_harness",
    "encrypted_sessions_tests.put_back_fork_harness",
    "encrypted_sessions_tests.session_fork_harness",
    "encrypted_sessions_tests.store_fork_harness",
]


def run(module: str, order: Mapping[str, Any], *, timeout_s: float) -> None:
    """Run the `main` of a module, which reads its order from standard input, and wait for its end.

    Raises RuntimeError where it fails, or takes too long: then it is killed with its children.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        program = _server().Process(target=_main, args=(module, json.dumps(order), dict(os.environ), output))
        program.start()
        try:
            program.join(timeout_s)
            status = program.exitcode
        finally:
            if program.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
                program.join()
            program.close()
        if status != 0:
            how = "takes too long" if status is None else f"ended with {status}"
            raise RuntimeError(f"{module} {how}:\n{output.read_text(encoding='utf-8', errors='replace')}")


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    # What it imports beforehand, it finds by this alone.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context


def _main(module: str, order: str, environment: dict[str, str], output: Path) -> None:
    os.setsid()  # so that it can be ended with its children
    os.environ.clear()
    os.environ.update(environment)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(written, stream)
    sys.stdin = io.StringIO(order)
    importlib.import_module(module).main()

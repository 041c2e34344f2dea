"""The key server of the outage demo: another process that can be stopped, continued and killed.

`KeyServer` starts it and does things to it. It listens on loopback, and answers only who knows the
token of this run. It ends when its parent does.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from keyproviders import Key, redact_frames

from .provider import HOST, HttpKeyProvider

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KeyServer"]

_START_TIMEOUT_S = 30.0


class KeyServer:
    """The server's process: started with a random key, stopped, continued, killed, and started again."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(16)
        self._key = Key.generate("demo")
        self._created_at = int(datetime.now(timezone.utc).timestamp())
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.start()

    @property
    def pid(self) -> int | None:
        """Of the process that runs, or None."""
        return None if self._process is None else self._process.pid

    def provider(self) -> HttpKeyProvider:
        """A provider that asks this server."""
        return HttpKeyProvider(self._port, self._token)

    @redact_frames
    def start(self) -> None:
        """Start the process, on the same port and with the same key as before."""
        if self._process is not None:
            raise RuntimeError("the key server runs already")
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            # The same packages as here, whatever folder the user is in.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        settings = {
            "token": self._token,
            "port": self._port,
            "created_at": self._created_at,
            "name": self._key.name,
            "key": self._key.reveal_base64(),
        }
        # Through a pipe that nobody else reads: arguments and the environment can be seen.
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        killer = threading.Timer(_START_TIMEOUT_S, process.kill)
        killer.start()
        try:
            line = process.stdout.readline()
        finally:
            killer.cancel()
            killer.join()
        if not line.strip().isdigit():
            self.kill()
            raise RuntimeError(f"the key server did not start within {_START_TIMEOUT_S:g} s")
        self._port = int(line)

    def stop(self) -> None:
        """SIGSTOP: it still takes connections, and answers nothing."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: it goes on where it was."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: connections are refused from now on. Nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _send(self, number: int) -> None:
        if self._process is None:
            raise RuntimeError("the key server does not run")
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<KeyServer {self._key.kid} on port {self._port}: {'runs' if self._process else 'does not run'}>"


def _handler(settings: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    body = json.dumps({name: settings[name] for name in ("name", "key", "created_at")}).encode()
    paths = {"/active", f"/keys/{settings['name']}"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not hmac.compare_digest(self.headers.get("Authorization", ""), settings["token"]):
                self._answer(403, b"")
            elif self.path in paths:
                self._answer(200, body)
            else:
                self._answer(404, b"")

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: who asks tells."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing: while it was stopped, who had asked has given up and hung up."""


def _serve() -> None:
    # Ctrl-C in a terminal reaches this process too; its parent decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    server = _Server((HOST, settings["port"]), _handler(settings))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    # Ends when the pipe does: with the parent, however that ends.
    sys.stdin.read()


if __name__ == "__main__":
    _serve()

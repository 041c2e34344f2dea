"""Secrets Manager as moto plays it, over HTTP, and a proxy in front of it that can fail as the real one does."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from keyproviders import Key

REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def _a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the credentials, the settings or the proxies of whoever runs it."""
    for name in os.environ:
        if name.startswith("AWS_") or name.upper() in {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")


@dataclass
class Fault:
    """What the proxy answers instead of passing the request on. ``breaks`` ends the connection."""

    status: int = 400
    code: str = ""
    message: str = "told so"
    body: bytes | None = None
    breaks: bool = False
    waits: threading.Event | None = None
    #: Passed on after all, once it has waited.
    passes: bool = False


@dataclass
class Asked:
    """One request as the proxy saw it."""

    target: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class FaultProxy:
    """In front of moto: answers with the faults that are queued, and passes on what comes after them."""

    def __init__(self, behind: tuple[str, int]) -> None:
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.note(self.headers, content)
                if fault is not None and fault.waits is not None:
                    fault.waits.wait(30)
                if fault is not None and fault.breaks:
                    self.close_connection = True
                    return
                if fault is None or fault.passes:
                    status, kind, answer = proxy.pass_on(behind, self.path, dict(self.headers.items()), content)
                else:
                    status, kind = fault.status, "application/x-amz-json-1.1"
                    answer = fault.body
                    if answer is None:
                        answer = json.dumps({"__type": fault.code, "message": fault.message}).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up is no news
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def note(self, headers: Any, content: bytes) -> Fault | None:
        try:
            body = json.loads(content)
        except ValueError:
            body = content.decode()
        with self._lock:
            self.asked.append(Asked(headers.get("X-Amz-Target", "").rpartition(".")[2], body, dict(headers.items())))
            return self.faults.pop(0) if self.faults else None

    @staticmethod
    def pass_on(
        behind: tuple[str, int], path: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(*behind, timeout=30)
        try:
            connection.request("POST", path, content, {**headers, "Connection": "close"})
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type", ""), response.read()
        finally:
            connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="session")
def _moto() -> Iterator[tuple[str, int]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def proxy(_moto: tuple[str, int]) -> Iterator[FaultProxy]:
    made = FaultProxy(_moto)
    try:
        yield made
    finally:
        made.close()


class Secret:
    """One test's own secret, written past the proxy."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"prod/agents/{secrets.token_hex(4)}"
        self.arn = ""

    def write(self, **value: Any) -> str:
        """Store this as the newest version; gives its id."""
        if not self.arn:
            made = self.client.create_secret(Name=self.name, **value)
            self.arn = made["ARN"]
        else:
            made = self.client.put_secret_value(SecretId=self.name, **value)
        return str(made["VersionId"])

    def write_key(self) -> Key:
        key = Key.generate()
        return Key(self.write(SecretString=key.reveal_base64()), key.secret)


@pytest.fixture(scope="session")
def _client(_moto: tuple[str, int]) -> Iterator[Any]:
    import boto3

    host, port = _moto
    client = boto3.client(
        "secretsmanager",
        endpoint_url=f"http://{host}:{port}",
        region_name=REGION,
        aws_access_key_id="AKIDWRITER",
        aws_secret_access_key="x",
    )
    yield client
    client.close()


@pytest.fixture
def secret(_client: Any) -> Secret:
    return Secret(_client)


@pytest.fixture
def fault() -> type[Fault]:
    return Fault

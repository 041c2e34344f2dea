"""AWS as moto plays it, over HTTP, and a proxy in front of it that can fail as the real one does."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from encrypted_sessions_tests.loopback_http import Handler, LoopbackServer

REGION = "eu-central-1"


@contextmanager
def moto_server() -> Iterator[tuple[str, int]]:
    """Its host and port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request is no news
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


def client_of(service: str, moto: tuple[str, int], region: str = REGION) -> Any:
    """A client of somebody else, past the proxy."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=f"http://{moto[0]}:{moto[1]}",
        region_name=region,
        aws_access_key_id="AKIDWRITER",
        aws_secret_access_key="x",
    )


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

        class Answering(Handler):
            def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
                content = self.content()
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
                self.reply(status, answer, {"Content-Type": kind})

        self._http = LoopbackServer(Answering)
        self.url = self._http.url

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
        self._http.close()

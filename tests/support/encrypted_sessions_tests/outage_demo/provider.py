"""The provider of the outage demo: it asks the key server over HTTP."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException

from keyproviders import (
    Key,
    KeyAccessDeniedError,
    KeyNotFoundError,
    KeyUnavailableError,
    decode_key_text,
    parse_kid,
    redact_frames,
)

__all__ = ["HOST", "HttpKeyProvider"]

HOST = "127.0.0.1"
#: An attempt takes no longer than this; how often to try again is the ring's part.
_TIMEOUT_S = 1.0


class HttpKeyProvider:
    """Asks the server for keys: one connection and one answer for each question."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self.place = f"the key server on port {port}"

    def active(self) -> Key:
        """The key that the server calls active."""
        return self._ask("/active")

    def get(self, name: str) -> Key:
        """The server's key of that name; a name that no key can have is not asked for."""
        if parse_kid(f"{name}~00000000") is None or not name:
            raise KeyNotFoundError(f"{self.place} was not asked for a name that no key can have")
        return self._ask(f"/keys/{name}")

    @redact_frames
    def _ask(self, path: str) -> Key:
        connection = HTTPConnection(HOST, self._port, timeout=_TIMEOUT_S)
        problem = ""
        try:
            connection.request("GET", path, headers={"Authorization": self._token})
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, HTTPException) as error:
            problem = type(error).__name__
        finally:
            connection.close()
        if problem:
            raise KeyUnavailableError(f"{self.place} did not answer ({problem}); see that it runs")
        if status == 403:
            raise KeyAccessDeniedError(f"{self.place} refused {path}; give it the token of this run")
        if status == 404:
            raise KeyNotFoundError(f"{self.place} has no {path}; put the key there")
        if status != 200:
            raise KeyUnavailableError(f"{self.place} answered with status {status}; see its log")
        entry = json.loads(body)
        created_at = datetime.fromtimestamp(entry["created_at"], timezone.utc)
        return Key(entry["name"], decode_key_text(entry["key"]), created_at)

    def __repr__(self) -> str:
        return f"<HttpKeyProvider of {self.place}>"

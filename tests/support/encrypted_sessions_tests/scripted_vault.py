"""A server on loopback that answers as it is told, over real HTTP, as Vault and OpenBao do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from encrypted_sessions_tests.loopback_http import Handler, LoopbackServer
from keyproviders import Key


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Reply:
    """One answer. ``raw`` is sent as it is instead of ``body``; ``breaks`` ends the connection instead."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    breaks: bool = False
    waits: threading.Event | None = None


class ScriptedVault:
    """Plays a server: each route has its replies in order, of which the last one stays.

    Anything that has no route is answered as a Vault without such a path does. ``asked`` has every request.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.routes: dict[tuple[str, str], list[Reply | Callable[[Asked], Reply]]] = {}
        self._lock = threading.Lock()
        script = self

        class Answering(Handler):
            def _serve(self) -> None:
                text = self.content()
                asked = Asked(self.command, self.path, dict(self.headers.items()), json.loads(text) if text else None)
                reply = script.reply_to(asked)
                if reply.waits is not None:
                    reply.waits.wait(30)
                if reply.breaks:
                    self.close_connection = True
                    return
                content = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
                self.reply(reply.status, content, {"Content-Type": "application/json", **reply.headers})

            do_GET = do_POST = do_PUT = do_PATCH = do_LIST = _serve  # noqa: N815 - the names that http.server calls

        self._http = LoopbackServer(Answering)
        self.url = self._http.url

    def on(self, method: str, path: str, *replies: Reply | Callable[[Asked], Reply]) -> None:
        self.routes[method, path] = list(replies)

    def reply_to(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            replies = self.routes.get((asked.method, asked.path))
            if not replies:
                return Reply(404, {"errors": []})
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply(asked) if callable(reply) else reply

    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path.removeprefix('/v1/')}" for asked in self.asked]

    def tokens(self) -> list[str | None]:
        return [asked.headers.get("X-Vault-Token") for asked in self.asked]

    def close(self) -> None:
        self._http.close()

    # What the real one answers most often.

    def has_key(self, key: Key, *, version: int = 1, path: str = "secret/data/agents/session-key") -> None:
        self.on("GET", f"/v1/{path}", Reply(200, self.secret(key, version)))

    @staticmethod
    def secret(key: Key, version: int = 1) -> dict[str, Any]:
        metadata = {
            "created_time": "2026-11-23T01:52:43.018108633Z",
            "custom_metadata": None,
            "deletion_time": "",
            "destroyed": False,
            "version": version,
        }
        return {"data": {"data": {"key": key.reveal_base64()}, "metadata": metadata}}

    @staticmethod
    def granted(token: str, lease_s: int = 3600, *, renewable: bool = True) -> Reply:
        return Reply(200, {"auth": {"client_token": token, "lease_duration": lease_s, "renewable": renewable}})

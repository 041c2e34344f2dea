"""What a key server is asked in an hour, and how long an operation waits for it, in good times and in bad ones.

The providers are real, and so is the HTTP on loopback: only the server at its other end is a small one, which plays
Vault and Secrets Manager and fails as it is told. Hours pass on a clock that is set forward.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from measuring import Table, ms
from outage import ListSession

from encrypted_sessions import EncryptedSession
from encrypted_sessions_tests.loopback_http import Handler, LoopbackServer
from keyproviders import Key, KeyProvider, KeyProviderError, KeyRing
from keyproviders.aws import AwsSecretsManagerKeyProvider
from keyproviders.vault import VaultKvKeyProvider

_HOUR_S = 3_600
_STEP_S = 10
_PROCESSES = 100
_ID = "00000000-0000-0000-0000-00000000000{}"
# A server that takes longer than 2 s is one that does not answer.
_SLOW_S = 1.9


class _Server:
    """Vault at /v1/ and Secrets Manager at /: two versions of a key, tokens of an hour. ``mode`` says how it is."""

    def __init__(self) -> None:
        self.keys = {1: Key.generate("1"), 2: Key.generate("2")}
        self.asked: list[str] = []
        self.mode = "well"
        self._go_on = threading.Event()
        server = self

        class Answering(Handler):
            def _serve(self) -> None:
                text = self.content()
                server.asked.append(self.path)
                if server.mode == "slow":
                    time.sleep(_SLOW_S)
                if server.mode == "silent":
                    server._go_on.wait(60)
                    self.close_connection = True
                    return
                status, body = server.answer(self.path, json.loads(text) if text else {})
                self.reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

            do_GET = do_POST = _serve  # noqa: N815 - the names that http.server calls

        self._http = LoopbackServer(Answering)
        self.url = self._http.url

    def answer(self, path: str, sent: dict[str, Any]) -> tuple[int, Any]:
        if path == "/":
            if self.mode == "denied":
                return 400, {"__type": "ExpiredTokenException", "message": "The security token is expired"}
            version = int(sent.get("VersionId", "2")[-1])
            secret = self.keys[version].reveal_base64()
            return 200, {"VersionId": _ID.format(version), "SecretString": secret, "CreatedDate": 1_795_398_763}
        if path.endswith(("/login", "/renew-self")):
            if self.mode == "denied":
                return 400, {"errors": ["invalid role or secret ID"]}
            return 200, {"auth": {"client_token": "t", "lease_duration": _HOUR_S, "renewable": True}}
        if self.mode == "denied":
            return 403, {"errors": ["permission denied"]}
        version = int(path.partition("version=")[2] or 2)
        metadata = {"version": version, "created_time": "2026-11-23T01:52:43Z"}
        return 200, {"data": {"data": {"key": self.keys[version].reveal_base64()}, "metadata": metadata}}

    def close(self) -> None:
        self._go_on.set()
        self._http.close()


class _Clock:
    """Goes as it is set, and with the time that really passes."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def _vault(url: str, clock: _Clock) -> KeyProvider:
    provider = VaultKvKeyProvider("agents/session-key", address=url, auth="approle", role_id="r", secret_id="s")
    # The life of its token passes on the same clock.
    provider._connection._tokens._clock = clock  # type: ignore[union-attr]  # an approle has one
    return provider


def _secrets_manager(url: str, _: _Clock) -> KeyProvider:
    return AwsSecretsManagerKeyProvider("prod/agents/session-key", region="eu-central-1", endpoint_url=url)


_Make = Callable[[str, _Clock], KeyProvider]


class _Process:
    """One process: a ring and a session on it, and what its operations took."""

    def __init__(self, make: _Make, url: str) -> None:
        self.clock = _Clock()
        self.ring = KeyRing(make(url, self.clock), clock=self.clock)
        self.session = EncryptedSession.wrap(ListSession(), self.ring, ttl=None)
        self.longest_s = 0.0

    async def operate(self) -> None:
        """Write and read; what fails has taken its time as well."""
        item: Any = {"role": "user", "content": "measured"}
        await self._timed(self.session.add_items([item]))
        await self._timed(self.session.get_items(limit=5))

    async def _timed(self, operation: Awaitable[object]) -> None:
        began = time.perf_counter()
        try:
            await operation
        except KeyProviderError:
            pass
        finally:
            self.longest_s = max(self.longest_s, time.perf_counter() - began)

    async def operate_until_it_has_asked(self) -> None:
        """At least once, and on as long as the ring waits for its server."""
        await self.operate()
        while self.ring.health().counts["waiting"]:
            await self.operate()
            await asyncio.sleep(0.001)


async def measure(*, quick: bool) -> Table:
    table = Table(
        "A key server",
        ("what", "Vault", "Secrets Manager"),
        "Providers as they are, over HTTP on loopback, to a small server that plays both; the ring has its"
        " default numbers. Requests in an hour: a process that uses the active key and an older one all the time; with"
        " Vault the login (AppRole, tokens of an hour) and its renewals are among them. Delays: the longest that one"
        " `add_items` or `get_items` took, the waiting for the server among it. Warm is a process that has its keys,"
        " cold one that has none. The clocks of ring and token are set forward, to when the key or the token is due.",
    )
    logging.getLogger("keyproviders").setLevel(logging.CRITICAL)
    with _environment():
        sides = (_vault, _secrets_manager)
        for count in (1, 10 if quick else _PROCESSES):
            cells = [f"{await _requests_in_an_hour(make, count):,}" for make in sides]
            table.add(f"requests in an hour, {count} process" + ("es" if count > 1 else ""), *cells)
        rounds = 5 if quick else 50
        for label, case in _CASES.items():
            table.add(label, *[await case(make, rounds) for make in sides])
    return table


@contextmanager
def _environment() -> Iterator[None]:
    """No settings of whoever runs this."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "VAULT_", "BAO_"))}
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    with mock.patch.dict(os.environ, {**kept, **keys}, clear=True):
        yield


@contextmanager
def _serving() -> Iterator[_Server]:
    server = _Server()
    try:
        yield server
    finally:
        server.close()


async def _requests_in_an_hour(make: _Make, count: int) -> int:
    with _serving() as server:
        processes = [_Process(make, server.url) for _ in range(count)]
        older = server.keys[1]
        older_kid = f"{'1' if make is _vault else _ID.format(1)}~{older.fingerprint}"
        for one in processes:
            while not one.ring.health().can_write:
                with suppress(KeyProviderError):  # a busy machine may take longer than 8 s to load boto3
                    await one.ring.active()
        for _ in range(_HOUR_S // _STEP_S):
            for one in processes:
                one.clock.ahead_s += _STEP_S
                await one.ring.active()
                await one.ring.get(older_kid)
            while any(one.ring.health().counts["waiting"] for one in processes):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        await asyncio.gather(*(one.ring.aclose() for one in processes))
        return len(server.asked)


@contextmanager
def _warm(make: _Make, server: _Server) -> Iterator[_Process]:
    process = _Process(make, server.url)
    process.ring.active_sync()
    yield process
    process.ring.close()


async def _between(make: _Make, rounds: int) -> str:
    """What the machine and the session take by themselves."""
    with _serving() as server, _warm(make, server) as process:
        for _ in range(20 * rounds):
            await process.operate()
            await asyncio.sleep(0.001)
        assert process.ring.health().counts["calls"] == 1
    return ms(process.longest_s)


async def _healthy(make: _Make, rounds: int) -> str:
    with _serving() as server, _warm(make, server) as process:
        for _ in range(rounds):
            process.clock.ahead_s += 290
            await process.operate_until_it_has_asked()
    return ms(process.longest_s)


async def _cold_and_well(make: _Make, rounds: int) -> str:
    with _serving() as server:
        return ms(max([await _first(make, server) for _ in range(rounds // 5)]))


async def _first(make: _Make, server: _Server) -> float:
    process = _Process(make, server.url)
    await process.operate()
    await process.ring.aclose()
    return process.longest_s


async def _slow_warm(make: _Make, _: int) -> str:
    return await _bad_and_warm(make, "slow")


async def _slow_cold(make: _Make, _: int) -> str:
    with _serving() as server:
        server.mode = "slow"
        return ms(await _first(make, server))


async def _silent_warm(make: _Make, _: int) -> str:
    return await _bad_and_warm(make, "silent")


async def _bad_and_warm(make: _Make, mode: str) -> str:
    """Three refreshes in the 15 minutes in which a process writes on."""
    with _serving() as server, _warm(make, server) as process:
        server.mode = mode
        for _ in range(3):
            process.clock.ahead_s += 280
            await process.operate_until_it_has_asked()
        assert process.ring.health().can_write
    return ms(process.longest_s)


async def _silent_cold(make: _Make, _: int) -> str:
    with _serving() as server:
        server.mode = "silent"
        return ms(await _first(make, server)) + " until the error"


async def _refused_cold(make: _Make, _: int) -> str:
    with _serving() as server:
        pass
    return ms(await _first(make, server)) + " until the error"


async def _writing_ended(make: _Make, _: int) -> str:
    with _serving() as server, _warm(make, server) as process:
        server.mode = "silent"
        process.clock.ahead_s += 901
        await process.operate()
    return ms(process.longest_s) + " until the error"


async def _login_fails_warm(make: _Make, rounds: int) -> str:
    """The token ends, and no login brings another: what is denied coasts for five minutes."""
    with _serving() as server, _warm(make, server) as process:
        process.clock.ahead_s += _HOUR_S - 200
        await process.operate_until_it_has_asked()
        server.mode = "denied"
        for ahead_s in (290, 15, *[250 / rounds] * rounds):
            process.clock.ahead_s += ahead_s
            await process.operate_until_it_has_asked()
        assert process.ring.health().can_write
        assert process.ring.health().counts["denied"]
    return ms(process.longest_s)


async def _login_fails_cold(make: _Make, rounds: int) -> str:
    with _serving() as server:
        server.mode = "denied"
        return ms(max([await _first(make, server) for _ in range(rounds // 5)])) + " until the error"


_CASES: dict[str, Callable[[_Make, int], Awaitable[str]]] = {
    "all well, warm, nothing due": _between,
    "all well, warm, the key is refreshed": _healthy,
    "all well, cold": _cold_and_well,
    f"each answer takes {_SLOW_S:g} s, warm": _slow_warm,
    f"each answer takes {_SLOW_S:g} s, cold": _slow_cold,
    "no answer, warm, in the first 15 minutes": _silent_warm,
    "no answer, warm, a write after 15 minutes": _writing_ended,
    "no answer, cold": _silent_cold,
    "connection refused, cold": _refused_cold,
    "the login is refused (credentials expired), warm": _login_fails_warm,
    "the login is refused (credentials expired), cold": _login_fails_cold,
}

"""What a keyset under AWS KMS costs: calls to KMS, and time per item, in processes that share it.

Run as a program it is one such process: ``python kms.py URL SESSIONS TURNS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from measuring import Table

from encrypted_sessions import EncryptedSession, KeyRing
from keyproviders import open_keyset
from keyproviders.local import StaticKeyProvider

PROCESSES = 4
SESSIONS = 1_000
TURNS = 100
#: Each turn seals two items and opens them again.
OPERATIONS_OF_A_TURN = 4
_DAY_S = 86_400
_CALLS_A_DAY = 24  # a held key is unwrapped again when its copy is older than an hour


class Store:
    """A session that keeps its rows in memory and costs next to nothing."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self._rows: list[Any] = []

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return self._rows if limit is None else self._rows[-limit:]

    async def add_items(self, items: list[Any]) -> None:
        self._rows += items

    async def pop_item(self) -> Any:
        return self._rows.pop()

    async def clear_session(self) -> None:
        self._rows.clear()


class Report(NamedTuple):
    """What the processes did together, and what KMS was asked meanwhile."""

    operations: int
    seconds: float
    """In sealing and opening, of all processes together."""
    without_kms: float
    """The same work with a key that is just there."""
    calls: Counter[tuple[str, str]]
    """Call and key, for all processes together."""


async def measure(*, quick: bool) -> Table:
    table = Table(
        "A keyset under AWS KMS",
        ("what", "figure"),
        f"{PROCESSES} processes share a keyset in a file; KMS is moto's server, over HTTP on this machine."
        f" {SESSIONS:,} sessions of {TURNS} turns; each turn seals two items and opens them again. After half of"
        " the turns the key is rotated (`keys rotate --now`), so every process needs two keys. These turns"
        " alternate with the same turns with a key in memory.",
    )
    report = await asyncio.to_thread(run_fleet, SESSIONS // (10 if quick else 1), TURNS)
    unwraps = sum(count for (call, _), count in report.calls.items() if call == "Decrypt")
    table.add("operations: items sealed, items opened", f"{report.operations:,}")
    table.add("calls to KMS by the processes", f"{unwraps}")
    table.add("calls for each process and key", f"{unwraps / PROCESSES / 2:g}")
    table.add("calls for a million operations, in this run", f"{unwraps / report.operations * 1e6:.1f}")
    per_item_s = report.seconds / report.operations
    busy = _CALLS_A_DAY / (_DAY_S / per_item_s)
    table.add("the same for a process that does nothing else all day, with one key", f"{busy * 1e6:.4f}")
    table.add("time per item, with the keyset", f"{per_item_s * 1e6:.1f} us")
    table.add("time per item, with a key in memory", f"{report.without_kms / report.operations * 1e6:.1f} us")
    return table


def run_fleet(sessions: int, turns: int, processes: int = PROCESSES) -> Report:
    """That many sessions, shared out among the processes, with a rotation after half of the turns."""
    with keyset() as (url, proxy):
        manager = open_keyset(url)
        manager.create(key_name="k1")
        before = len(proxy.asked)
        command = [sys.executable, __file__, url, str(sessions // processes), str(turns)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with ExitStack() as stack:
            fleet = [
                stack.enter_context(
                    subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
                for _ in range(processes)
            ]
            for member in fleet:
                said(member)
            manager.rotate(key_name="k2", now=True)
            for member in fleet:
                assert member.stdin is not None
                member.stdin.write("go on\n")
                member.stdin.flush()
            done = [said(member) for member in fleet]
        manager.close()
        calls = Counter((one.target, one.body["EncryptionContext"]["key"]) for one in proxy.asked[before:])
    calls.pop(("GenerateDataKey", "k2"))
    return Report(
        sum(one["operations"] for one in done),
        sum(one["seconds"] for one in done),
        sum(one["without_kms"] for one in done),
        calls,
    )


@contextmanager
def keyset() -> Iterator[tuple[str, Any]]:
    """The URL of a keyset that is not there yet, and the proxy that sees every call to KMS."""
    from encrypted_sessions_tests.aws_servers import REGION, FaultProxy, client_of, moto_server

    settings = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x"}
    kept = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with tempfile.TemporaryDirectory() as folder, moto_server() as address:
            client = client_of("kms", address)
            arn = client.create_key()["KeyMetadata"]["Arn"]
            client.close()
            proxy = FaultProxy(address)
            yield f"aws-kms:{arn}?endpoint_url={proxy.url}&keyset=file:{folder}/keyset.json", proxy
            proxy.close()
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def said(member: subprocess.Popen[str]) -> Any:
    """The next line of a process."""
    assert member.stdout is not None
    line = member.stdout.readline()
    assert line, f"a process of the fleet ended with {member.wait()}"
    return json.loads(line)


async def member(url: str, sessions: int, turns: int) -> None:
    """One process: half of the turns of all its sessions, a pause until the key was rotated, and the rest."""
    async with KeyRing.from_url(url) as keys, KeyRing(StaticKeyProvider(_A_KEY)) as plain:
        taken = {keys: 0.0, plain: 0.0}
        talks = [
            (ring, EncryptedSession.wrap(Store(f"user-{number}"), ring, ttl=_DAY_S))
            for number in range(sessions)
            for ring in (keys, plain)
        ]
        opened = 0
        for half in (range(turns // 2), range(turns // 2, turns)):
            for turn in half:
                talks.reverse()  # so that each ring is as often the first
                items = [{"role": role, "content": f"{role} in turn {turn}"} for role in ("user", "assistant")]
                for ring, session in talks:
                    start = time.perf_counter()
                    await session.add_items(items)  # type: ignore[arg-type]  # messages
                    found = await session.get_items(2)
                    taken[ring] += time.perf_counter() - start
                    assert found == items
                    opened += ring is keys
            if half.start == 0:
                print(json.dumps("half"), flush=True)  # noqa: T201 - the parent reads it
                sys.stdin.readline()
                await keys.refresh()
        # What was sealed before the rotation opens too.
        for _, session in talks[:: 2 * max(sessions // 10, 1)]:
            history = await session.read()
            assert history.outcomes == {"ok": 2 * turns}
    done = {
        "operations": OPERATIONS_OF_A_TURN * opened,
        "seconds": taken[keys],
        "without_kms": taken[plain],
    }
    print(json.dumps(done), flush=True)  # noqa: T201 - likewise


_A_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

if __name__ == "__main__":
    asyncio.run(member(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

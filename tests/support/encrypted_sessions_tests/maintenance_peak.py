"""The most memory that one process takes for maintaining a store, in bytes: run as a program of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encrypted_sessions.cli.memory import return_freed_memory
from encrypted_sessions.maintenance import discard, encrypt_plaintext, inventory, purge, reencrypt, verify
from encrypted_sessions_tests.history_of_keys import TTL, Keys
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import whole

_STATUS = Path("/proc/self/status")


def can_be_measured() -> bool:
    return _STATUS.exists()


def peak_of(place: StoreLocation, keys: Keys, command: str = "") -> int:
    """The peak of a process that runs every command over a place, or one of them."""
    fields = {name: value for name, value in asdict(place).items() if name != "memory"}
    done = subprocess.run(
        [sys.executable, "-m", "encrypted_sessions_tests.maintenance_peak"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input=json.dumps([fields, keys.secrets, command]),
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


async def _run(place: StoreLocation, keys: Keys, command: str) -> None:
    async with whole(place) as store, keys.ring() as ring:
        if command == "discard":
            with tempfile.TemporaryDirectory() as folder:
                await discard(store, ring, outcome="plaintext", export=Path(folder) / "gone")
            return
        functions: dict[str, Any] = {
            "inventory": inventory,
            "encrypt": encrypt_plaintext,
            "reencrypt": reencrypt,
            "verify": verify,
            "purge": purge,
        }
        assert (await functions[command](store, ring, **({"ttl": TTL} if command == "purge" else {}))).stopped is None


async def _run_everything(place: StoreLocation, keys: Keys) -> None:
    async with whole(place) as store, keys.ring() as ring:
        upstream: dict[str, Any] = {"upstream_key": keys.upstream_key}
        assert (await inventory(store, ring, ttl=TTL, **upstream)).ok
        assert (await encrypt_plaintext(store, ring, **upstream)).ok
        assert (await reencrypt(store, ring, **upstream)).ok
        assert (await verify(store, ring)).ok
        assert (await purge(store, ring, ttl=TTL)).ok


def main() -> None:
    return_freed_memory()  # as the commands do
    fields, secrets, command = json.load(sys.stdin)
    place, keys = StoreLocation(**fields), Keys(secrets)
    asyncio.run(_run(place, keys, command) if command else _run_everything(place, keys))
    # Not getrusage(), which also knows the process that started this one.
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    sys.stdout.write(str(int(kilobytes) * 1024))


if __name__ == "__main__":
    main()

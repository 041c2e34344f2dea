"""Real processes that change keysets in one store: at once, or killed at random moments.

As in `session_fork_harness`, one program imports everything and forks a child for each piece of work. Its clock
runs a thousand times as fast as the real one, so that a key can be retired soon after the next one
is active.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.session_fork_harness import Child, expect_success, kill_one_by_one, launch
from encrypted_sessions_tests.stores import StoreLocation
from keyproviders import Key, KeyUnavailableError
from keyproviders.keyset import (
    FileKeysetStore,
    KeysetKeyProvider,
    KeysetManager,
    KeysetRefusedError,
    KeysetStore,
    SqlKeysetStore,
)

KINDS = ("file", "sqlite", "postgresql", "mariadb")
MAIN = "main"
"""The keyset that all of them change; `create` makes others."""
KEKS = ("fake/0", "fake/1")

_FASTER = 1_000
_DELAY_S = 1
_KEPT = 2
"""So many keys of `main` stay decrypt-only, and as many retired."""
_MEASURED = 25
"""Operations of the child that is not killed: enough for each kind of change."""
_PAUSE_S = 0.02
_TIMEOUT_S = 200


def run(
    work: str, place: StoreLocation, log: Path, *, rounds: int, processes: int = 1, seed: int = 0
) -> list[list[str]]:
    """Let children work on the keysets of a place; the words of each line of their log. RuntimeError if one fails."""
    order = {
        "work": work,
        "place": {name: value for name, value in asdict(place).items() if name != "memory"},
        "log": str(log),
        "keys": None,
        "rounds": rounds,
        "processes": processes,
        "seed": seed,
    }
    launch(__file__, order, timeout_s=_TIMEOUT_S)
    return [line.split() for line in log.read_text().splitlines()]


def new_place(kind: str, request: pytest.FixtureRequest) -> StoreLocation:
    """A place for keysets that no other test uses."""
    table = f"t{uuid.uuid4().hex}"
    folder: Path = request.getfixturevalue("tmp_path")
    if kind == "file":
        return StoreLocation(kind, str(folder), table)
    if kind == "sqlite":
        return StoreLocation(kind, f"sqlite:///{folder}/keysets.db", table)
    if kind == "postgresql":
        return StoreLocation(kind, request.getfixturevalue("postgres_url"), table)
    # Else the driver reads the system's certificates for every connection.
    return StoreLocation(kind, f"{request.getfixturevalue('mariadb_url')}?ssl_disabled=true", table)


class Keysets:
    """The keysets of one place, as one process uses them."""

    def __init__(self, place: StoreLocation, kek: str = KEKS[0]) -> None:
        self._place = place
        self._wrapper = FakeKeyWrapper(kek, also_kek=KEKS)
        self._sql = None if place.kind == "file" else SqlKeysetStore(place.where, table=place.prefix)

    def store(self, name: str) -> KeysetStore:
        return self._sql or FileKeysetStore(Path(self._place.where) / f"{name}.json")

    def manager(self, name: str) -> KeysetManager:
        return KeysetManager(self._wrapper, self.store(name), name=name, clock=clock)

    def provider(self, name: str) -> KeysetKeyProvider:
        return KeysetKeyProvider(self._wrapper, self.store(name), name=name, clock=clock)


def clock() -> float:
    """Unix time, a thousand times as fast."""
    return time.time() * _FASTER % 200_000_000_000


def seal(key: Key, text: str) -> str:
    return _cipher(key).encrypt(text.encode()).decode("ascii")


def opened(key: Key, token: str) -> str:
    return _cipher(key).decrypt(token).decode()


def _cipher(key: Key) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key.secret))


def log_item(child: Child, keyset: str, key: Key) -> None:
    """An item that was written with this key."""
    child.log("item", keyset, key.kid, seal(key, f"{keyset}/{key.kid}"), sync=False)


# -- At once -----------------------------------------------------------------------------------


async def race(child: Child, rounds: int) -> None:
    """Create a keyset and rotate it, each of them at the same time as all others, round after round."""
    keysets = Keysets(child.place)
    for at in range(rounds):
        keyset, name = f"k{at}", f"p{child.number}"
        manager = keysets.manager(keyset)
        child.wait_for_start()
        if _won(child, "create", keyset, name, partial(manager.create, key_name=name), keysets):
            log_item(child, keyset, keysets.provider(keyset).get(name))
        child.wait_for_start()
        name += "r"
        if _won(child, "rotate", keyset, name, partial(manager.rotate, key_name=name), keysets):
            log_item(child, keyset, keysets.provider(keyset).get(name))
    child.wait_for_start()


async def rotate_now(child: Child, rounds: int) -> None:
    """Rotate at the same time as all others, in an emergency: all of them win."""
    keysets = Keysets(child.place)
    for at in range(rounds):
        child.wait_for_start()
        name = f"p{child.number}-{at}"
        manager = keysets.manager(MAIN)
        if _won(child, "rotate", MAIN, name, partial(manager.rotate, key_name=name, now=True), keysets):
            log_item(child, MAIN, keysets.provider(MAIN).get(name))
    child.wait_for_start()


def _won(child: Child, what: str, keyset: str, key_name: str, change: Callable[[], object], keysets: Keysets) -> bool:
    """Change the keyset as an operator would: after an outage, again. What counts is what the keyset says then."""
    failed = False
    while True:
        try:
            change()
        except KeyUnavailableError as error:
            child.log("again", what, error, sync=False)
            failed = True
        except KeysetRefusedError:
            if not failed or key_name not in [key.name for key in keysets.manager(keyset).list().keys]:
                return False
            break
        else:
            break
    child.log("won", what, keyset, key_name, sync=False)
    return True


# -- Killed ------------------------------------------------------------------------------------


async def change_until_killed(child: Child) -> None:
    """Create, rotate, rewrap, retire and destroy, in turns; each child begins with another of them."""
    keysets = Keysets(child.place, KEKS[child.number % len(KEKS)])
    main = keysets.manager(MAIN)
    main.list()
    child.wait_for_start()
    at = child.number
    while child.goes_on():
        _change(child, at, keysets, main)
        at += 1


def _change(child: Child, at: int, keysets: Keysets, main: KeysetManager) -> None:
    turn = ("create", "rotate", "rewrap", "retire", "destroy")[at % 5]
    states = {"retire": "decrypt-only", "destroy": "retired"}
    keyset, name = MAIN, f"key-{child.number}-{at}"
    change: Callable[[], object]
    if turn in states:
        found = [key.name for key in main.list().keys if key.state == states[turn]]
        if len(found) <= _KEPT:
            turn = "rotate"
        else:
            name = found[0]
    if turn == "create":
        keyset = f"k{child.number}-{at}"
        manager = keysets.manager(keyset)
        change = partial(manager.create, key_name=name, activation_delay_s=_DELAY_S)
    elif turn == "rotate":
        change = partial(main.rotate, key_name=name, now=True)
    elif turn == "rewrap":
        change = main.rewrap
    else:
        change = partial(getattr(main, turn), name, **({"now": True} if turn == "destroy" else {}))
    child.log("begin", turn, keyset, name, sync=False)
    try:
        change()
    except KeyUnavailableError as error:
        child.log("again", turn, error, sync=False)
        return
    child.log("done", turn, keyset, name, sync=False)
    if turn in ("create", "rotate"):
        log_item(child, keyset, keysets.provider(keyset).get(name))


async def write_until_killed(child: Child) -> None:
    """Write items with whatever key is active, as a service does all the time."""
    provider = Keysets(child.place).provider(MAIN)
    child.wait_for_start()
    while True:
        try:
            key = provider.active()
        except KeyUnavailableError as error:
            child.log("again", "active", error, sync=False)
        else:
            log_item(child, MAIN, key)
        await asyncio.sleep(_PAUSE_S)


def make_main(place: StoreLocation) -> None:
    Keysets(place).manager(MAIN).create(key_name="first", activation_delay_s=_DELAY_S)


# -- The harness -------------------------------------------------------------------------------

MODULES = {
    "file": ("keyproviders.keyset.stores.file", "fcntl"),
    "sqlite": ("keyproviders.keyset.stores.sql", "sqlalchemy.dialects.sqlite.pysqlite", "sqlalchemy.dialects.mysql"),
    "postgresql": ("keyproviders.keyset.stores.sql", "sqlalchemy.dialects.postgresql.psycopg", "psycopg"),
    "mariadb": ("keyproviders.keyset.stores.sql", "sqlalchemy.dialects.mysql.pymysql", "pymysql"),
}


def main() -> None:
    order = json.load(sys.stdin)
    for module in ("keyproviders.keyset.manager", "keyproviders.keyset.provider", *MODULES[order["place"]["kind"]]):
        importlib.import_module(module)
    if order["work"] == change_until_killed.__name__:
        writer = Child(order, -1)
        writer.start(write_until_killed)
        writer.begin()
        kill_one_by_one(order, change_until_killed, measured=_MEASURED)
        writer.kill()
        return
    work, starts = {"race": (race, 2), "rotate_now": (rotate_now, 1)}[order["work"]]
    children = [Child(order, number) for number in range(order["processes"])]
    for child in children:
        child.start(partial(work, rounds=order["rounds"]))
    for _ in range(starts * order["rounds"]):
        for child in children:
            child.begin()
        for child in children:
            child.wait_until_ready()
    for child in children:
        child.begin()
    expect_success(children)


if __name__ == "__main__":
    main()

"""Real processes that maintain one store while others use it, and that are killed at random moments.

`run()` starts one program, the harness, which imports everything once and then forks a child for each
piece of work, so that a hundred children cost seconds. It has no threads and opens no store: nothing
but modules and the rows of the past is shared by fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encrypted_sessions import EncryptedSession, KeyRing, UnreadableItemsError
from encrypted_sessions.maintenance import (
    Report,
    discard,
    encrypt_plaintext,
    erase,
    inventory,
    purge,
    reencrypt,
    verify,
)
from encrypted_sessions.stores.whole import WholeStore
from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests.history_of_keys import TTL, Keys, Past, compare
from encrypted_sessions_tests.sealed_rows import message
from encrypted_sessions_tests.soak import FULL
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_rows import clear_all, read_all, write_all
from encrypted_sessions_tests.whole_stores import whole

TIMEOUT_S = 1800 if FULL else 220


def run(work: str, place: StoreLocation, past: Past, folder: Path, **more: Any) -> list[Any]:
    """Let children work on a place; what the harness has to tell. Raises RuntimeError when one failed."""
    order = {
        "work": work,
        "place": {name: value for name, value in asdict(place).items() if name != "memory"},
        "past": [past.keys.secrets, past.keys.suite, past.sessions, past.items, past.now],
        "folder": str(folder),
        **more,
    }
    harness.launch(__file__, order, timeout_s=TIMEOUT_S)
    return [json.loads(line) for line in (folder / "told").read_text().splitlines()]


# -- From here on: the harness and its children ---------------------------------------------------


class Order:
    """What there is to do, and with what."""

    def __init__(self, order: dict[str, Any]) -> None:
        secrets, suite, sessions, items, now = order.pop("past")
        self.past = Past(Keys(secrets, suite), sessions, items, now)
        self.place = StoreLocation(**order.pop("place"))
        self.folder = Path(order.pop("folder"))
        self.work: str = order.pop("work")
        self.options = order
        self.before = self.past.rows()

    def tell(self, *words: object) -> None:
        """One line of JSON to the test."""
        with (self.folder / "told").open("a") as told:
            told.write(json.dumps(words) + "\n")

    @property
    def erased(self) -> list[str]:
        """The sessions that `erase` is for."""
        return [self.past.session_id(session) for session in range(0, self.past.sessions, 2)]


Command = Callable[[Order, WholeStore, KeyRing, str], Awaitable[Report]]
BATCH = 10

COMMANDS: dict[str, Command] = {
    "inventory": lambda order, store, keys, name: inventory(
        store, keys, ttl=TTL, batch=BATCH, upstream_key=order.past.keys.upstream_key
    ),
    "verify": lambda order, store, keys, name: verify(
        store, keys, ttl=TTL, batch=BATCH, upstream_key=order.past.keys.upstream_key
    ),
    "purge": lambda order, store, keys, name: purge(
        store, keys, ttl=TTL, batch=BATCH, upstream_key=order.past.keys.upstream_key
    ),
    "reencrypt": lambda order, store, keys, name: reencrypt(
        store, keys, batch=BATCH, upstream_key=order.past.keys.upstream_key
    ),
    "encrypt": lambda order, store, keys, name: encrypt_plaintext(
        store, keys, batch=BATCH, upstream_key=order.past.keys.upstream_key
    ),
    "discard": lambda order, store, keys, name: discard(
        store,
        keys,
        outcome="unauthentic",
        all_realms_given=True,
        export=order.folder / f"export-{name}",
        batch=BATCH,
        upstream_key=order.past.keys.upstream_key,
    ),
    "erase": lambda order, store, keys, name: erase(store, order.erased, missing_ok=True),
}


class Child:
    """A forked process. It says when it is ready, and begins when it is told to."""

    def __init__(self, work: Callable[[Child], Coroutine[Any, Any, None]]) -> None:
        self._ready, ready = os.pipe()
        go, self._go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._begin_at, self._ready_at = go, ready
            harness.run_and_exit(work(self))
        os.close(ready)
        os.close(go)

    # In the child.

    def wait_for_start(self) -> None:
        os.write(self._ready_at, b"r")
        os.read(self._begin_at, 1)

    def say_the_end(self) -> None:
        os.write(self._ready_at, b"e")

    # In the harness.

    def begin(self) -> None:
        if os.read(self._ready, 1) != b"r":
            self.end()
            raise SystemExit("a child ended before it began")
        os.write(self._go, b"g")

    def wait_for_end(self) -> None:
        if os.read(self._ready, 1) != b"e":
            self.end()
            raise SystemExit("a child failed")

    def has_ended(self) -> bool:
        """Whether it has done its work and waits."""
        return bool(select.select([self._ready], [], [], 0)[0])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        if self.end() != -signal.SIGKILL:
            raise SystemExit("a child ended by itself")

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._ready)
        os.close(self._go)
        return os.waitstatus_to_exitcode(status)


class Killing:
    """A command that is killed at random moments.

    Each child looks at what the one before left, finishes that, looks again, writes the past anew, and
    is killed while the command does its work.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._name: str = order.options["command"]
        self._erased = frozenset(order.erased if self._name == "erase" else ())

    def go(self) -> None:
        order = self._order
        chance = random.Random(order.options["seed"])
        window = min(self._measured(number) for number in range(3))
        hit = 0
        for number in range(3, order.options["rounds"] + 3):
            child = self._child(number)
            child.begin()
            time.sleep(chance.uniform(0, window))
            hit += not child.has_ended()
            child.kill()
        last = self._child(order.options["rounds"] + 3)
        last.begin()
        last.kill()
        order.tell(hit)

    def _measured(self, number: int) -> float:
        """How long the command takes when it is not killed."""
        child = self._child(number)
        child.begin()
        began = time.perf_counter()
        child.wait_for_end()
        took = time.perf_counter() - began
        child.kill()
        return took

    def _child(self, number: int) -> Child:
        return Child(lambda child: self._work(child, number))

    async def _work(self, child: Child, number: int) -> None:
        order = self._order
        async with whole(order.place) as store:
            if number:
                await self._look(complete=False)
                await self._finish(store, f"{number}-finish")
                await self._look(complete=True)
                await clear_all(order.place)
                for export in order.folder.glob("export-*"):
                    export.unlink()
            await write_all(order.place, order.before)
            child.wait_for_start()
            await COMMANDS[self._name](order, store, order.past.keys.ring(), str(number))
            child.say_the_end()
            signal.pause()

    async def _finish(self, store: WholeStore, name: str) -> None:
        report = await COMMANDS[self._name](self._order, store, self._order.past.keys.ring(), name)
        if report.stopped or set(report.left) - {"unauthentic", "plaintext"}:
            raise AssertionError(f"{self._name} did not finish: {report}")

    async def _look(self, *, complete: bool) -> None:
        order = self._order
        found = await read_all(order.place)
        wrong, rest = compare(order.past, order.before, found, self._name, erased=self._erased, complete=complete)
        if wrong or any(rest.values()):
            beyond = sum(map(len, rest.values()))
            raise AssertionError(f"after {self._name}, complete={complete}: {wrong[:5]}, {beyond} rows beyond")
        if self._name == "discard":
            kept = {row.data for rows in found.values() for row in rows}
            # The last line may be half written: its row was not removed then.
            lines = [line for export in order.folder.glob("export-*") for line in export.read_text().split("\n")[:-1]]
            lost = {row.data for row in order.before} - kept - {json.loads(line).get("data") for line in lines}
            if lost:
                raise AssertionError(f"{len(lost)} rows were removed before they were in the file")


# -- Agents at work ---------------------------------------------------------------------------------


AGENTS = 4
#: Sessions that each agent uses.
USED = 25


@contextlib.asynccontextmanager
async def sessions_of(
    order: Order, keys: KeyRing, names: list[str], **options: Any
) -> AsyncIterator[dict[str, EncryptedSession]]:
    """Encrypted sessions that share one connection, as a server's do."""
    place = order.place
    async with contextlib.AsyncExitStack() as stack:
        bare: list[Any] = []
        if place.kind == "redis":
            from agents.extensions.memory import RedisSession
            from redis.asyncio import Redis

            client = await stack.enter_async_context(Redis.from_url(place.where))
            bare = [RedisSession(name, redis_client=client, key_prefix=place.prefix) for name in names]
        elif place.kind == "sqlalchemy-postgres":
            from agents.extensions.memory import SQLAlchemySession
            from sqlalchemy.ext.asyncio import create_async_engine

            engine = create_async_engine(place.where)
            stack.push_async_callback(engine.dispose)
            tables: dict[str, Any] = {"sessions_table": place.sessions_table, "messages_table": place.messages_table}
            bare = [SQLAlchemySession(name, engine=engine, **tables) for name in names]
        else:
            from agents import SQLiteSession

            bare = [SQLiteSession(name, place.where) for name in names]
            for one in bare:
                stack.callback(one.close)
        yield {
            one.session_id: EncryptedSession.wrap(
                one, keys, ttl=TTL, plaintext="read", upstream_key=order.past.keys.upstream_key, **options
            )
            for one in bare
        }


async def agent(order: Order, number: int) -> None:
    """Add and pop until told to stop, then tell what was added and popped. One writes under an older key."""
    chance = random.Random(number)
    keys = order.past.keys.ring("older" if number == 0 else "active")
    names = [order.past.session_id(session) for session in range(number, order.past.sessions, AGENTS)][:USED]
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    added: list[Any] = []
    popped: list[str] = []
    refused = unavailable = 0
    async with sessions_of(order, keys, names, suite=order.past.keys.suite) as sessions:
        while not stopped:
            name = chance.choice(names)
            await asyncio.sleep(0.002)
            try:
                if chance.random() < 0.5:
                    texts = [f"agent {number}: {len(added)}/{place}" for place in range(chance.randint(1, 3))]
                    began = int(time.time())
                    await sessions[name].add_items([message(text) for text in texts])  # type: ignore[list-item]
                    added.append((name, texts, began, int(time.time())))
                else:
                    item = await sessions[name].pop_item()
                    popped += [] if item is None else [str(dict(item)["content"])]
            except UnreadableItemsError:
                refused += 1
            except Exception as error:  # a locked database: nothing was written or popped
                if "locked" not in str(error):
                    raise
                unavailable += 1
    order.tell("agent", number, added, popped, refused, unavailable)


async def maintain(order: Order, names: list[str]) -> None:
    """One command after the other, while others work."""
    keys = order.past.keys.ring()
    upstream = order.past.keys.upstream_key
    options: dict[str, dict[str, Any]] = {"purge": {"ttl": TTL}, "verify": {"ttl": TTL}, "inventory": {"ttl": TTL}}
    if order.past.keys.suite == 2:
        options["reencrypt"] = {"suite": 2, "ttl": TTL}
    functions: dict[str, Any] = {
        "reencrypt": reencrypt,
        "purge": purge,
        "encrypt": encrypt_plaintext,
        "verify": verify,
        "inventory": inventory,
    }
    async with whole(order.place) as store:
        for name in names:
            report = await functions[name](store, keys, upstream_key=upstream, **options.get(name, {}))
            order.tell("report", name, report.found, report.changed, report.left, report.stopped, report.took_s)


def under_load(order: Order) -> None:
    """Agents at work, and maintenance, two runs at once; in the end the agents are told to stop."""
    agents = [Child(lambda _, number=number: agent(order, number)) for number in range(AGENTS)]  # type: ignore[misc]  # no default is ever given
    runs = [Child(lambda _, names=names: maintain(order, names)) for names in order.options["runs"]]  # type: ignore[misc]  # as above
    codes = [child.end() for child in runs]
    time.sleep(0.2)
    for child in agents:
        os.kill(child.pid, signal.SIGTERM)
    codes += [child.end() for child in agents]
    if any(codes):
        raise SystemExit(f"children ended with {codes}")


#: Imported once, for all children of a place of this kind; what agents need besides.
MODULES = {
    "sqlite": ("encrypted_sessions.stores.sqlite.whole",),
    "sqlalchemy-postgres": (
        "encrypted_sessions.stores.sql.whole",
        "sqlalchemy.dialects.postgresql.asyncpg",
        "asyncpg",
    ),
    "redis": ("encrypted_sessions.stores.redis.whole", "redis.asyncio"),
}
MODULES_OF_AGENTS = {
    "sqlite": ("agents", "encrypted_sessions.stores.sqlite.rows"),
    "sqlalchemy-postgres": (
        "agents.extensions.memory.sqlalchemy_session",
        "encrypted_sessions.stores.sql.rows",
    ),
    "redis": ("agents.extensions.memory.redis_session", "encrypted_sessions.stores.redis.rows"),
}


def main() -> None:
    order = Order(json.load(sys.stdin))
    for module in MODULES[order.place.kind]:
        importlib.import_module(module)
    if order.work == "be_killed":
        Killing(order).go()
        return
    for module in MODULES_OF_AGENTS[order.place.kind]:
        importlib.import_module(module)
    if order.work == "fleet":
        from encrypted_sessions_tests.suites_fleet import Fleet  # it needs this module

        Fleet(order).go()
    else:
        under_load(order)


if __name__ == "__main__":
    main()

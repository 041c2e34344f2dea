"""Real processes that work on one store, and are killed at random moments.

`run()` starts one program, the harness, which has imported everything and then forks a child for
each piece of work, so that a hundred children cost seconds. Children write what they did to a log,
line by line, each line on the disk before the next step. The harness has no threads and opens no
store: nothing but modules is shared by fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from encrypted_sessions import EncryptedSession, Key, KeyDestroyedError, KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions_tests import warm_programs
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.sealed_rows import wrapper_of
from encrypted_sessions_tests.stores import BRANCHING, StoreLocation, open_store

SESSION = "user-1"
TIMEOUT_S = 120
MEASURED = 8
"""Operations of the first child, which is not killed: they say how long one takes on this machine."""
KILLED_WITHIN = 4
"""Every other child is killed at a random moment of the time that so many operations take."""


def run(
    work: str, place: StoreLocation, log: Path, *, active: Key, destroyed: Key, rounds: int, seed: int = 0
) -> list[str]:
    """Let children work on a place; the lines of their log. Raises RuntimeError when one failed.

    Of children that are killed, the first (number 0) is not.
    """
    order = {
        "work": work,
        "place": {name: value for name, value in asdict(place).items() if name != "memory"},
        "log": str(log),
        "keys": [active.reveal_base64(), destroyed.reveal_base64()],
        "rounds": rounds,
        "seed": seed,
    }
    launch(__file__, order)
    return log.read_text().splitlines()


def launch(program: str, order: dict[str, Any], *, timeout_s: float = TIMEOUT_S) -> None:
    """Run a harness as a program, and wait for its end. Raises RuntimeError when it failed."""
    warm_programs.run(f"{__package__}.{Path(program).stem}", order, timeout_s=timeout_s)


# -- From here on: the harness and its children ---------------------------------------------------

Work = Callable[["Child"], Coroutine[Any, Any, None]]


class Child:
    """What a child has to work with."""

    def __init__(self, order: dict[str, Any], number: int) -> None:
        self.number = number
        self.operations: int | None = None
        """How many operations it shall do before it ends by itself; None: no end."""
        self.measured_operations = MEASURED
        self.place = StoreLocation(**order["place"])
        self._log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._keys = order["keys"]
        self._ready, self.ready = os.pipe()
        self.go, self._go = os.pipe()
        self.pid = 0
        self._began = self._took = 0.0

    def log(self, *words: object, sync: bool = True) -> None:
        """One line, on the disk when this returns."""
        os.write(self._log, (" ".join(map(str, (self.number, *words))) + "\n").encode())
        if sync:
            os.fsync(self._log)

    def ring(self) -> KeyRing:
        from keyproviders import decode_key_text

        active, destroyed = map(decode_key_text, self._keys)
        provider = ScriptedKeys(Key("active", active), Key("destroyed", destroyed))
        provider.fail("destroyed", KeyDestroyedError)
        return impatient_ring(provider)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[EncryptedSession]:
        async with open_store(self.place, SESSION) as store:
            yield wrapper_of(self.place).wrap(store, self.ring(), ttl=None)

    def wait_for_start(self) -> None:
        """Say that all is open, and wait for the word to begin."""
        os.write(self.ready, b"r")
        if os.read(self.go, 1) == b"G":
            os.write(self.ready, b"b")
        self._began = time.perf_counter()

    def goes_on(self) -> bool:
        """Whether there is more to do; asked before each operation."""
        if self.operations == 0:
            took = time.perf_counter() - self._began
            os.write(self.ready, str(took / self.measured_operations).encode())
            return False
        if self.operations is not None:
            self.operations -= 1
        return True

    # In the harness.

    def start(self, work: Work) -> None:
        self.pid = os.fork()
        if not self.pid:
            run_and_exit(work(self))
        os.close(self.ready)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        if os.read(self._ready, 1) != b"r":
            self.end()
            raise SystemExit(f"child {self.number} ended before it began")

    def begin(self) -> None:
        os.write(self._go, b"g")

    def begin_for_sure(self) -> None:
        """Return once it has begun: on a busy machine, time goes by before it gets its turn."""
        os.write(self._go, b"G")
        os.read(self._ready, 1)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        if self.end() != -signal.SIGKILL:
            raise SystemExit(f"child {self.number} ended by itself")

    def measured(self) -> float:
        """How long one operation took, in seconds, as a child says that ended by itself."""
        expect_success([self])
        return self._took

    def end(self) -> int:
        """Wait for its end: its exit code."""
        _, status = os.waitpid(self.pid, 0)
        self._took = float(os.read(self._ready, 100) or 0)
        for end in (self._ready, self.go, self._go, self._log):
            os.close(end)
        return os.waitstatus_to_exitcode(status)


def run_and_exit(work: Coroutine[Any, Any, None]) -> NoReturn:
    """The end of a forked child: do the work, with exit code 1 if it fails."""
    status = 1
    try:
        asyncio.run(work)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the harness's stack may run in a child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


async def pop_all(child: Child) -> None:
    """Pop until there is nothing left, then end."""
    async with child.session() as session:
        await session.read(1)
        child.wait_for_start()
        while (item := await session.pop_item()) is not None:
            child.log(item["content"], sync=False)


async def pop_until_killed(child: Child) -> None:
    async with child.session() as session:
        await session.read(1)
        child.wait_for_start()
        while child.goes_on():
            item = await session.pop_item()
            if item is None:
                signal.pause()
            else:
                child.log(item["content"])


async def add_and_pop_until_killed(child: Child) -> None:
    """Add two items at once to a history of this child's own, and take one out, again and again."""
    async with open_store(child.place, f"child {child.number}") as store:
        session = wrapper_of(child.place).wrap(store, child.ring(), ttl=None)
        await session.read(1)
        child.wait_for_start()
        number = 0
        while child.goes_on():
            await session.add_items([{"role": "user", "content": f"{number} {what}"} for what in ("stays", "goes")])
            child.log("added", number, sync=False)
            item: Any = await session.pop_item()
            child.log("popped", item["content"], sync=False)
            number += 1


async def purge_until_killed(child: Child) -> None:
    """Write items that expired long ago and one that did not, and purge, again and again."""
    async with open_store(child.place, SESSION) as store:
        session = EncryptedSession.wrap(store, child.ring(), ttl=600, purge_on_add=3)
        await session.read(1)
        cipher = await session._sealed.keychain.active()
        child.wait_for_start()
        number = 0
        while child.goes_on():
            number += 1
            text = f"{child.number}/{number}"
            expired = [{"role": "user", "content": f"expired {text}"}] * 300
            await store.add_items([cipher.seal(item, int(time.time()) - 10_000) for item in expired])  # type: ignore[arg-type]
            await session.add_items([{"role": "user", "content": text}])
            child.log(text)
            await session.purge_expired()


async def replace_all_until_killed(child: Child) -> None:
    await _replace_until_killed(child, _replace_all)


async def replace_suffix_until_killed(child: Child) -> None:
    await _replace_until_killed(child, _replace_suffix)


Replace = Callable[[EncryptedSession, list[Any]], Coroutine[Any, Any, bool]]


async def _replace_until_killed(child: Child, replace: Replace) -> None:
    async with child.session() as session:
        generation = await _generation(session)
        child.log("found", generation)
        child.wait_for_start()
        while child.goes_on():
            child.log("begin", generation + 1)
            if await replace(session, items_of(generation + 1)):
                generation += 1
                child.log("done", generation)
            else:
                # What the last child had sent to its server took effect only now.
                generation = await _generation(session)
                child.log("found", generation)


async def _replace_all(session: EncryptedSession, items: list[Any]) -> bool:
    from encrypted_sessions.errors import HistoryChangedError

    try:
        await session._read_compaction_items(None)
        return await session._atomic_replace_items(items)
    except HistoryChangedError:
        return False


async def _replace_suffix(session: EncryptedSession, items: list[Any]) -> bool:
    snapshot = await session._get_compaction_snapshot(100)
    return bool(snapshot.items) and bool(await snapshot.replace_suffix(0, items))


def items_of(generation: int) -> list[Any]:
    """A history that can be known again, of a length that changes."""
    length = 20 + generation % 7
    return [{"role": "user", "content": f"{generation}/{place}/{length}"} for place in range(length)]


async def _generation(session: EncryptedSession) -> int:
    """Which history is stored; -1 for one that was never written."""
    history = await session.read()
    first = str(dict(history.items[0])["content"]) if history.items else "-1/"
    generation = int(first.split("/")[0])
    return generation if history.items == items_of(generation) else -1


BRANCHES_OF_EACH = 6


async def work_on_branches(child: Child) -> None:
    """Make branches of one session, write to them and to main, and delete every second one, while others do so."""
    async with child.session() as session:
        assert isinstance(session, EncryptedAdvancedSQLiteSession)
        await session.read(1)
        child.wait_for_start()
        for step in range(BRANCHES_OF_EACH):
            name = f"{child.number}/{step}"
            await session.create_branch_from_turn(2, name)
            await session.add_items([{"role": "user", "content": f"{name} {what}"} for what in ("one", "two", "gone")])
            assert await session.pop_item() == {"role": "user", "content": f"{name} gone"}
            await session.switch_to_branch("main")
            await session.add_items([{"role": "user", "content": name}])
            if step % 2:
                await session.delete_branch(name)


async def branch_until_killed(child: Child) -> None:
    """Add to a history of this child's own, make a branch of it, add to that, and delete it, again and again."""
    async with open_store(child.place, f"child {child.number}") as store:
        session = EncryptedAdvancedSQLiteSession.wrap(store, child.ring(), ttl=None)
        await session.add_items([{"role": "user", "content": "first"}])
        child.wait_for_start()
        number = 0
        while child.goes_on():
            name = f"branch {number}"
            await session.add_items([{"role": "user", "content": f"{number} {what}"} for what in ("one", "two")])
            child.log("added", number, sync=False)
            await session.create_branch_from_turn(2 + 2 * number, name)
            child.log("made", number, sync=False)
            await session.add_items([{"role": "user", "content": f"{name} {what}"} for what in ("one", "two")])
            child.log("filled", number, sync=False)
            await session.switch_to_branch("main")
            if number % 2:
                child.log("deleting", number, sync=False)
                await session.delete_branch(name)
                child.log("deleted", number, sync=False)
            number += 1


#: What several children do at once to one session, to its end.
TOGETHER = (pop_all, work_on_branches)

WORK = {
    function.__name__: function
    for function in (
        add_and_pop_until_killed,
        branch_until_killed,
        work_on_branches,
        pop_all,
        pop_until_killed,
        purge_until_killed,
        replace_all_until_killed,
        replace_suffix_until_killed,
    )
}


#: Imported once, for all children of a place of this kind.
MODULES = {
    "sqlite": ("agents", "encrypted_sessions.stores.sqlite.rows"),
    "async-sqlite": ("agents.extensions.memory.async_sqlite_session", "encrypted_sessions.stores.sqlite.async_rows"),
    "sqlalchemy-sqlite": (
        "agents.extensions.memory.sqlalchemy_session",
        "encrypted_sessions.stores.sql.rows",
        "sqlalchemy.dialects.sqlite.aiosqlite",
        "aiosqlite",
    ),
    "sqlalchemy-postgres": (
        "agents.extensions.memory.sqlalchemy_session",
        "encrypted_sessions.stores.sql.rows",
        "sqlalchemy.dialects.postgresql.asyncpg",
        "asyncpg",
    ),
    "redis": ("agents.extensions.memory.redis_session", "encrypted_sessions.stores.redis.rows"),
    "redis-sentinel": ("agents.extensions.memory.redis_session", "encrypted_sessions.stores.redis.rows"),
    "mongodb": ("agents.extensions.memory.mongodb_session",),
    "advanced-sqlite": ("agents.extensions.memory.advanced_sqlite_session",),
    BRANCHING: ("agents.extensions.memory.advanced_sqlite_session", "encrypted_sessions.advanced"),
    **{
        f"sqlalchemy-{driver}": (
            "agents.extensions.memory.sqlalchemy_session",
            "encrypted_sessions.stores.sql.rows",
            "encrypted_sessions.stores.sql.mysql",
            f"sqlalchemy.dialects.mysql.{driver}",
            driver,
            "pymysql",
        )
        for driver in ("aiomysql", "asyncmy")
    },
}


def main() -> None:
    order = json.load(sys.stdin)
    for module in MODULES[order["place"]["kind"]]:
        importlib.import_module(module)
    work = WORK[order["work"]]
    if work in TOGETHER:
        children = [Child(order, number) for number in range(order["rounds"])]
        for child in children:
            child.start(work)
        for child in children:
            child.begin()
        expect_success(children)
        return
    kill_one_by_one(order, work)


def kill_one_by_one(order: dict[str, Any], work: Work, *, measured: int = MEASURED) -> None:
    """Let children work, one after the other, each killed at a random moment.

    The first one is not killed: it does as many operations as are to be measured.
    """
    chance = random.Random(order["seed"])
    first = Child(order, 0)
    first.operations = first.measured_operations = measured
    first.start(work)
    first.begin()
    window = KILLED_WITHIN * first.measured()
    for number in range(1, order["rounds"] + 1):
        child = Child(order, number)
        child.start(work)
        child.begin_for_sure()
        time.sleep(chance.uniform(0, window))
        child.kill()


def expect_success(children: list[Child]) -> None:
    """Wait for the end of each; SystemExit unless all ended well."""
    codes = [child.end() for child in children]
    if any(codes):
        raise SystemExit(f"children ended with {codes}")


if __name__ == "__main__":
    main()

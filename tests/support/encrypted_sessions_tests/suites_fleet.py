"""A fleet of three processes that moves from suite 1 to suite 2, to a new key, and back, while each of them writes.

Every process adds to a session of its own and reads those of all, with nothing but what can be read: whatever was
added before a read began is among what it gives, once and in order. Each is killed at random moments, and so is the
command that moves the rows; another one goes on in its place.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from encrypted_sessions.maintenance import reencrypt
from encrypted_sessions.stores.whole import WholeStore
from encrypted_sessions_tests.history_of_keys import TTL
from encrypted_sessions_tests.maintenance_fork_harness import BATCH, Child, Order, sessions_of
from encrypted_sessions_tests.sealed_rows import message
from encrypted_sessions_tests.suite_2_rows import told_by
from encrypted_sessions_tests.whole_rows import read_all
from encrypted_sessions_tests.whole_stores import whole

PROCESSES = 3
#: A child is killed within so many seconds.
WITHIN_S = 0.2


class Writes(NamedTuple):
    """How a process writes: in which suite, under which key."""

    suite: int
    key: str


class Step(NamedTuple):
    """How each process writes, and what `reencrypt` is told once all of them do; None: it does not run."""

    processes: tuple[Writes, ...]
    move: Mapping[str, Any] | None


def _one_by_one(before: Writes, after: Writes, move: Mapping[str, Any]) -> list[Step]:
    """A roll-out, process by process; the rows follow when it is through."""
    return [
        Step((after,) * done + (before,) * (PROCESSES - done), None if done < PROCESSES else move)
        for done in range(1, PROCESSES + 1)
    ]


OLD, SECOND, NEW_KEY, BACK = Writes(1, "older"), Writes(2, "older"), Writes(2, "active"), Writes(1, "active")
STEPS = [
    *_one_by_one(OLD, SECOND, {"suite": 2, "ttl": TTL}),
    *_one_by_one(SECOND, NEW_KEY, {}),
    *_one_by_one(NEW_KEY, BACK, {"suite": 1}),
]


class Fleet:
    """Takes the fleet through all steps."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._chance = random.Random(order.options["seed"])
        self._kills = 0

    def go(self) -> None:
        fleet = [self._started(number, OLD) for number in range(PROCESSES)]
        writes = [OLD] * PROCESSES
        for step, kills in zip(STEPS, self._kills_of_steps(), strict=True):
            for number, new in enumerate(step.processes):
                if new != writes[number]:
                    self._kill(fleet[number])
                    fleet[number], writes[number] = self._started(number, new), new
            mover = None if step.move is None else self._mover(step)
            for kill in range(kills):
                time.sleep(self._chance.uniform(0, WITHIN_S))
                # Where rows move, the mover is the first.
                victim = PROCESSES if kill == 0 else self._chance.randrange(PROCESSES + 1)
                if victim == PROCESSES and mover is not None:
                    self._kill(mover)
                    mover = self._mover(step)
                else:
                    victim %= PROCESSES
                    self._kill(fleet[victim])
                    fleet[victim] = self._started(victim, writes[victim])
            if mover is not None:
                self._kill(mover)
                self._finish(step)
        for child in fleet:
            self._kill(child)
        self._order.tell("kills", self._kills, self._reads())

    def _kills_of_steps(self) -> list[int]:
        """How often something is killed in each step: those in which rows move come first."""
        rounds = self._order.options["rounds"]
        moving = [step.move is not None for step in STEPS]
        few, rest = divmod(rounds, len(STEPS))
        ranks = sorted(range(len(STEPS)), key=lambda index: not moving[index])
        return [few + (ranks.index(index) < rest) for index in range(len(STEPS))]

    def _kill(self, child: Child) -> None:
        child.kill()
        self._kills += 1

    def _started(self, number: int, writes: Writes) -> Child:
        child = Child(lambda child: _process(self._order, child, number, writes))
        child.begin()
        return child

    def _mover(self, step: Step) -> Child:
        child = Child(lambda child: _move_for_ever(self._order, child, step))
        child.begin()
        return child

    def _finish(self, step: Step) -> None:
        child = Child(lambda child: _finish(self._order, child, step))
        child.begin()
        if child.end():
            raise SystemExit(f"after {step} not every row is where it should be")

    def _reads(self) -> int:
        return sum(len(_lines(self._order, f"read-{number}")) for number in range(PROCESSES))


def _note(order: Order, name: str, word: object) -> None:
    with (order.folder / name).open("a") as file:
        file.write(f"{word}\n")


def _lines(order: Order, name: str) -> list[str]:
    path = order.folder / name
    # The last line may be half written.
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _name(number: int) -> str:
    return f"process-{number}"


async def _process(order: Order, child: Child, number: int, writes: Writes) -> None:
    """Add and read until killed."""
    begun = [int(line) for line in _lines(order, f"begun-{number}")]
    chance, item = random.Random(number * 1_000 + len(begun)), max(begun, default=-1)
    names = [_name(one) for one in range(PROCESSES)]
    keys = order.past.keys.ring(writes.key)
    async with sessions_of(order, keys, names, suite=writes.suite) as sessions:
        child.wait_for_start()
        while True:
            item += 1
            _note(order, f"begun-{number}", item)
            if await _unless_locked(sessions[_name(number)].add_items([message(str(item))])):  # type: ignore[list-item]
                _note(order, f"added-{number}", item)
            other = chance.randrange(PROCESSES)
            added = {int(line) for line in _lines(order, f"added-{other}")}
            found: list[Any] = []
            if await _unless_locked(_read(sessions[_name(other)], found)):
                _check(found, added)
                _note(order, f"read-{number}", len(found))


async def _read(session: Any, found: list[Any]) -> None:
    found += await session.get_items()


async def _unless_locked(call: Any) -> bool:
    """Whether a call came to its end; a SQLite file may be locked by others for longer than it waits."""
    try:
        await call
    except Exception as error:
        if "locked" not in str(error):
            raise
        await asyncio.sleep(0.01)
        return False
    return True


def _check(items: list[Any], added: set[int]) -> None:
    found = [int(item["content"]) for item in items]
    if found != sorted(set(found)):
        raise AssertionError(f"doubled, or out of order: {found}")
    if missing := added.difference(found):
        raise AssertionError(f"missing: {sorted(missing)}")


async def _move_for_ever(order: Order, child: Child, step: Step) -> None:
    async with whole(order.place) as store:
        child.wait_for_start()
        while True:
            await _move(order, store, step)


async def _move(order: Order, store: WholeStore, step: Step) -> None:
    report = await reencrypt(store, order.past.keys.ring(step.processes[0].key), batch=BATCH, **(step.move or {}))
    if report.stopped or set(report.left) - {"changed_meanwhile"}:
        raise AssertionError(f"it left something: {report}")


async def _finish(order: Order, child: Child, step: Step) -> None:
    """Move what is left, and see that every row is where it should be, though others are written meanwhile."""
    async with whole(order.place) as store:
        child.wait_for_start()
        await _move(order, store, step)
    writes = step.processes[0]
    kid = {"older": order.past.keys.older.kid, "active": order.past.keys.active.kid}[writes.key]
    for rows in (await read_all(order.place)).values():
        for row in rows:
            told = told_by(row.data)
            end = told.created + TTL if writes.suite == 2 else None
            if (told.suite, told.kid, told.expires) != (writes.suite, kid, end):
                raise AssertionError(f"{told}, where there should be {writes}")

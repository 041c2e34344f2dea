"""Real processes that work on one store and are told of it, beside a model of what they did.

Each has a session of its own, with rows of every kind, and all have one in common, to which they add and from which
they pop. Of each operation a process writes down what it must have sealed, judged and removed, and what it was told.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encrypted_sessions import EncryptedSession, Key, KeyRing, SessionEvent, UnreadableItemsError
from encrypted_sessions.core.outcomes import PASSED_OVER, UNREADABLE
from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.sealed_rows import TTL, Sealer, message, outcome_of
from encrypted_sessions_tests.session_fork_harness import Child
from encrypted_sessions_tests.stores import StoreLocation, open_store
from keyproviders import decode_key_text
from keyproviders.local import StaticKeyProvider

SHARED = "in common"
_LONGEST = 50
_KINDS = ("expired", "expired_unverified", "erased", "key_disabled", "unknown_key", "unauthentic", "plaintext")

Counts = Counter[str]


def work(place: StoreLocation, folder: Path, *, processes: int, operations: int, seed: int) -> list[dict[str, Any]]:
    """What each process was told, and what it did."""
    where = {name: value for name, value in asdict(place).items() if name != "memory"}
    key = Key.generate("common").reveal_base64()
    order = {"place": where, "keys": [key, key], "log": str(folder / "log"), "folder": str(folder)}
    numbers = {"processes": processes, "operations": operations, "seed": seed}
    harness.launch(__file__, {**order, **numbers}, timeout_s=1800)
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(processes)]


# -- From here on: the harness and its children ---------------------------------------------------


class Model:
    """What lies in a process's own session, oldest first, and what each call must be told to have done."""

    def __init__(self) -> None:
        self.rows: list[tuple[str | None, str]] = []
        self.done: Counts = Counter()

    def count(self, operation: str, kid: str | None, outcome: str, items: int = 1) -> None:
        self.done[f"{operation} {kid} {outcome}"] += items
        if outcome in UNREADABLE:
            self.done[f"{operation} refused"] += items

    def removed(self, operation: str, rows: int) -> None:
        self.done[f"{operation} removed"] += rows

    def judge(self, operation: str, wanted: int | None) -> None:
        """Rows from the newest one until so many are items."""
        for kid, outcome in reversed(self.rows):
            if wanted == 0:
                return
            self.count(operation, kid, outcome)
            if wanted is not None and outcome == "ok":
                wanted -= 1

    def pop(self) -> None:
        for place in range(len(self.rows) - 1, -1, -1):
            kid, outcome = self.rows[place]
            self.count("pop_item", kid, outcome)
            if outcome in ("ok", "expired"):
                del self.rows[place]
                self.removed("pop_item", 1)
            if outcome == "ok" or outcome not in ("expired", *PASSED_OVER):
                return

    def purge(self) -> None:
        self.judge("purge_expired", None)
        kept = [row for row in self.rows if row[1] != "expired"]
        self.removed("purge_expired", len(self.rows) - len(kept))
        self.rows = kept


class Worker:
    def __init__(self, order: dict[str, Any], number: int) -> None:
        self._order = order
        self._number = number
        self._chance = random.Random(order["seed"] + number)
        self._sealer = Sealer(f"own {number}")
        self._foreign = Sealer("somebody else's")
        self._model = Model()
        self._told: Counts = Counter()
        self._sequences: list[int] = []

    def _hear(self, event: SessionEvent) -> None:
        self._sequences.append(event.sequence)
        for use in event.uses:
            self._told[f"{event.operation} {use.kid} {use.outcome}"] += use.items
        self._told[f"{event.operation} refused"] += event.refused
        self._told[f"{event.operation} removed"] += event.removed or 0

    async def __call__(self, child: Child) -> None:
        key = Key("common", decode_key_text(self._order["keys"][0]))
        async with AsyncExitStack() as stack:
            place = child.place
            own_store = await stack.enter_async_context(open_store(place, self._sealer.session_id))
            shared_store = await stack.enter_async_context(open_store(place, SHARED))
            options: dict[str, Any] = {"ttl": TTL, "on_unreadable": "skip", "on_event": self._hear}
            own = EncryptedSession.wrap(own_store, self._sealer.ring, **options)
            shared = EncryptedSession.wrap(shared_store, KeyRing(StaticKeyProvider(key)), **options)
            await own.read()
            child.wait_for_start()
            for _ in range(self._order["operations"]):
                if self._chance.random() < 0.3:
                    await self._work_on_shared(shared, key.kid)
                else:
                    await self._work_on_own(own, child.place)
        found = {"told": +self._told, "done": +self._model.done, "sequences": self._sequences}
        path = Path(self._order["folder"], f"{self._number}.json")
        path.write_text(json.dumps(found))  # noqa: ASYNC240 - nothing else runs here

    async def _work_on_shared(self, session: EncryptedSession, kid: str) -> None:
        if self._chance.random() < 0.5:
            count = self._chance.randint(1, 3)
            await session.add_items([message(str(number)) for number in range(count)])
            self._model.count("add_items", kid, "sealed", count)
        elif await session.pop_item() is not None:
            self._model.count("pop_item", kid, "ok")
            self._model.removed("pop_item", 1)

    async def _work_on_own(self, session: EncryptedSession, place: StoreLocation) -> None:
        model, chance = self._model, self._chance
        what = chance.choice(["add", "write", "write", "get", "get", "read", "pop", "pop", "purge"])
        if len(model.rows) > _LONGEST:
            await session.clear_session()
            model.rows.clear()
        elif what == "add":
            count = chance.randint(1, 4)
            await session.add_items([message(str(number)) for number in range(count)])
            model.count("add_items", self._sealer.active.kid, "sealed", count)
            model.rows += [(self._sealer.active.kid, "ok")] * count
        elif what == "write":
            rows = [self._odd_row() for _ in range(chance.randint(1, 3))]
            await write_rows(place, session.session_id, [row for row, _ in rows])
            model.rows += [found for _, found in rows]
        elif what == "get":
            limit = chance.choice([None, 1, 2, 5])
            await session.get_items(limit)
            model.judge("get_items", limit)
        elif what == "read":
            await session.read()
            model.judge("read", None)
        elif what == "pop":
            with suppress(UnreadableItemsError):
                await session.pop_item()
            model.pop()
        else:
            await session.purge_expired()
            model.purge()

    def _odd_row(self) -> tuple[str, tuple[str | None, str]]:
        """A row, and what reading finds: its kid, and its outcome."""
        sealer = self._sealer
        # On a slow machine all of it takes longer than what was sealed at its beginning lasts.
        sealer.now = self._foreign.now = int(time.time())
        kind = self._chance.choice([*_KINDS, "older", "foreign"])
        if kind == "older":
            return sealer.row(message("a"), sealer.older), (sealer.older.kid, "ok")
        if kind == "foreign":
            return self._foreign.row(message("a"), sealer.active), (sealer.active.kid, "unauthentic")
        return sealer.of(kind), (sealer.kid_of(kind), outcome_of(kind))


def main() -> None:
    order = json.load(sys.stdin)
    for module in harness.MODULES[order["place"]["kind"]]:
        __import__(module)
    children = [Child(order, number) for number in range(order["processes"])]
    for number, child in enumerate(children):
        child.start(Worker(order, number))
    for child in children:
        child.begin()
    harness.expect_success(children)


if __name__ == "__main__":
    main()

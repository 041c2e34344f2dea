"""1, 4 and 16 poppers on one list: tasks of one process, and processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from maintenance import places
from measuring import Table, in_turn
from subjects import BARE, OURS, SESSION, message, session_of

from encrypted_sessions import Key
from encrypted_sessions_tests.stores import WITHOUT_EVAL, StoreLocation, open_store, set_redis_rights
from keyproviders import decode_key_text

_POPPERS = (1, 4, 16)
_MOST_ITEMS, _FEWEST_ITEMS = 1_500, 48
_LONGEST_S = 0.5
"""About how long one popper of this library is to take: so all ends in little more than a minute on any store."""


class _Popped(NamedTuple):
    """How many one popper got, and when it got the last one."""

    items: int
    last_at: float


async def measure(*, quick: bool) -> Table:
    """Items popped in a second."""
    table = Table(
        "Poppers",
        ("store, poppers", BARE, OURS, "ours / bare"),
        f"Items of 200 B in one list, popped until none is left: {_MOST_ITEMS:,}, or as many as one popper of this"
        f" library takes in about {_LONGEST_S:g} s. Items per second, from the start signal to the last item. Medians"
        " of alternating rounds; ratios are taken within the rounds. The bare store pops the newest row as it is; this"
        " library reads it, opens it, and removes it only if it is still the newest. Tasks that pop from one list of"
        " Redis read once, and remove in one step, for all of them. No target: with few cores, the processes share"
        " them with the server.",
    )
    rounds = 1 if quick else 3
    async for name, place in _stores(table):
        rate = await _rate(place, OURS, "tasks", 1, _FEWEST_ITEMS)
        items = max(_FEWEST_ITEMS, min(_MOST_ITEMS, int(rate * _LONGEST_S)))
        for how in ("tasks", "processes"):
            for poppers in _POPPERS:
                taken: dict[str, list[float]] = {BARE: [], OURS: []}
                for order in in_turn((BARE, OURS), rounds):
                    for subject in order:
                        taken[subject].append(await _rate(place, subject, how, poppers, items))
                ratio = statistics.median(ours / bare for ours, bare in zip(taken[OURS], taken[BARE], strict=True))
                rates = (f"{statistics.median(taken[subject]):,.0f}/s" for subject in (BARE, OURS))
                table.add(f"{name}, {poppers} {how}", *rates, f"{ratio:.2f}")
    return table


async def _stores(table: Table) -> AsyncIterator[tuple[str, StoreLocation]]:
    async for where in places(table):
        place = where._replace(name="poppers").place()
        yield where.kind, place
        if where.kind == "redis":
            set_redis_rights(place.where, "bench", *WITHOUT_EVAL)
            yield f"{where.kind} without EVAL", replace(place, where=place.where.replace("//", "//bench:bench@"))


async def _rate(place: StoreLocation, subject: str, how: str, poppers: int, items: int) -> float:
    key = Key.generate("bench")
    async with open_store(place, SESSION) as store:
        session = session_of(subject, store, key)
        await session.clear_session()
        await session.add_items([message(200)] * items)
    if how == "tasks":
        began, popped = await _tasks(place, subject, key, poppers)
    else:
        began, popped = _processes(place, subject, key, poppers)  # nothing else is to run meanwhile
    assert sum(one.items for one in popped) == items, (place.kind, subject, popped)
    return items / (max(one.last_at for one in popped) - began)


async def _tasks(place: StoreLocation, subject: str, key: Key, poppers: int) -> tuple[float, list[_Popped]]:
    async with AsyncExitStack() as stack:
        sessions = []
        for _ in range(poppers):
            sessions.append(session_of(subject, await stack.enter_async_context(open_store(place, SESSION)), key))
            await sessions[-1].get_items(1)
        began = time.time()
        return began, await asyncio.gather(*map(_pop_all, sessions))


async def _pop_all(session: Any) -> _Popped:
    count, last_at = 0, time.time()
    while await session.pop_item() is not None:
        count, last_at = count + 1, time.time()
    return _Popped(count, last_at)


def _processes(place: StoreLocation, subject: str, key: Key, poppers: int) -> tuple[float, list[_Popped]]:
    context = multiprocessing.get_context("fork")  # which imports nothing anew, 16 times
    ready, begin, popped = context.Semaphore(0), context.Event(), context.Queue()
    arguments = (place, subject, key.reveal_base64(), ready, begin, popped)
    children = [context.Process(target=_child, args=arguments) for _ in range(poppers)]
    for child in children:
        child.start()
    for _ in children:
        if not ready.acquire(timeout=120):
            raise RuntimeError("a popper did not start")
    began = time.time()
    begin.set()
    found = [popped.get(timeout=120) for _ in children]
    for child in children:
        child.join()
    return began, found


def _child(place: StoreLocation, subject: str, secret: str, ready: Any, begin: Any, popped: Any) -> None:
    async def run() -> None:
        async with open_store(place, SESSION) as store:
            session = session_of(subject, store, Key("bench", decode_key_text(secret)))
            await session.get_items(1)
            ready.release()
            begin.wait()
            popped.put(await _pop_all(session))

    asyncio.run(run())

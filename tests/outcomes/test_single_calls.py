"""What one call costs: no task, no timer and no thread more than it needs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from encrypted_sessions import EncryptedSession
from encrypted_sessions.stores import Row
from encrypted_sessions.stores.sqlite.rows import SQLiteRows
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before Python 3.11 a read has a task of its own")
async def test_a_single_call_over_a_file_makes_no_task_and_a_timer_for_all_of_them(sealer: Sealer, tmp_path: Path):
    store = SQLiteSession(SESSION, tmp_path / "a.db")
    session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
    await session.add_items([message("one")])
    loop = asyncio.get_running_loop()
    tasks, timers, really = list[str](), list[float](), loop.call_at

    def make(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **keywords: Any) -> Any:
        tasks.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **keywords)

    def call_at(when: float, *arguments: Any, **keywords: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return really(when, *arguments, **keywords)

    loop.set_task_factory(make)
    loop.call_at = call_at  # type: ignore[method-assign]
    try:
        for number in range(10):
            await session.add_items([message(str(number))])
            assert await session.get_items(1) == [message(str(number))]
            assert await session.pop_item() == message(str(number))
    finally:
        loop.set_task_factory(None)
        del loop.call_at
    assert tasks == []
    assert len(timers) <= 1
    store.close()


async def test_a_pop_looks_once_at_one_row_and_an_expired_tail_takes_one_look_more(
    sealer: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looks, really = list[int](), SQLiteRows.page

    def page(rows: SQLiteRows, upto: Row | None, count: int) -> asyncio.Future[list[Row]]:
        looks.append(count)
        return really(rows, upto, count)

    monkeypatch.setattr(SQLiteRows, "page", page)
    place = StoreLocation("sqlite", str(tmp_path / "a.db"), "a")
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok("one"), sealer.expired(), sealer.expired(), sealer.ok("two")])
        assert await session.pop_item() == message("two")
        assert looks == [1]
        assert await session.pop_item() == message("one")
        assert looks[:2] == [1, 1]
        assert len(looks) == 4  # the newest, and a walk: that one again, and the rest
        looks.clear()
        assert await session.pop_item() is None
        assert looks == [1]


@pytest.mark.parametrize("on_the_class", [False, True], ids=["on the session", "on the class"])
async def test_who_put_another_add_items_in_place_is_called(
    on_the_class: bool, sealer: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    really, heard = SQLiteSession.add_items, list[int]()

    async def counted(store: SQLiteSession, items: list[Any]) -> None:
        heard.append(len(items))
        await really(store, items)

    with contextlib.closing(SQLiteSession(SESSION, tmp_path / "a.db")) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        if on_the_class:
            monkeypatch.setattr(SQLiteSession, "add_items", counted)
        else:
            monkeypatch.setattr(store, "add_items", functools.partial(counted, store))
        await session.add_items([message("one"), message("two")])
        assert heard == [2]
        assert await session.get_items() == [message("one"), message("two")]

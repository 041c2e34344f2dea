"""What somebody who writes the store, a provider with bad days, or a cancelled request can do: nothing new."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from encrypted_sessions import (
    EncryptedSession,
    EncryptedSessionError,
    Key,
    KeyDestroyedError,
    KeyNotAskedError,
    KeyNotFoundError,
    KeyProviderError,
    KeyRing,
    KeyUnavailableError,
    UnreadableItemsError,
)
from encrypted_sessions.errors import HistoryChangedError, PutBackError
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import RetryPolicy
from keyproviders.local import StaticKeyProvider

KEY = Key("active", bytes(n * n % 251 for n in range(32)))
GONE = Key("gone", bytes(n * n % 251 for n in range(1, 33)))


def message(text: str) -> Any:
    return {"role": "user", "content": text}


class CountedKeys:
    """A provider that counts what it is asked, and how often at once; what it lacks is gone or not there."""

    place = "counted keys"

    def __init__(self, lacking: type[KeyProviderError] = KeyNotFoundError, wait_s: float = 0.0) -> None:
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self._lacking = lacking
        self._wait_s = wait_s
        self._at_once = 0
        self._lock = threading.Lock()

    def active(self) -> Key:
        return KEY

    def get(self, name: str) -> Key:
        with self._lock:
            self.asked[name] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        threading.Event().wait(self._wait_s)
        with self._lock:
            self._at_once -= 1
        if name == KEY.name:
            return KEY
        raise self._lacking(f"counted keys: no {name}")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def stored_by(key: Key, path: Path, count: int) -> None:
    """A history that this key sealed."""
    store = SQLiteSession("session", path)
    try:
        session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(key)), ttl=None)
        await session.add_items([message(str(number)) for number in range(count)])
    finally:
        store.close()


def rewrite(path: Path, change: Callable[[int, dict[str, Any]], object]) -> None:
    """Put something else in place of each row."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for row_id, data in connection.execute("SELECT id, message_data FROM agent_messages").fetchall():
            new = json.dumps(change(row_id, json.loads(data)))
            connection.execute("UPDATE agent_messages SET message_data = ? WHERE id = ?", (new, row_id))


@contextlib.contextmanager
def opened(path: Path, provider: Any, **options: Any) -> Any:
    store = SQLiteSession("session", path)
    try:
        yield EncryptedSession.wrap(store, KeyRing(provider, retry=RetryPolicy(attempts=1)), ttl=None, **options)
    finally:
        store.close()


# -- Rows that make work --------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", [KeyNotFoundError, KeyDestroyedError])
async def test_a_key_that_is_not_there_is_asked_for_once_in_a_walk(
    lacking: type[KeyProviderError], database: Path
) -> None:
    await stored_by(GONE, database, 600)
    for use in ("read", "get_items", "pop_item"):
        provider = CountedKeys(lacking)
        with opened(database, provider, on_unreadable="skip") as session, contextlib.suppress(UnreadableItemsError):
            await getattr(session, use)()
        assert provider.asked == {"gone": 1}


async def test_a_row_for_each_of_many_kids_asks_four_at_once_at_most(database: Path) -> None:
    await stored_by(KEY, database, 20)
    rewrite(database, lambda number, row: {**row, "kid": f"made-up-{number}~{number:08x}"})
    provider = CountedKeys(wait_s=0.005)
    with opened(database, provider) as session:
        assert (await session.read()).outcomes["unknown_key"] == 20
    assert len(provider.asked) == 20
    assert provider.most_at_once <= 4


@pytest.mark.parametrize("kid", ["made-up-{0}~{0:08x}", "active~{0:08x}"])
async def test_rows_with_made_up_kids_do_not_fill_the_log(
    kid: str, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await stored_by(KEY, database, 60)
    rewrite(database, lambda number, row: {**row, "kid": kid.format(number)})
    provider = CountedKeys()
    began = time.monotonic()
    with opened(database, provider, on_unreadable="skip") as session, caplog.at_level(logging.WARNING):
        # What does not come to its turn is no answer, so nothing is passed over.
        with contextlib.suppress(KeyNotAskedError):
            await session.get_items()
        assert sum(provider.asked.values()) <= 5 + 5 * (time.monotonic() - began)
    assert len(provider.asked) == 1 or not kid.startswith("active")
    assert len(caplog.records) <= 2


async def test_plaintext_rows_of_any_depth_are_an_outcome(database: Path) -> None:
    """Python's parser gives up at a depth that depends on who calls it."""
    await stored_by(KEY, database, 1)
    with opened(database, CountedKeys(), plaintext="read") as session:
        for levels in range(900, 1020):
            row = '{"a":' * levels + "1" + "}" * levels
            with contextlib.closing(sqlite3.connect(database)) as connection, connection:
                connection.execute("UPDATE agent_messages SET message_data = ?", (row,))
            history = await session.read()
            assert history.outcomes in ({"ok": 0, "plaintext": 1}, {"ok": 0, "malformed": 1})


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
async def test_a_database_of_any_encoding_is_read(encoding: str, database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE something (id)")
    await stored_by(KEY, database, 3)
    with opened(database, CountedKeys()) as session:
        assert await session.pop_item() == message("2")
        assert (await session.read()).outcomes == {"ok": 2}


async def test_a_stored_null_at_the_end_of_a_plain_store_is_not_popped_away() -> None:
    store = PlainSession("session", [])
    session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(KEY)), ttl=None)
    await session.add_items([message("before")])
    store._rows.append("null")
    with pytest.raises(UnreadableItemsError, match="1 malformed"):
        await session.pop_item()
    assert store._rows[-1] == "null"


# -- A key that is taken away ---------------------------------------------------------------------


async def test_a_closed_ring_opens_nothing_though_sessions_have_used_it(database: Path) -> None:
    await stored_by(KEY, database, 2)
    with opened(database, CountedKeys()) as session:
        assert len(await session.get_items()) == 2
        session._sealed.keychain._ring.close()
        for use in (session.get_items, session.read, session.pop_item):
            with pytest.raises(KeyProviderError, match="closed"):
                await use()
        with pytest.raises(KeyProviderError, match="closed"):
            await session.add_items([message("more")])


# -- Errors of one request are not those of another -----------------------------------------------


class StrangeError(Exception):
    """An error that no provider should raise, and some SDK does."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Down:
    """A provider that is down, and slow to say so."""

    place = "a provider that is down"

    def __init__(self, kind: type[KeyUnavailableError | StrangeError] = KeyUnavailableError) -> None:
        self.gate = threading.Event()
        self._kind = kind

    def active(self) -> Key:
        self.gate.wait(10)
        raise self._kind("connection refused", retry_after_s=7)

    def get(self, name: str) -> Key:
        return self.active()


def shown(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


@pytest.mark.parametrize("kind", [KeyUnavailableError, StrangeError])
async def test_who_waits_for_the_same_answer_gets_an_error_of_their_own(
    kind: type[KeyUnavailableError | StrangeError],
) -> None:
    provider = Down(kind)
    ring = KeyRing(provider, retry=RetryPolicy(attempts=1))

    async def request(user: str) -> KeyUnavailableError | StrangeError:
        said_by_the_user = f"the words of {user}"
        session = EncryptedSession.wrap(PlainSession(user, []), ring, ttl=60)
        try:
            await session.add_items([message(said_by_the_user)])
        except kind as error:
            return error
        raise AssertionError("nothing was raised")

    waiting = [asyncio.ensure_future(request(f"user-{number}")) for number in range(5)]
    await asyncio.sleep(0)
    provider.gate.set()
    errors = await asyncio.gather(*waiting)
    for number, error in enumerate(errors):
        others = [f"the words of user-{other}" for other in range(5) if other != number]
        assert not [words for words in others if words in shown(error)]
        assert (str(error), error.retry_after_s) == ("connection refused", 7)
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors}) == 1


def test_threads_that_wait_for_the_same_answer_get_errors_of_their_own() -> None:
    provider = Down()
    ring = KeyRing(provider, retry=RetryPolicy(attempts=1))

    def request(user: str) -> tuple[str, str]:
        said_by_the_user = f"the words of {user}"
        try:
            ring.active_sync()
        except KeyUnavailableError as error:
            return said_by_the_user, shown(error)
        raise AssertionError("nothing was raised")

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(request, f"user-{number}") for number in range(4)]
        provider.gate.set()
        reports = [future.result() for future in waiting]
    for words, report in reports:
        assert not [other for other, _ in reports if other != words and other in report]


def test_a_call_that_could_not_start_is_made_by_the_next_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(StaticKeyProvider(KEY), retry=RetryPolicy(deadline_s=0.2))

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises((RuntimeError, KeyUnavailableError)):
            ring.active_sync()
    assert ring.active_sync() == KEY


# -- Cancellation and races -----------------------------------------------------------------------


class Gate:
    """Stands before a method: tells when it is entered, and lets it go on when it is told."""

    def __init__(self, thing: Any, method: str, *, after: bool) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        through = getattr(thing, method)

        async def gated(*arguments: Any, **keywords: Any) -> Any:
            result = await through(*arguments, **keywords) if after else None
            self.entered.set()
            await self.open.wait()
            return result if after else await through(*arguments, **keywords)

        setattr(thing, method, gated)


@pytest.mark.parametrize("after", [False, True], ids=["before the removal", "after the removal"])
async def test_a_cancelled_pop_loses_nothing_on_a_file(after: bool, database: Path) -> None:
    await stored_by(KEY, database, 3)
    with opened(database, CountedKeys()) as session:
        gate = Gate(session._sealed.rows, "remove", after=after)
        popping = asyncio.ensure_future(session.pop_item())
        await gate.entered.wait()
        popping.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await popping
        assert await session.get_items() == [message("0"), message("1"), message("2")]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before the removal", "after the removal"])
async def test_a_cancelled_pop_loses_nothing_on_a_plain_store(after: bool, times: int) -> None:
    store: Any = PlainSession("session", [])
    session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(KEY)), ttl=None)
    await session.add_items([message("0"), message("1")])
    gate = Gate(store, "pop_item", after=after)
    popping = asyncio.ensure_future(session.pop_item())
    await gate.entered.wait()
    for _ in range(times):
        popping.cancel()
        await asyncio.sleep(0)
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await popping
    assert await session.get_items() == [message("0"), message("1")]


async def test_what_a_store_does_not_take_back_is_in_the_error() -> None:
    store: Any = PlainSession("session", [])
    session = EncryptedSession.wrap(store, KeyRing(StaticKeyProvider(KEY)), ttl=None)
    await session.add_items([message("only")])
    (sealed,) = await store.get_items()

    async def refuse(items: Any) -> None:
        raise OSError("the disk is full")

    store.add_items = refuse
    gate = Gate(store, "pop_item", after=True)
    popping = asyncio.ensure_future(session.pop_item())
    await gate.entered.wait()
    popping.cancel()
    gate.open.set()
    with pytest.raises(PutBackError, match="did not accept it back") as caught:
        await popping
    assert caught.value.stored == sealed
    assert isinstance(caught.value, EncryptedSessionError)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made here
    assert (str(again), again.stored) == (str(caught.value), sealed)


async def test_a_compaction_replaces_nothing_that_it_has_not_read(database: Path) -> None:
    await stored_by(KEY, database, 3)
    with opened(database, CountedKeys()) as session:

        async def compaction(read: asyncio.Event, go_on: asyncio.Event) -> None:
            await session._read_compaction_items(None)
            read.set()
            await go_on.wait()
            await session._atomic_replace_items([message("a summary")])

        first, second, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        one = asyncio.ensure_future(compaction(first, go_on))
        await first.wait()
        await session.add_items([message("in between")])
        other = asyncio.ensure_future(compaction(second, asyncio.Event()))
        await second.wait()
        go_on.set()
        with pytest.raises(HistoryChangedError):
            await one
        other.cancel()
        assert message("in between") in await session.get_items()


async def test_a_compaction_that_read_nothing_replaces_nothing(database: Path) -> None:
    with opened(database, CountedKeys()) as session:
        assert await session._read_compaction_items(None) == ([], False)
        await session.add_items([message("came later")])
        with pytest.raises(HistoryChangedError):
            await session._atomic_replace_items([message("a summary")])
        assert await session.get_items() == [message("came later")]


def test_one_session_serves_many_threads(database: Path) -> None:
    """Each with an event loop of its own: what is shared are the keys and the cipher contexts."""
    asyncio.run(stored_by(KEY, database, 60))
    with opened(database, CountedKeys()) as session:
        expected = [message(str(number)) for number in range(60)]

        def reads(_: int) -> bool:
            return all(asyncio.run(session.get_items()) == expected for _ in range(5))

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(reads, range(8)))

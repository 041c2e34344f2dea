"""The same checks on every store: what docs/stores.md promises of each, row by row.

What is promised of one of them in particular, and at length, is shown in the folders of its subject.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import function_tool
from agents.testing import function_call

from encrypted_sessions import EncryptedSession, Key, PurgeRefusedError, UnreadableItemsError
from encrypted_sessions.errors import StoreConfigError, StoreError
from encrypted_sessions.maintenance import erase, inventory, purge, reencrypt, verify
from encrypted_sessions.stores import RowStore
from encrypted_sessions_tests import session_fork_harness as harness
from encrypted_sessions_tests.bulk_rows import texts
from encrypted_sessions_tests.compaction import CHAT, MARK, SUMMARY, Compactor, agent_that_says, compacting, run
from encrypted_sessions_tests.redis_servers import LastingRedisServer, WatchedRedis
from encrypted_sessions_tests.sealed_rows import AGE, SESSION, TTL, Sealer, altered, message, wrapper_of
from encrypted_sessions_tests.servers import Server
from encrypted_sessions_tests.soak import Rounds, Seed
from encrypted_sessions_tests.store_matrix import CHECKS, MONGODB_URL, STORES, MatrixStore, stores_for
from encrypted_sessions_tests.stores import PlainSession, StoreLocation, open_store
from encrypted_sessions_tests.whole_stores import whole


@pytest.fixture
def place(store: MatrixStore, request: pytest.FixtureRequest) -> StoreLocation:
    return store.make(request)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer(SESSION)
    yield sealer
    sealer.ring.close()


async def stored(place: StoreLocation, session_id: str = SESSION) -> list[Any]:
    """What the bare store holds."""
    async with open_store(place, session_id) as bare:
        return list(await bare.get_items())


async def store_as_it_is(place: StoreLocation, *batches: list[Any]) -> None:
    """Add items to the bare store, as somebody would who can write to it."""
    async with open_store(place, SESSION) as bare:
        for batch in batches:
            await bare.add_items(batch)


def is_sealed(rows: list[Any]) -> bool:
    return all(set(row) == {"__enc__", "v", "kid", "payload"} for row in rows) and MARK not in json.dumps(rows)


# -- One session ------------------------------------------------------------------------------------


@function_tool
def quokka_weather(city: str) -> str:
    """Look up the weather."""
    return f"{MARK} sun over {city}"


async def begin(session: Any) -> None:
    call = function_call("quokka_weather", {"city": "Perth"}, call_id=f"call_{MARK}")
    await run(agent_that_says([call], "sunny", tools=[quokka_weather]), "weather?", session)


async def go_on(session: Any) -> list[Any]:
    await run(agent_that_says("you are welcome"), "thanks", session)
    return list(await session.get_items())


@stores_for("conversation")
async def test_a_conversation_with_tools_goes_on_in_another_process(place: StoreLocation, sealer: Sealer) -> None:
    bare = PlainSession(SESSION, [])
    await begin(bare)
    async with sealer.session(place) as session:
        await begin(session)
    async with sealer.session(place) as session:
        assert await go_on(session) == await go_on(bare)
        rows = await stored(place)
        assert len(rows) == 6
        assert is_sealed(rows)
        await session.clear_session()
    assert await stored(place) == []


@stores_for("wrong key")
async def test_a_wrong_key_opens_nothing_and_removes_nothing(place: StoreLocation, sealer: Sealer) -> None:
    items = [message("one"), message("two")]
    async with sealer.session(place) as session:
        await session.add_items(items)  # type: ignore[arg-type]
    stranger = Sealer()
    async with open_store(place, SESSION) as bare:
        # A key that rows do not name, and one that takes them for its own.
        for key, outcome in ((stranger.ring, "unknown_key"), (Key.generate().reveal_base64(), "unauthentic")):
            session = wrapper_of(place)(SESSION, bare, key, ttl=TTL)
            for use in (session.get_items, session.pop_item):
                with pytest.raises(UnreadableItemsError) as raised:
                    await use()
                assert raised.value.outcomes == {"ok": 0, outcome: raised.value.outcomes[outcome]}
    stranger.ring.close()
    async with sealer.session(place) as session:
        assert await session.get_items() == items


@stores_for("altered row")
async def test_an_altered_row_raises_and_stays(place: StoreLocation, sealer: Sealer) -> None:
    other = Sealer("user-2")
    other.active = sealer.active
    async with sealer.session(place) as session:
        await session.add_items([message("one"), message("two")])
    async with open_store(place, SESSION) as bare:
        await bare.add_items([altered(await bare.pop_item()), other.envelope(message("of another session"))])
    other.ring.close()
    rows = await stored(place)
    async with sealer.session(place) as session:
        for use in (session.get_items, session.pop_item):
            with pytest.raises(UnreadableItemsError):
                await use()
        history = await session.read()
    assert texts(history.items) == ["one"]
    assert history.outcomes == {"ok": 1, "unauthentic": 2}
    assert await stored(place) == rows


@stores_for("large item")
async def test_an_item_of_300_kb_comes_back(place: StoreLocation, sealer: Sealer) -> None:
    items = [message("x"), message("é" + "x" * 300_000)]
    async with sealer.session(place) as session:
        await session.add_items(items)  # type: ignore[arg-type]
        assert await session.get_items() == items
        assert await session.pop_item() == items[1]
        assert await session.get_items() == items[:1]


@stores_for("long history")
async def test_700_items_come_back_in_order(place: StoreLocation, sealer: Sealer) -> None:
    items: list[Any] = [message(str(number)) for number in range(700)]
    async with sealer.session(place) as session:
        await session.add_items(items[:300])
        await session.add_items(items[300:])
        assert await session.get_items() == items
        assert await session.get_items(60) == items[-60:]
        assert [await session.pop_item() for _ in range(3)] == items[:-4:-1]
        assert (await session.read()).outcomes == {"ok": 697}


# -- What expired, and compaction -------------------------------------------------------------------


@stores_for("purge")
async def test_what_expired_is_purged_or_it_is_refused_in_words(
    store: MatrixStore, place: StoreLocation, sealer: Sealer
) -> None:
    await store_as_it_is(
        place,
        [sealer.envelope(message("old"), age=AGE), sealer.envelope(message("older"), age=AGE)],
        [sealer.envelope(message("one"))],
    )
    async with sealer.session(place) as session:
        if store.purge.word == "whole":
            assert await session.purge_expired() == 2
        else:
            with pytest.raises(PurgeRefusedError, match="Nothing was removed; "):
                await session.purge_expired()
        assert texts(await session.get_items()) == ["one"]
    assert len(await stored(place)) == (1 if store.purge.word == "whole" else 3)


@stores_for("purge")
async def test_each_add_purges_or_it_is_refused_in_words(
    store: MatrixStore, place: StoreLocation, sealer: Sealer
) -> None:
    await store_as_it_is(place, [sealer.envelope(message("old"), age=AGE)])
    if store.purge_on_add.word == "refused":
        with pytest.raises(ValueError, match="purge_on_add needs a store that can remove single rows"):
            async with sealer.session(place, purge_on_add=2):
                pass
        return
    async with sealer.session(place, purge_on_add=2) as session:
        await session.add_items([message("one")])
    assert len(await stored(place)) == 1


@pytest.mark.parametrize("order", ["around", "beneath"])
@stores_for("compaction")
async def test_compaction_in_either_order_leaves_the_same_rows_sealed(
    store: MatrixStore, place: StoreLocation, sealer: Sealer, order: str
) -> None:
    compactor = Compactor()
    async with open_store(place, CHAT) as bare:
        if order == "beneath":
            beneath = compacting(bare, compactor)
            if "i" in store.compaction.notes:
                with pytest.raises(TypeError, match="must be an AdvancedSQLiteSession"):
                    wrapper_of(place).wrap(beneath, sealer.ring, ttl=TTL)
                return
            session: Any = wrapper_of(place).wrap(beneath, sealer.ring, ttl=TTL)
            talk = session
        else:
            session = wrapper_of(place).wrap(bare, sealer.ring, ttl=TTL)
            talk = compacting(session, compactor)
        await run(agent_that_says("one"), "first", talk)
        assert len(compactor.requests) == 1
        assert await session.get_items() == SUMMARY
        rows = await bare.get_items()
        assert is_sealed(rows)
        assert len(rows) == len(SUMMARY)
        # What cannot be read is never replaced.
        await bare.add_items([altered(rows[-1])])
        with pytest.raises(UnreadableItemsError):
            await talk.run_compaction({"force": True})
        assert await bare.get_items() == [*rows, altered(rows[-1])]


@stores_for("conversation")
async def test_the_docs_call_whole_what_has_addressable_rows(store: MatrixStore, place: StoreLocation) -> None:
    async with open_store(place, SESSION) as bare:
        rows = wrapper_of(place)._rows_beneath(bare)
        assert isinstance(rows, RowStore) == (store.compaction.word == "whole")


# -- Several processes, and kills -------------------------------------------------------------------


def work(what: str, place: StoreLocation, sealer: Sealer, log: Path, **options: Any) -> dict[int, list[str]]:
    """What each child logged, by its number."""
    logged: dict[int, list[str]] = {}
    for line in harness.run(what, place, log, active=sealer.active, destroyed=sealer.destroyed, **options):
        number, words = line.split(" ", 1)
        logged.setdefault(int(number), []).append(words)
    return logged


@stores_for("processes")
async def test_each_item_goes_to_one_of_four_processes(place: StoreLocation, sealer: Sealer, tmp_path: Path) -> None:
    async with sealer.session(place) as session:
        await session.add_items([message(str(number)) for number in range(60)])
    logged = work("pop_all", place, sealer, tmp_path / "log", rounds=4)
    assert sorted(int(text) for popped in logged.values() for text in popped) == list(range(60))
    assert await stored(place) == []


@pytest.mark.parametrize("much", ["two kills", pytest.param("more", marks=pytest.mark.soak)])
@stores_for("kill")
async def test_a_kill_while_adding_and_popping_leaves_whole_batches_and_takes_only_what_was_in_hand(
    place: StoreLocation, sealer: Sealer, tmp_path: Path, rounds: Rounds, seed: Seed, much: str
) -> None:
    """Each child has a history of its own. It adds two items and pops one, again and again."""
    kills = rounds.of(50)
    logged = work("add_and_pop_until_killed", place, sealer, tmp_path / "log", rounds=kills, seed=seed)
    for child in range(kills + 1):
        words = logged.get(child, [])
        added, popped = (len([one for one in words if one.startswith(what)]) for what in ("added", "popped"))
        assert [one for one in words if one.startswith("popped")] == [f"popped {n} goes" for n in range(popped)]
        certain = [f"{number} stays" for number in range(added)]
        # Added, or not yet; both items, or one where the other had been popped and the child could not say so.
        allowed = [certain, [*certain, f"{added} stays", f"{added} goes"]]
        if popped < added:
            allowed = [certain, [*certain, f"{added - 1} goes"]]
        assert await history_of(place, sealer, f"child {child}", allowed) in allowed


async def history_of(place: StoreLocation, sealer: Sealer, session_id: str, awaited: list[list[str]]) -> list[str]:
    """What a history says, once the server is done with what a killed process has sent to it."""
    deadline = asyncio.get_running_loop().time() + 10
    async with open_store(place, session_id) as bare:
        session = wrapper_of(place).wrap(bare, sealer.ring, ttl=None)
        while (found := texts(await session.get_items())) not in awaited:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.05)
    return found


# -- A server that goes away and comes back ---------------------------------------------------------


@dataclass
class Log:
    """What became of the numbers that were added, or popped."""

    certain: list[int] = field(default_factory=list)
    """The server acknowledged them, and where others follow it these have them too."""
    doubtful: list[int] = field(default_factory=list)
    done: int = 0
    failures: int = 0


async def add_numbers(session: EncryptedSession, log: Log, until: asyncio.Event, settled: Any) -> None:
    number = 0
    while not until.is_set():
        try:
            await session.add_items([message(str(number))])
        except StoreError as error:
            log.doubtful.append(number)
            await failed(error, log)
        else:
            log.done += 1
            (log.certain if await settled() else log.doubtful).append(number)
        number += 1


async def pop_numbers(session: EncryptedSession, log: Log, until: asyncio.Event, settled: Any) -> None:
    while not until.is_set():
        try:
            item = await session.pop_item()
        except StoreError as error:
            await failed(error, log)
        else:
            assert item is not None
            log.done += 1
            (log.certain if await settled() else log.doubtful).append(int(texts([item])[0]))


async def failed(error: StoreError, log: Log) -> None:
    assert "try again" in str(error).lower()
    assert SESSION not in str(error)
    log.failures += 1
    await asyncio.sleep(0.02)


@stores_for("restart")
async def test_what_was_acknowledged_is_there_once_after_the_server_stopped_and_started(
    store: MatrixStore, place: StoreLocation, sealer: Sealer, request: pytest.FixtureRequest
) -> None:
    assert store.server is not None
    server = request.getfixturevalue(store.server)
    added, popped, done = Log(), Log(), asyncio.Event()
    total = 400
    async with contextlib.AsyncExitStack() as stack:
        adding = await stack.enter_async_context(sealer.session(place))
        settled = await stack.enter_async_context(settling(server))
        popping = EncryptedSession.wrap(
            await stack.enter_async_context(open_store(place, "popped")), sealer.ring, ttl=None
        )
        await popping.add_items([message(str(number)) for number in range(total)])
        tasks = [
            asyncio.create_task(use(session, log, done, settled))
            for use, session, log in ((add_numbers, adding, added), (pop_numbers, popping, popped))
        ]
        await until(lambda: min(len(added.certain), len(popped.certain)) >= 5, tasks)
        await interrupt(server, lambda: added.failures + popped.failures > 0, tasks)
        before = added.done, popped.done
        await until(lambda: min(added.done - before[0], popped.done - before[1]) >= 3, tasks)
        done.set()
        await asyncio.gather(*tasks)
        there = [int(text) for text in texts(await adding.get_items())]
        left = [int(text) for text in texts(await popping.get_items())]
    assert there == sorted(set(there))
    assert set(added.certain) <= set(there) <= {*added.certain, *added.doubtful}
    assert left == list(range(len(left)))
    assert popped.certain == sorted(set(popped.certain), reverse=True)
    assert not set(popped.certain) & set(left)
    # One was under way when the server went.
    assert len(set(range(total)) - set(left) - set(popped.certain) - set(popped.doubtful)) <= 1


async def until(holds: Any, tasks: list[asyncio.Task[None]]) -> None:
    """Wait while tasks go on; what one of them raises comes out here."""
    deadline = asyncio.get_running_loop().time() + 60
    while not holds():
        assert asyncio.get_running_loop().time() < deadline
        done, _ = await asyncio.wait(tasks, timeout=0.01, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()


async def interrupt(server: Server | WatchedRedis, is_noticed: Any, tasks: list[asyncio.Task[None]]) -> None:
    """Have it gone for as long as it takes until a call fails, at least."""
    if isinstance(server, WatchedRedis):
        server.kill_primary()
        await until(lambda: is_noticed() and server.has_failed_over(), tasks)
    else:
        await asyncio.to_thread(server.kill if isinstance(server, LastingRedisServer) else server.stop)
        await until(is_noticed, tasks)
        server.start()  # by the thread that stays, since a server ends with the one that started it


@contextlib.asynccontextmanager
async def settling(server: Server | WatchedRedis) -> AsyncIterator[Any]:
    """Whether all that was acknowledged until now is where a failover does not lose it."""
    if not isinstance(server, WatchedRedis):

        async def at_once() -> bool:
            return True

        yield at_once
        return
    import redis.asyncio
    from redis.exceptions import RedisError

    url = server.primary_url
    async with redis.asyncio.from_url(url) as client:

        async def replicated() -> bool:
            with contextlib.suppress(RedisError, OSError):
                await client.incr("settled")
                return int(await client.wait(1, 1_000)) > 0
            return False

        yield replicated


# -- The whole store --------------------------------------------------------------------------------


@stores_for("maintenance")
async def test_maintenance_does_its_work_or_refuses_in_words(
    store: MatrixStore, place: StoreLocation, sealer: Sealer, request: pytest.FixtureRequest
) -> None:
    async with open_store(place, SESSION):
        pass  # which makes the tables
    if store.maintenance.word == "refused":
        if place.where:
            with pytest.raises(StoreConfigError, match="are not supported; give "):
                whole(place)
        return
    await store_as_it_is(
        place,
        [sealer.envelope(message("old"), sealer.older, age=AGE)],
        [sealer.envelope(message(str(number)), sealer.older) for number in range(5)],
        [sealer.envelope(message("5"))],
    )
    async with whole(store.maintained(place, request)) as rows:
        assert (await inventory(rows, sealer.ring, ttl=TTL)).found == {"expired": 1, "ok": 6}
        assert (await purge(rows, sealer.ring, ttl=TTL)).changed == 1
        assert (await reencrypt(rows, sealer.ring)).changed == 5
        report = await verify(rows, sealer.ring, ttl=TTL)
        assert report.ok
        assert report.found == {"ok": 6}
        assert {row["kid"] for row in await stored(place)} == {sealer.active.kid}
        async with sealer.session(place) as session:
            assert texts(await session.get_items()) == list("012345")
        assert (await erase(rows, [SESSION])).ok
    assert await stored(place) == []


# -- The list ---------------------------------------------------------------------------------------


@pytest.mark.skipif(MONGODB_URL not in os.environ, reason=f"{MONGODB_URL} names no MongoDB to try all of this on")
async def test_a_mongodb_that_was_named_answers(request: pytest.FixtureRequest) -> None:
    (place,) = [store.make(request) for store in STORES if store.name == "mongodb-server"]
    async with open_store(place, SESSION) as bare:
        assert await bare.ping()


def test_every_check_of_the_docs_is_one_of_these() -> None:
    """Each is used by a test of this file, by its name."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'@stores_for("{check}")' in text for check in CHECKS)

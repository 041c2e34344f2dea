"""Redis: places that move, scripts that are sent twice, and keys that are somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from encrypted_sessions.doctor import store_report
from encrypted_sessions.doctor.store import examine_store
from encrypted_sessions.errors import StoreError, StoreUnavailableError
from encrypted_sessions.stores.redis.whole import RedisStore
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.cutting_proxy import Moment, proxy_to
from encrypted_sessions_tests.redis_rights import ERASURE, MAINTENANCE, SCRIPTS, TRANSACTIONS
from encrypted_sessions_tests.sealed_rows import Sealer, message
from encrypted_sessions_tests.servers import RedisServer, Server, free_port
from encrypted_sessions_tests.stores import REDIS_WITHOUT_EVAL, StoreLocation, database_of, new_place, raw_rows
from encrypted_sessions_tests.stores import open_store as open_session
from encrypted_sessions_tests.whole_stores import all_rows, as_text, fill, rows_of, whole


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("redis", request)


@pytest.fixture
async def client(place: StoreLocation) -> AsyncIterator[Any]:
    async with stores._redis(place) as client:
        yield client


def numbers(count: int) -> list[str]:
    return [f"element {number}" for number in range(count)]


# -- Places that move -----------------------------------------------------------------------------


async def test_elements_are_found_though_others_before_them_were_removed(place: StoreLocation, client: Any):
    await fill(place, {"mine": numbers(2_000)})
    async with whole(place) as store:
        rows = await rows_of(store, "mine", 2_000)
        await client.ltrim(place.redis_key("mine"), 700, -1)
        some = rows[600:1_000]
        assert await store.replace([(row, f"new {as_text(row)}") for row in some]) == [False] * 100 + [True] * 300
        assert await store.remove(rows[650:750] + rows[1_900:]) == [False] * 100 + [True] * 100
        left = await raw_rows(place, "mine")
        assert left == [f"new element {number}" for number in range(700, 1_000)] + numbers(2_000)[1_000:1_900]


async def test_the_wrong_element_is_never_changed(place: StoreLocation, client: Any):
    await fill(place, {"mine": numbers(50)})
    async with whole(place) as store:
        rows = await rows_of(store, "mine")
        await client.delete(place.redis_key("mine"))
        await client.rpush(place.redis_key("mine"), *[f"other {number}" for number in range(50)])
        assert not any(await store.replace([(row, "new") for row in rows]))
        assert not any(await store.remove(rows))
        assert await raw_rows(place, "mine") == [f"other {number}" for number in range(50)]


async def test_a_walk_passes_over_nothing_while_the_head_is_removed_beneath_it(place: StoreLocation, client: Any):
    await fill(place, {"mine": numbers(1_000)})
    found = set()
    async with whole(place) as store:
        async for block in store.blocks():
            after = None
            while rows := await store.rows(block, after, 50):
                found |= {as_text(row) for row in rows}
                after = rows[-1]
                await client.ltrim(place.redis_key("mine"), 10, -1)
                await client.rpush(place.redis_key("mine"), "new")
    assert found >= {f"element {number}" for number in range(200, 1_000)}


async def test_a_list_that_became_much_shorter_is_read_to_its_end(place: StoreLocation, client: Any):
    await fill(place, {"mine": numbers(1_000), "other": numbers(10)})
    async with whole(place) as store:
        (block,) = [block async for block in store.blocks()]
        rows = await store.rows(block, None, 50)
        for session_id in ("mine", "other"):
            await client.ltrim(place.redis_key(session_id), -3, -1)
        found = [(row.session_id, as_text(row)) for row in rows]
        while rows := await store.rows(block, rows[-1], 50):
            found += [(row.session_id, as_text(row)) for row in rows]
    assert {("mine", text) for text in numbers(1_000)[-3:]} <= set(found)
    assert {("other", text) for text in numbers(10)[-3:]} <= set(found)


async def test_two_removers_and_an_agent_share_a_list(place: StoreLocation):
    """What is to go is gone, what is to stay is there in its order, and what the agent added too."""
    texts = [f"{'expired' if number % 3 else 'kept'} {number}" for number in range(3_000)]
    await fill(place, {"mine": texts})
    stop = asyncio.Event()

    async def purge() -> int:
        removed = 0
        async with whole(place) as store:
            async for block in store.blocks():
                after = None
                while rows := await store.rows(block, after, 100):
                    after = rows[-1]
                    removed += sum(await store.remove([row for row in rows if as_text(row).startswith("expired")]))
        return removed

    async def agent() -> list[Any]:
        added = []
        async with open_session(place, "mine") as session:
            while not stop.is_set():
                added.append(message(f"{len(added)}"))
                await session.add_items([added[-1], message("popped")])
                assert await session.pop_item() == message("popped")
        return added

    agent_at_work = asyncio.create_task(agent())
    removed = sum(await asyncio.gather(purge(), purge(), purge()))
    stop.set()
    added = await agent_at_work
    assert removed == 2_000
    left = [str(row) for row in await raw_rows(place, "mine")]
    assert left[:1_000] == [text for text in texts if text.startswith("kept")]
    assert [stores.json.loads(row) for row in left[1_000:]] == added


async def test_a_list_of_100_000_elements_is_read_changed_and_emptied_in_parts(place: StoreLocation, client: Any):
    await fill(place, {"mine": numbers(100_000)})
    async with whole(place) as store:
        seen = 0
        async for block in store.blocks():
            after = None
            while rows := await store.rows(block, after, 1_000):
                after = rows[-1]
                seen += len(rows)
                if rows[0].id.offset % 10_000 == 9_999:
                    assert all(await store.replace([(row, f"new {as_text(row)}") for row in rows]))
                else:
                    assert all(await store.remove(rows))
        assert seen == 100_000
        left = await raw_rows(place, "mine")
        assert left == [f"new {text}" for number, text in enumerate(numbers(100_000)) if number // 1_000 % 10 == 9]


# -- Scripts that are sent twice ------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_lost_reply_changes_nothing_twice(place: StoreLocation, moment: Any):
    await fill(place, {"mine": ["same", "same", "same", "other", "same"]})
    port = urlsplit(place.where).port
    assert port is not None
    async with (
        proxy_to(port) as proxy,
        RedisStore(f"redis://127.0.0.1:{proxy.port}/{database_of(place)}", place.prefix) as store,
    ):
        rows = await rows_of(store, "mine")
        proxy.cut(moment, b"LREM")
        assert await store.remove([rows[0], rows[1]._replace(data=b"not there")]) == [True, False]
        assert proxy.cuts == 1
        assert await raw_rows(place, "mine") == ["same", "same", "other", "same"]
        rows = await rows_of(store, "mine")
        proxy.cut(moment, b"a new element")
        assert await store.replace([(rows[0], "a new element"), (rows[1], "same")]) == [True, True]
        assert proxy.cuts == 2
        assert await raw_rows(place, "mine") == ["a new element", "same", "other", "same"]


async def test_a_change_that_is_asked_for_again_after_an_outage_is_made_once(place: StoreLocation):
    await fill(place, {"mine": ["same", "same", "same"]})
    port = urlsplit(place.where).port
    assert port is not None
    async with (
        proxy_to(port) as proxy,
        RedisStore(f"redis://127.0.0.1:{proxy.port}/{database_of(place)}", place.prefix) as store,
    ):
        store._connection.pool.connection_kwargs["retry"]._retries = 0
        await store._connection.pool.disconnect()
        store._connection.pool.reset()
        rows = await rows_of(store, "mine")
        proxy.cut("after", b"LREM")
        with pytest.raises(StoreUnavailableError):
            await store.remove(rows[:1])
        assert await raw_rows(place, "mine") == ["same", "same"]
        assert await store.remove(rows[:1]) == [True]
        assert await raw_rows(place, "mine") == ["same", "same"]
        assert await store.remove(rows[:1]) == [True]  # that one was answered: this is another
        assert await raw_rows(place, "mine") == ["same"]


async def test_what_is_noted_of_a_change_holds_no_element_and_goes(place: StoreLocation, client: Any):
    await fill(place, {"mine": numbers(3)})
    async with whole(place) as store:
        for number in range(2):
            await store.remove((await rows_of(store, "mine"))[:1])
            (note,) = await client.keys(f"{place.redis_key('mine')}:change:*")
            assert await client.get(note) == b"1", number
            assert 0 < await client.pttl(note) <= 600_000
        await store.checkpoint()
    assert await client.keys(f"{place.redis_key('mine')}:*") == []


# -- Keys -----------------------------------------------------------------------------------------


async def test_a_time_to_live_and_the_hash_of_a_session_stay(place: StoreLocation, client: Any):
    async with open_session(place, "mine", ttl=1_000) as session:
        await session.add_items([message("one"), message("two")])
    key = place.redis_key("mine")
    before = await client.pttl(key)
    async with whole(place) as store:
        rows = await rows_of(store, "mine")
        assert all(await store.replace([(row, "new") for row in rows]))
        assert await store.remove((await rows_of(store, "mine"))[:1]) == [True]
        assert 0 < await client.pttl(key) <= before
        assert await store.remove(await rows_of(store, "mine")) == [True]
    assert await client.exists(key) == 0
    assert await client.hget(f"{place.prefix}:mine", "session_id") == b"mine"
    assert await client.pttl(f"{place.prefix}:mine") > 0


async def test_keys_of_other_kinds_and_of_other_prefixes_are_left_alone(place: StoreLocation, client: Any):
    other = StoreLocation(place.kind, place.where, f"{place.prefix}:longer")
    async with open_session(place, "mine") as session, open_session(other, "theirs") as theirs:
        await session.add_items([message("one")])
        await theirs.add_items([message("two")])
    await client.set(f"{place.prefix}:text:messages", "x")
    await client.rpush(f"{place.prefix}::messages", "x")
    await client.rpush(f"{place.prefix}-mine:messages", "x")
    await client.set(f"{place.prefix}:hashless", "x")
    await client.rpush(f"{place.prefix}:hashless:messages", "x")
    async with whole(place) as store:
        assert {row.session_id for row in await all_rows(store)} == {"mine", "hashless"}
        assert await store.count() == 2
        assert await rows_of(store, "longer:theirs") == []
        for odd in ("longer:theirs", "text", "hashless"):
            with pytest.raises(StoreError, match=odd):
                await store.erase([odd])
    async with whole(other) as store:
        assert [row.session_id for row in await all_rows(store)] == ["theirs"]
        assert dict(await store.erase(["theirs"])) == {"session": 1, "messages": 1, "counter": 0}
    async with open_session(place, "mine") as session:
        assert await session.get_items() == [message("one")]


async def test_erasing_takes_the_counter_too(place: StoreLocation, client: Any):
    async with open_session(place, "mine") as session:
        await session.add_items([message("one")])
        await session._get_next_id()
    async with whole(place) as store:
        assert dict(await store.erase(["mine"])) == {"session": 1, "messages": 1, "counter": 1}
    assert await client.keys(f"{place.prefix}*") == []


@pytest.mark.parametrize("prefix", ["with*star", "a?b", "[x]", "back\\slash", "ü", "a:b:c", "hash{tag}", "^-"])
async def test_a_prefix_is_taken_as_it_is(place: StoreLocation, client: Any, prefix: str):
    mine = StoreLocation(place.kind, place.where, f"{place.prefix}{prefix}")
    async with open_session(mine, "mine") as session:
        await session.add_items([message("one")])
    await client.rpush(f"{place.prefix}withXstar:no:messages", "x")
    await client.rpush(f"{place.prefix}aXb:no:messages", "x")
    await client.rpush(f"{place.prefix}x:no:messages", "x")
    async with whole(mine) as store:
        assert [row.session_id for row in await all_rows(store)] == ["mine"]


async def test_10_000_sessions_are_all_met_and_counted_roughly(place: StoreLocation, client: Any):
    pipeline = client.pipeline(transaction=False)
    for number in range(10_000):
        pipeline.rpush(place.redis_key(f"session-{number}"), "a", "b")
    await pipeline.execute()
    async with whole(place) as store:
        assert len({row.session_id for row in await all_rows(store)}) == 10_000
        assert 10_000 < await store.count() < 40_000
        first = [block async for block in store.blocks()]
        assert first != [block async for block in store.blocks()]


# -- Servers --------------------------------------------------------------------------------------


@pytest.mark.private_servers
async def test_a_server_that_was_started_again_is_an_outage_and_then_works(place: StoreLocation, redis_server: Server):
    await fill(place, {"mine": numbers(3)})
    async with whole(place) as store:
        rows = await all_rows(store)
        redis_server.kill()
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
            await store.replace([(row, "new") for row in rows])
        redis_server.start()
        await fill(place, {"mine": numbers(3)})
        assert await store.replace([(row, "new") for row in rows]) == [True] * 3


@pytest.mark.private_servers
async def test_a_server_that_does_not_answer_is_an_outage(place: StoreLocation, redis_server: Server):
    await fill(place, {"mine": numbers(3)})
    async with RedisStore(place.where, place.prefix, timeout_s=0.2) as store:
        rows = await all_rows(store)
        redis_server.pause()
        with pytest.raises(StoreUnavailableError):
            await store.remove(rows)
        redis_server.resume()
        await asyncio.sleep(0.2)
        assert await store.remove(rows) in ([True] * 3, [False] * 3)


async def test_what_waiting_does_not_mend_is_no_outage_and_shows_no_element(place: StoreLocation, client: Any):
    await fill(place, {"mine": ["an element that is not shown"]})
    await client.acl_setuser(
        "reader", enabled=True, passwords=["+of-the-reader"], keys=["*"], categories=["+@read", "+@connection"]
    )
    try:
        url = place.where.replace("redis://", "redis://reader:of-the-reader@")
        async with RedisStore(url, place.prefix) as store:
            rows = await all_rows(store)
            with pytest.raises(StoreError, match=r"(?i)permission") as caught:
                await store.replace([(rows[0], "nor what was to come")])
            assert not isinstance(caught.value, StoreUnavailableError)
            for secret in ("not shown", "to come", "of-the-reader", "redis.call"):
                assert secret not in str(caught.value)
            assert caught.value.__context__ is None
        with pytest.raises(StoreError) as caught:
            async with RedisStore(url.replace("of-the-reader", "wrong"), place.prefix):
                pass
        assert not isinstance(caught.value, StoreUnavailableError)
    finally:
        await client.acl_deluser("reader")


async def test_what_may_not_be_read_does_not_pass_for_empty(place: StoreLocation, client: Any):
    await fill(place, {"mine": ["an element"]})
    allowed = ["+@connection", "+scan", "+llen", "+hget", "+lrange", "+dbsize"]
    for forbidden in ("scan", "llen", "hget", "lrange"):
        commands = [name for name in allowed if name != f"+{forbidden}"]
        await client.execute_command("ACL", "SETUSER", "half", "reset", "on", ">half", "~*", *commands)
        try:
            async with RedisStore(place.where.replace("redis://", "redis://half:half@"), place.prefix) as store:
                with pytest.raises(StoreError, match=r"(?i)permission"):
                    await all_rows(store)
        finally:
            await client.acl_deluser("half")


@pytest.mark.private_servers
async def test_a_server_busy_with_a_script_is_an_outage(place: StoreLocation, client: Any):
    await fill(place, {"mine": ["an element"]})
    await client.config_set("busy-reply-threshold", 50)
    async with whole(place) as store, stores._redis(place) as other:
        rows = await all_rows(store)
        looping = asyncio.create_task(other.eval("while true do end", 0))
        await asyncio.sleep(0.5)
        for ask in (lambda: all_rows(store), lambda: store.remove(rows), store.count):
            with pytest.raises(StoreUnavailableError, match="BUSY"):
                await ask()
        await client.script_kill()
        with contextlib.suppress(Exception):
            await looping
        assert await store.remove(rows) == [True]


async def test_a_key_that_becomes_something_else_is_left_alone(place: StoreLocation, client: Any):
    await fill(place, {"mine": ["an element"]})
    async with whole(place) as store:
        (block,) = [block async for block in store.blocks()]
        rows = await store.rows(block, None, 10)
        await client.set(place.redis_key("mine"), "text")
        assert await store.rows(block, None, 10) == []
        assert await store.replace([(row, "new") for row in rows]) == [False]
        assert await store.remove(rows) == [False]
        assert await rows_of(store, "mine") == []
    assert await client.get(place.redis_key("mine")) == b"text"


class ClusterServer(RedisServer):
    def _command(self) -> list[str]:
        # Not 10,000 beyond the port, where it would be by itself: there may be no such port.
        return [*super()._command(), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]


async def test_a_cluster_is_refused(redis_url: str):  # which skips where there is no Redis
    with ClusterServer() as server, pytest.raises(StoreError, match="is a cluster"):
        async with RedisStore(server.url, "agents:session"):
            pass


async def test_a_url_that_asks_for_text_gets_bytes_all_the_same(place: StoreLocation, client: Any):
    await client.rpush(place.redis_key("mine"), b"\xff\xfe")
    async with RedisStore(f"{place.where}?decode_responses=True&protocol=3", place.prefix) as store:
        (row,) = await all_rows(store)
        assert row.data == b"\xff\xfe"
        assert await store.replace([(row, "new")]) == [True]


# -- What Redis says ------------------------------------------------------------------------------


@pytest.mark.private_servers
async def test_a_server_without_memory_left_is_an_outage(place: StoreLocation):
    await fill(place, {"mine": ["one"]})
    async with whole(place) as store, stores._redis(place) as client:
        rows = await all_rows(store)
        await client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreUnavailableError, match=r"Redis database [^(]*: (OOM )?command not allowed"):
                await store.replace([(rows[0], "new")])
        finally:
            await client.config_set("maxmemory", 0)
        assert await store.replace([(rows[0], "new")]) == [True]


async def test_a_session_whose_keys_are_of_another_type_is_named_and_not_erased(place: StoreLocation):
    async with whole(place) as store, stores._redis(place) as client:
        await client.sadd(place.redis_key("mine"), "something else")
        with pytest.raises(StoreError, match=f": {place.redis_key('mine')} is not a list but a set: nothing of that"):
            await store.erase(["mine"])
        assert await client.type(place.redis_key("mine")) == b"set"


# -- Whether it keeps what it has -------------------------------------------------------------------


@pytest.mark.private_servers
async def test_a_server_that_keeps_nothing_on_disk_is_a_notice(place: StoreLocation, client: Any):
    """And what a user may not see is said."""
    sealer = Sealer()
    await fill(place, {"mine": [sealer.ok("one")]})
    async with whole(place) as store, sealer.ring:
        found = await examine_store(store, [sealer.ring])
        assert found.ok
        assert f"Note: {found.notices[0]}." in " ".join(store_report.format_text(found).split())
        assert store_report.as_dict(found)["notices"] == list(found.notices)
        (notice,) = await kept_by(store)
        assert "after a crash, all histories are empty" in notice
        await client.config_set("save", "900 1")
        assert await kept_by(store) == []
        await client.config_set("save", "")
        await client.config_set("appendonly", "yes")
        assert await kept_by(store) == []
        await client.config_set("appendonly", "no")
    for forbidden, words in (
        ("-config", "it could not be seen whether it saves snapshots"),
        ("-config -info", "has no right to ask"),
    ):
        await client.execute_command(
            "ACL", "SETUSER", "half", "reset", "on", ">half", "~*", "+@all", *forbidden.split()
        )
        async with RedisStore(place.where.replace("redis://", "redis://half:half@"), place.prefix) as store:
            (notice,) = await kept_by(store)
            assert words in notice
    await client.acl_deluser("half")


async def kept_by(store: RedisStore) -> list[str]:
    """What a store says of how it keeps its rows: its last notice is on how calls of sessions end."""
    *notices, last = await store.notices()
    assert "socket_timeout" in last
    return notices


# -- Without scripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False], ids=["with EVAL", "without EVAL"])
async def test_the_rights_that_the_docs_list_are_enough(place: StoreLocation, client: Any, scripts: bool):
    await fill(place, {"mine": numbers(20), "other": numbers(3)})
    rights = [*MAINTENANCE, *ERASURE, *(SCRIPTS if scripts else TRANSACTIONS)]
    await client.execute_command(
        "ACL", "SETUSER", "worker", "reset", "on", ">worker", f"~{place.prefix}:*", "+@connection", *rights
    )
    try:
        async with RedisStore(place.where.replace("redis://", "redis://worker:worker@"), place.prefix) as store:
            rows = await rows_of(store, "mine")
            assert all(await store.replace([(row, f"new {as_text(row)}") for row in rows[:5]]))
            assert all(await store.remove(rows[10:]))
            assert await store.erase(["other"]) == {"session": 0, "messages": 3, "counter": 0}
            assert await store.clock() is not None
            await store.count()
            await store.checkpoint()
            assert await client.keys(f"{place.prefix}:*:change:*") == []
        assert await raw_rows(place, "mine") == [f"new {text}" for text in numbers(5)] + numbers(10)[5:]
    finally:
        await client.acl_deluser("worker")


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_transaction_whose_reply_was_lost_is_made_once(
    request: pytest.FixtureRequest, moment: Moment, client: Any
):
    place = new_place(REDIS_WITHOUT_EVAL, request)
    await fill(place, {"mine": ["same"] * 6})
    port = urlsplit(place.where).port
    assert port is not None
    async with proxy_to(port) as proxy:
        url = place.where.replace(f":{port}/", f":{proxy.port}/")
        async with RedisStore(url, place.prefix) as store:
            rows = await rows_of(store, "mine")
            proxy.cut(moment, b"LREM")
            assert await store.remove(rows[:2]) == [True, True]
            rows = await rows_of(store, "mine")
            proxy.cut(moment, b"LSET")
            assert await store.replace([(rows[0], "new")]) == [True]
            assert proxy.cuts == 2
    assert await raw_rows(place, "mine") == ["new", "same", "same", "same"]


async def test_elements_that_moved_are_found_without_scripts_too(request: pytest.FixtureRequest, client: Any):
    place = new_place(REDIS_WITHOUT_EVAL, request)
    await fill(place, {"mine": numbers(2_000)})
    async with whole(place) as store:
        rows = await rows_of(store, "mine", 2_000)
        await client.ltrim(place.redis_key("mine"), 700, -1)
        some = rows[600:1_000]
        assert await store.replace([(row, f"new {as_text(row)}") for row in some]) == [False] * 100 + [True] * 300
        assert await store.remove(rows[650:750] + rows[1_900:]) == [False] * 100 + [True] * 100
        left = await raw_rows(place, "mine")
        assert left == [f"new element {number}" for number in range(700, 1_000)] + numbers(2_000)[1_000:1_900]
        await client.sadd(place.redis_key("odd"), "something else")
        with pytest.raises(StoreError, match=f"{place.redis_key('odd')} is not a list but a set: nothing of that"):
            await store.erase(["odd"])


@pytest.mark.parametrize("way", [SCRIPTS, TRANSACTIONS], ids=["with EVAL", "without EVAL"])
async def test_a_right_that_is_missing_leaves_every_row_as_it_was(
    place: StoreLocation, client: Any, way: Sequence[str]
):
    """A script that is stopped half-way leaves what it did: so it is not to be stopped there."""
    await fill(place, {"mine": numbers(5)})
    for missing in ("+lset", "+lrem"):
        rights = [right for right in (*MAINTENANCE, *ERASURE, *way) if right != missing]
        await client.execute_command(
            "ACL", "SETUSER", "worker", "reset", "on", ">worker", "~*", "+@connection", *rights
        )
        try:
            async with RedisStore(place.where.replace("redis://", "redis://worker:worker@"), place.prefix) as store:
                with pytest.raises(StoreError, match=r"(this command|run the 'l\w+' command).*Check that the user"):
                    await store.remove(await rows_of(store, "mine"))
            assert await raw_rows(place, "mine") == numbers(5)
        finally:
            await client.acl_deluser("worker")

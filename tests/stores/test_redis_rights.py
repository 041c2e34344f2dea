"""Redis where not everything is allowed: a user without EVAL, and one who lacks a right that is needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from agents.extensions.memory import RedisSession
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from encrypted_sessions import EncryptedSession
from encrypted_sessions.errors import StoreError
from encrypted_sessions.stores import CutPage, store_beneath
from encrypted_sessions.stores.redis import rows as redis_rows
from encrypted_sessions.stores.redis.notes import note_of
from encrypted_sessions_tests import stores
from encrypted_sessions_tests.bulk_rows import as_json, texts, write_rows
from encrypted_sessions_tests.cutting_proxy import Moment, proxy_to
from encrypted_sessions_tests.redis_rights import CHANGING, READING, SCRIPTS, SDK
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.servers import RedisServer, free_port
from encrypted_sessions_tests.stores import (
    REDIS_WITHOUT_EVAL,
    WITHOUT_EVAL,
    StoreLocation,
    new_place,
    open_store,
    raw_rows,
    redis_user,
    set_redis_rights,
)


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    sealer = Sealer(SESSION)
    yield sealer
    sealer.ring.close()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(REDIS_WITHOUT_EVAL, request)


@pytest.fixture
def owner(place: StoreLocation, redis_url: str) -> StoreLocation:
    """The same rows, for somebody who may do everything."""
    return replace(place, where=redis_url)


def of_user(place: StoreLocation, request: pytest.FixtureRequest, *rights: str) -> StoreLocation:
    return replace(place, where=redis_user(request, *rights))


# -- Without scripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
async def test_700_items_large_ones_and_bytes_that_are_no_text_come_back(
    place: StoreLocation, owner: StoreLocation, sealer: Sealer, decode: bool
):
    items = [message(f"{number} " + "x" * (300_000 if number % 50 == 0 else 50)) for number in range(700)]
    async with open_store(place, SESSION, redis_kwargs={"decode_responses": decode}) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        await session.add_items(items)  # type: ignore[arg-type]
        assert await session.get_items() == items
        assert await session.get_items(60) == items[-60:]
        await stores.write_raw_row(owner, SESSION, b"\xff\xfe")
        assert (await session.read()).outcomes == {"ok": 700, "malformed": 1}
        async with stores._redis(owner) as client:
            await client.rpop(owner.redis_key(SESSION))
        assert [await session.pop_item() for _ in range(3)] == items[:-4:-1]
        assert await session._get_compaction_snapshot(10) is not None
        assert await session._atomic_replace_items([message("summary")])
        assert await session.get_items() == [message("summary")]


async def test_pages_end_by_their_bytes_and_what_is_too_large_is_left_out(place: StoreLocation, owner: StoreLocation):
    data = [b"%d" % number + b"x" * 400_000 for number in range(40)]
    async with open_store(place, SESSION) as store, stores._redis(owner) as client:
        await client.rpush(owner.redis_key(SESSION), *data)
        rows: Any = store_beneath(store)
        page = await rows.page(None, 100)
        assert isinstance(page, CutPage)
        assert [row.data for row in page] == data[: 39 - len(page) : -1]
        assert 4 * 2**20 <= sum(len(row.data) for row in page) < 5 * 2**20
        oldest = await rows.oldest(100)
        assert [row.data for row in oldest] == data[: len(oldest)]
        assert len(oldest) == len(page)
        rows.max_row_bytes = 300_000
        await client.rpush(owner.redis_key(SESSION), b"small")
        page = await rows.page(None, 3)
        assert [repr(row.data) for row in page] == ["b'small'", "TOO_LARGE", "TOO_LARGE"]


async def test_a_user_who_may_not_measure_reads_too(
    request: pytest.FixtureRequest, place: StoreLocation, sealer: Sealer
):
    items = [message(str(number)) for number in range(300)]
    async with sealer.session(of_user(place, request, *WITHOUT_EVAL, "-memory")) as session:
        await session.add_items(items)  # type: ignore[arg-type]
        assert await session.get_items() == items


async def test_a_list_that_moves_beneath_a_page_ends_it(
    place: StoreLocation, owner: StoreLocation, monkeypatch: pytest.MonkeyPatch
):
    """What comes after the row that moved is not taken for what lay there."""
    async with open_store(place, SESSION) as store, stores._redis(owner) as client:
        await client.rpush(owner.redis_key(SESSION), *range(100))
        rows: Any = store_beneath(store)
        access = rows._transactions
        access._measures = False
        rows._no_scripts_until = float("inf")
        really, asked = access._at_once, []

        async def at_once(*commands: Any) -> Any:
            asked.append(commands)
            if len(asked) == 3:
                await client.lpop(owner.redis_key(SESSION), 5)  # purged from the head: every place has shifted
            return await really(*commands)

        monkeypatch.setattr(access, "_at_once", at_once)
        page = await rows.page(None, 50)
        assert isinstance(page, CutPage)
        assert [int(row.data) for row in page] == list(range(99, 99 - len(page), -1))


# -- Changes ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def rows_by_proxy(place: StoreLocation, data: list[str]) -> AsyncIterator[tuple[Any, Any]]:
    port = urlsplit(place.where).port
    assert port is not None
    async with proxy_to(port) as proxy:
        reached = replace(place, where=place.where.replace(f":{port}/", f":{proxy.port}/"))
        async with open_store(reached, SESSION) as store:
            await write_rows(place, SESSION, data)
            yield store_beneath(store), proxy


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_change_whose_reply_was_lost_is_made_once_and_reported_as_made(place: StoreLocation, moment: Moment):
    """Each of them: the note in the same transaction tells what a broken connection has not."""
    data = [json.dumps(message(str(number))) for number in range(10)]
    async with rows_by_proxy(place, data) as (rows, proxy):
        page = await rows.page(None, 10)
        proxy.cut(moment, b"RPOP")
        assert await rows.remove(page[:1], page[0])
        proxy.cut(moment, b"LSET")
        assert await rows.remove([page[1], page[3]], page[1])
        proxy.cut(moment, b"LSET")
        assert await rows.remove_any([page[9], page[8], page[0]]) == 2
        left = (await rows.page(None, 10))[::-1]
        proxy.cut(moment, b"RPUSH")
        assert await rows.replace_tail(left[-2:], [message("new")])
        proxy.cut(moment, b"DEL")
        assert await rows.replace_tail((await rows.page(None, 10))[::-1], [message("last")])
        assert proxy.cuts == 5
    assert as_json(await raw_rows(place, SESSION)) == [message("last")]


async def test_a_change_is_known_by_its_number_whichever_way_it_is_asked_for_again(
    place: StoreLocation, owner: StoreLocation
):
    """A script's reply is lost, and meanwhile the right to run one: the transaction finds the script's note."""
    await write_rows(owner, SESSION, ["0", "1", "2", "3"])
    async with open_store(owner, SESSION) as store:
        rows: Any = store_beneath(store)
        page = await rows.page(None, 4)
        for first, second in ((rows._scripts, rows._transactions), (rows._transactions, rows._scripts)):
            number = f"{id(first):032x}"
            newest = (await rows.page(None, 1))[0]
            assert (await first.remove(number, newest.data, [newest])).done
            assert (await second.remove(number, newest.data, [newest])).done
            assert await second.remove_any(number, page) == 1
            assert await second.replace_tail(number, [b"?"], ["x"])
        assert await raw_rows(place, SESSION) == ["0", "1"]


async def test_which_of_some_rows_was_removed_is_known_whichever_way_it_is_asked_for_again(
    place: StoreLocation, owner: StoreLocation
):
    await write_rows(owner, SESSION, ["0", "1", "2", "3"])
    async with open_store(owner, SESSION) as store:
        rows: Any = store_beneath(store)
        for first, second in ((rows._scripts, rows._transactions), (rows._transactions, rows._scripts)):
            number = f"{id(first):032x}"
            page = await rows.page(None, 3)
            if first is rows._scripts:  # then a popper has taken the newest; a transaction removes that alone
                assert await rows.remove([page[0]], page[0])
            removed, _ = await first.remove_one_of(number, page, 2)
            again, _ = await second.remove_one_of(number, page, 2)
            assert again == removed >= 0
            assert removed not in [row.id for row in await rows.page(None, 4)]
        assert await raw_rows(place, SESSION) == ["0"]


async def test_a_time_to_live_stays_what_it_was(place: StoreLocation, owner: StoreLocation):
    await write_rows(place, SESSION, ["0", "1"])
    async with open_store(place, SESSION) as store, stores._redis(owner) as client:
        await client.expire(owner.redis_key(SESSION), 500)
        rows: Any = store_beneath(store)
        everything = (await rows.page(None, 10))[::-1]
        assert await rows.replace_tail(everything, [message("x")])
        assert 490 < await client.ttl(owner.redis_key(SESSION)) <= 500


@pytest.mark.parametrize("ways", ["without", "mixed"])
async def test_poppers_adders_and_a_purge_share_a_list_without_scripts(
    place: StoreLocation, owner: StoreLocation, sealer: Sealer, ways: str
):
    """No item comes twice, none is lost, and what expired goes, whoever may run scripts and whoever may not."""
    await write_rows(owner, SESSION, [sealer.expired() for _ in range(40)])
    other = owner if ways == "mixed" else place
    added: list[str] = []
    popped: list[str] = []
    done = asyncio.Event()

    async def add(number: int, where: StoreLocation) -> None:
        async with sealer.session(where) as session:
            for item in range(40):
                await session.add_items([message(f"{number}/{item}")])
                added.append(f"{number}/{item}")

    async def pop(where: StoreLocation) -> None:
        async with sealer.session(where) as session:
            while not done.is_set() or await session.get_items(1):
                item = await session.pop_item()
                if item is not None:
                    popped.extend(texts([item]))
                await asyncio.sleep(0)

    async def purge() -> int:
        async with sealer.session(place) as session:
            return await session.purge_expired()

    async def adders() -> None:
        await asyncio.gather(add(0, place), add(1, other), add(2, place))
        done.set()

    await asyncio.gather(adders(), purge(), pop(place), pop(other), pop(place), pop(other))
    assert sorted(popped) == sorted(added)
    assert await raw_rows(owner, SESSION) == []


@pytest.mark.parametrize("kind", ["redis", REDIS_WITHOUT_EVAL])
async def test_sixteen_poppers_in_one_process_get_every_item_once(
    kind: str, request: pytest.FixtureRequest, sealer: Sealer
):
    place = new_place(kind, request)
    await write_rows(place, SESSION, [sealer.ok(str(number)) for number in range(300)])

    async def pop_all() -> list[int]:
        async with sealer.session(place) as session:
            popped = []
            while (item := await session.pop_item()) is not None:
                popped.append(int(texts([item])[0]))
            return popped

    found = await asyncio.gather(*[pop_all() for _ in range(16)])
    assert sorted(number for popped in found for number in popped) == list(range(300))
    assert all(popped == sorted(popped, reverse=True) for popped in found)


# -- Which rights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False], ids=["with EVAL", "without EVAL"])
async def test_the_rights_that_the_docs_list_are_enough(
    request: pytest.FixtureRequest, place: StoreLocation, owner: StoreLocation, sealer: Sealer, scripts: bool
):
    keys = f"~{place.prefix}:*"
    user = of_user(place, request, keys, "+@connection", *SDK, *READING, *CHANGING, *(SCRIPTS if scripts else ()))
    async with sealer.session(user, purge_on_add=2) as session:
        await write_rows(owner, SESSION, [sealer.expired(), sealer.expired(), sealer.expired()])
        await session.add_items([message(str(number)) for number in range(20)])
        assert len(await session.get_items()) == 20
        assert await session.pop_item() == message("19")
        assert await session.purge_expired() == 1
        assert await session._atomic_replace_items([message("summary")])
        assert await session.get_items() == [message("summary")]
        await session.clear_session()


@pytest.mark.parametrize("scripts", [True, False], ids=["with EVAL", "without EVAL"])
@pytest.mark.parametrize("missing", READING)
async def test_a_user_who_may_not_read_is_told_which_right_is_missing(
    request: pytest.FixtureRequest,
    place: StoreLocation,
    owner: StoreLocation,
    sealer: Sealer,
    scripts: bool,
    missing: str,
):
    await write_rows(owner, SESSION, [sealer.ok("one")])
    rights = [right for right in (*READING, *CHANGING) if right != missing]
    user = of_user(place, request, "~*", "+@connection", *SDK, *rights, *(SCRIPTS if scripts else ()))
    async with sealer.session(user) as session:
        for use in (session.get_items, session.pop_item):
            with pytest.raises(
                StoreError, match=f"may not run {missing[1:].upper()}: ACL SETUSER ... \\{missing}"
            ) as caught:
                await use()
            assert isinstance(caught.value, redis.exceptions.NoPermissionError)
            assert (caught.value.__cause__, caught.value.__context__) == (None, None)
            assert SESSION not in str(caught.value)
    assert len(await raw_rows(owner, SESSION)) == 1


@pytest.mark.parametrize("scripts", [True, False], ids=["with EVAL", "without EVAL"])
@pytest.mark.parametrize("missing", ["+lset", "+lrem", "+ltrim", "+rpush", "+pexpire", "+set", "+multi"])
async def test_a_right_that_is_missing_for_a_change_leaves_everything_as_it_was(
    request: pytest.FixtureRequest, place: StoreLocation, owner: StoreLocation, scripts: bool, missing: str
):
    """Also where the script, or the transaction, had begun: rows are never left half-changed."""
    await write_rows(owner, SESSION, ["0", "1", "2", "3"])
    async with stores._redis(owner) as client:
        await client.expire(owner.redis_key(SESSION), 500)
    rights = [right for right in (*SDK, *READING, *CHANGING) if right != missing]
    user = of_user(place, request, "~*", "+@connection", *rights, *(SCRIPTS if scripts else ()))
    async with open_store(user, SESSION) as store:
        rows: Any = store_beneath(store)
        if missing == "+multi" and not scripts:
            assert "neither EVAL nor MULTI" in str(await what_is_said(lambda: rows.page(None, 4)))
            return
        page = await rows.page(None, 4)
        changes = (
            lambda: rows.remove([page[0], page[2]], page[0]),
            lambda: rows.remove_any([page[3], page[1]]),
            lambda: rows.replace_tail(page[1::-1], [message("x")]),
        )
        for change in changes:
            before = await raw_rows(owner, SESSION)
            said = await what_is_said(change)
            if said is not None:
                assert f"may not run {missing[1:].upper()}" in said
                assert await raw_rows(owner, SESSION) == before


async def what_is_said(use: Callable[[], Awaitable[object]]) -> str | None:
    """The words of a StoreError; None where there is none."""
    try:
        await use()
    except StoreError as error:
        return str(error)
    return None


async def test_keys_outside_of_the_users_pattern_are_named_as_such(
    request: pytest.FixtureRequest, place: StoreLocation, sealer: Sealer
):
    for rights in (("~other:*", "+@all"), ("~other:*", "+@all", "-@scripting")):
        async with sealer.session(of_user(place, request, *rights)) as session:
            with pytest.raises(StoreError, match=r"may not use its keys.*~PREFIX:\*"):
                await session.get_items()


async def test_a_right_that_comes_later_is_used(
    place: StoreLocation, owner: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redis_rows, "_TRY_SCRIPTS_AGAIN_S", 0.0)
    name = urlsplit(place.where).username
    assert name is not None
    async with sealer.session(place) as session:
        await session.add_items([message("one"), message("two"), message("three")])
        assert await session.pop_item() == message("three")
        set_redis_rights(owner.where, name, "~*", "+@all", "-watch")
        assert await session.pop_item() == message("two")  # by a script: WATCH is forbidden now
        set_redis_rights(owner.where, name, *WITHOUT_EVAL)
        assert await session.pop_item() == message("one")


class RenamedServer(RedisServer):
    """As some hosts have it: EVAL is no command there."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--rename-command", "EVAL", ""]


async def test_a_server_that_knows_no_eval_is_one_without_scripts(redis_url: str, sealer: Sealer):
    with RenamedServer() as server:
        async with sealer.session(StoreLocation("redis", server.url, "t")) as session:
            await session.add_items([message("one"), message("two")])
            assert await session.pop_item() == message("two")
            assert await session.get_items() == [message("one")]


# -- A cluster --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["plain:user:messages", "{tenant}:user:messages", "a{b:m", "a}b:m", "a{}b:m", "}{", "{a"]
)
def test_the_note_of_a_change_lies_where_its_list_lies(key: str):
    name = key.encode()
    notes = {note_of(name, f"{number:032x}") for number in range(20)}
    assert len(notes) == 20
    assert {key_slot(note) for note in notes} == {key_slot(name)}
    assert all(note.startswith(name + b":change:") for note in notes)
    assert note_of(name, "1") == note_of(name, "1")


class ClusterServer(RedisServer):
    def _command(self) -> list[str]:
        return [*super()._command(), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]


async def test_on_a_cluster_scripts_read_pop_and_purge(redis_url: str, sealer: Sealer):
    """The SDK adds nothing there; what it reads and removes, this library does too."""
    with ClusterServer() as server:
        with redis.Redis.from_url(server.url) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in node.execute_command("CLUSTER", "INFO"):  # noqa: ASYNC110 - it gives no word
                await asyncio.sleep(0.05)
            set_redis_rights(server.url, "app", *WITHOUT_EVAL)
        client = RedisCluster.from_url(server.url)
        bare = RedisSession(SESSION, redis_client=client, key_prefix="t")  # type: ignore[arg-type]
        session = EncryptedSession.wrap(bare, sealer.ring, ttl=TTL)
        try:
            rows = [sealer.expired(), sealer.ok("one"), sealer.ok("two")]
            await client.rpush(f"t:{SESSION}:messages", *rows)  # type: ignore[misc]
            assert texts(await session.get_items()) == ["one", "two"]
            assert await session.pop_item() == message("two")
            assert await session.purge_expired() == 1
            assert texts(await session.get_items()) == ["one"]
        finally:
            await client.aclose()
        client = RedisCluster.from_url(server.url.replace("redis://", "redis://app:app@"))
        bare = RedisSession(SESSION, redis_client=client, key_prefix="t")  # type: ignore[arg-type]
        try:
            with pytest.raises(StoreError, match=r"on a cluster, .* only with scripts.*\+eval"):
                await EncryptedSession.wrap(bare, sealer.ring, ttl=TTL).get_items()
        finally:
            await client.aclose()

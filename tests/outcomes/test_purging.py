"""purge_expired and purge_on_add: what is authentic and expired goes, wherever it lies, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Key, KeyRing, KeyUnavailableError
from encrypted_sessions.errors import PurgeRefusedError
from encrypted_sessions.stores.rows import RowStore
from encrypted_sessions_tests.bulk_rows import counting, texts, write_rows
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys
from encrypted_sessions_tests.sealed_rows import AGE, OUTCOMES, SESSION, TTL, Sealer, message
from encrypted_sessions_tests.soak import distinct
from encrypted_sessions_tests.stores import (
    KINDS,
    ROW_ADDRESSABLE,
    StoreLocation,
    everything_at_rest,
    new_place,
    open_store,
    raw_rows,
    replace_raw_row,
)

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
LAST = {"role": "assistant", "content": "last"}

#: Rows that SQLAlchemySession reads for its own book-keeping when it adds, and when it locks.
_OF_THE_STORES_OWN = 4

#: What stays, whatever its age says: "expired" alone goes.
STAYS = tuple(kind for kind in OUTCOMES if kind != "expired")


@pytest.fixture(params=distinct(ROW_ADDRESSABLE))
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def write(place: StoreLocation, rows: list[str]) -> None:
    async with open_store(place, SESSION):  # so that the tables are there
        await write_rows(place, SESSION, rows)


# -- purge_expired ----------------------------------------------------------------------------------


async def test_an_empty_history_has_nothing_to_purge(place: StoreLocation, sealer: Sealer):
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 0


async def test_expired_rows_go_from_anywhere_and_the_rest_stays_as_it_is(place: StoreLocation, sealer: Sealer):
    rows = [
        sealer.expired(),
        sealer.ok("one"),
        sealer.expired(),
        sealer.expired(),
        sealer.ok("two"),
        sealer.expired(),
    ]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 4
        assert await raw_rows(place, SESSION) == [rows[1], rows[4]]
        assert await session.purge_expired() == 0
        assert texts(await session.get_items()) == ["one", "two"]


@pytest.mark.parametrize("kind", STAYS)
async def test_what_is_not_authentic_and_expired_stays_at_the_head_in_the_midst_and_at_the_tail(
    place: StoreLocation, sealer: Sealer, kind: str
):
    odd = [sealer.of(kind) for _ in range(3)]
    rows = [odd[0], sealer.expired(), sealer.ok("one"), odd[1], sealer.expired(), sealer.expired(), odd[2]]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 3
    assert await raw_rows(place, SESSION) == [odd[0], rows[2], odd[1], odd[2]]


async def test_rows_of_an_older_key_go_and_sealed_bytes_that_are_no_item_too(place: StoreLocation, sealer: Sealer):
    rows = [
        sealer.row(message("old"), sealer.older, age=AGE),
        json.dumps(sealer.around(b"[1,2]", age=AGE)),
        sealer.ok("one"),
    ]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert (await session.read()).outcomes == {"ok": 1, "expired": 2}
        assert await session.purge_expired() == 2
    assert await raw_rows(place, SESSION) == rows[2:]


async def test_what_expired_goes_also_where_its_key_had_stopped_writing(place: StoreLocation, sealer: Sealer):
    """Time comes before `late_key`: an expired call too is known as one, and stays while its output is in time."""
    until = datetime.now(timezone.utc) - timedelta(seconds=AGE + 1_000)
    rotated = Key("rotated", Key.generate().secret, written_until=until)
    ring = KeyRing(ScriptedKeys(sealer.active, rotated))
    rows = [
        sealer.row(message("late and expired"), rotated, age=AGE),
        sealer.row(CALL, rotated, age=AGE),
        sealer.row(message("late"), rotated),
        sealer.row(OUTPUT),
    ]
    await write(place, rows)
    async with open_store(place, SESSION) as store:
        session = EncryptedSession.wrap(store, ring, ttl=TTL)
        assert await session.purge_expired() == 1
        assert await raw_rows(place, SESSION) == rows[1:]
        await session._purge_head()
        assert await raw_rows(place, SESSION) == rows[1:]
    ring.close()


async def test_rows_of_the_sdk_that_were_stamped_too_late_are_not_purged(place: StoreLocation, sealer: Sealer):
    """They are unauthentic for whoever reads, and what is not authentic stays."""
    string = Key.generate().reveal_base64()
    upstream = Key(None, base64.urlsafe_b64decode(string))
    rows = [
        json.dumps({**sealer.envelope(message(str(age)), upstream, age=age), "kid": "hkdf-v1"})
        for age in (AGE, 2 * AGE)
    ]
    await write(place, rows)
    until = datetime.now(timezone.utc) - timedelta(seconds=AGE + 1_000)
    async with open_store(place, SESSION) as store:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, upstream_key=string, upstream_until=until)
        assert (await session.read()).outcomes == {"ok": 0, "unauthentic": 1, "expired": 1}
        assert await session.purge_expired() == 1
        assert await raw_rows(place, SESSION) == rows[:1]


@pytest.mark.parametrize("count", [255, 256, 257, 513])
async def test_a_history_longer_than_a_page_is_purged_whole(place: StoreLocation, sealer: Sealer, count: int):
    await write(place, [*[sealer.expired()] * count, sealer.ok("one")])
    async with sealer.session(place) as session:
        assert await session.purge_expired() == count
        assert texts(await session.get_items()) == ["one"]
    await write(place, [*[sealer.expired()] * count])
    async with sealer.session(place) as session:
        assert await session.purge_expired() == count
        assert texts(await session.get_items()) == ["one"]


async def test_a_long_mixture_is_purged_whole(place: StoreLocation, sealer: Sealer):
    kept = [sealer.of("erased"), sealer.of("unauthentic, and old"), sealer.ok("one")]
    rows = [row for number in range(260) for row in (kept[number % 3], sealer.expired(str(number)))]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 260
    assert await raw_rows(place, SESSION) == rows[::2]


async def test_without_a_ttl_nothing_is_expired(place: StoreLocation, sealer: Sealer):
    rows = [sealer.expired(), sealer.ok("one")]
    await write(place, rows)
    async with sealer.session(place, ttl=None) as session:
        assert await session.purge_expired() == 0
    assert await raw_rows(place, SESSION) == rows


async def test_another_sessions_rows_are_not_touched(place: StoreLocation, sealer: Sealer):
    neighbour = Sealer("user-2")
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.expired()])
        await write_rows(place, "user-2", [neighbour.expired(), sealer.expired()])
        theirs = await raw_rows(place, "user-2")
        assert await session.purge_expired() == 1
    assert await raw_rows(place, "user-2") == theirs
    neighbour.ring.close()


async def test_a_provider_that_cannot_answer_raises_and_nothing_is_removed(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(message("old"), sealer.older, age=AGE), sealer.ok("one")]
    await write(place, rows)
    sealer.provider.fail("older", KeyUnavailableError)
    async with sealer.session(place) as session:
        with pytest.raises(KeyUnavailableError):
            await session.purge_expired()
    assert await raw_rows(place, SESSION) == rows


# -- Pairs ------------------------------------------------------------------------------------------


async def test_an_expired_call_stays_while_its_output_is_in_time(place: StoreLocation, sealer: Sealer):
    """Without it the output would come back alone, and a model would refuse the history."""
    rows = [sealer.expired(), sealer.row(CALL, age=AGE), sealer.expired(), sealer.row(OUTPUT), sealer.row(LAST)]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert await session.get_items() == [LAST]
        assert await session.purge_expired() == 2
        assert await raw_rows(place, SESSION) == [rows[1], *rows[3:]]
        assert await session.get_items() == [LAST]


async def test_a_call_and_an_output_that_both_expired_go(place: StoreLocation, sealer: Sealer):
    await write(place, [sealer.row(CALL, age=AGE), sealer.row(OUTPUT, age=AGE), sealer.row(LAST)])
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 2
        assert await session.get_items() == [LAST]


async def test_an_expired_call_that_nothing_answers_goes(place: StoreLocation, sealer: Sealer):
    await write(place, [sealer.row(CALL, age=AGE), sealer.row(LAST)])
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 1


async def test_a_call_stays_for_an_output_that_is_many_pages_away(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(CALL, age=AGE), *[sealer.expired()] * 600, *[sealer.ok("x")] * 300, sealer.row(OUTPUT)]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 600
        assert await session.get_items() == [message("x")] * 300
        assert (await raw_rows(place, SESSION))[0] == rows[0]


@pytest.mark.parametrize(("key", "stays"), [("disabled", True), ("unknown", True), ("destroyed", False)])
async def test_a_call_stays_for_a_row_that_may_be_read_one_day_and_answer_it(
    place: StoreLocation, sealer: Sealer, key: str, stays: bool
):
    rows = [sealer.expired(), sealer.row(CALL, age=AGE), sealer.row(OUTPUT, getattr(sealer, key)), sealer.row(LAST)]
    await write(place, rows)
    async with sealer.session(place) as session:
        assert await session.purge_expired() == 2 - stays
        assert await raw_rows(place, SESSION) == (rows[1:] if stays else rows[2:])


# -- Others at work ---------------------------------------------------------------------------------


async def test_purging_and_popping_and_adding_at_once_lose_no_item_and_give_none_twice(
    place: StoreLocation, sealer: Sealer
):
    rows = [row for number in range(150) for row in (sealer.expired(), sealer.expired(), sealer.ok(str(number)))]
    await write(place, rows)
    async with contextlib.AsyncExitStack() as stack:
        popper, adder, *purgers = [await stack.enter_async_context(sealer.session(place)) for _ in range(4)]

        async def pop() -> list[Any]:
            return [await popper.pop_item() for _ in range(60)]

        async def add() -> None:
            for number in range(1000, 1040):
                await adder.add_items([message(str(number))])

        popped, _, *purged = await asyncio.gather(pop(), add(), *(purger.purge_expired() for purger in purgers))
        await purgers[0].purge_expired()
        left = texts(await popper.get_items())
        assert sorted(texts(popped) + left, key=int) == sorted(
            [str(number) for number in (*range(150), *range(1000, 1040))], key=int
        )
        assert sorted(left, key=int) == left
        assert sum(purged) <= 300
    assert len(await raw_rows(place, SESSION)) == len(left)


async def test_a_row_that_changed_after_it_was_judged_keeps_its_new_state(
    place: StoreLocation, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    await write(place, [sealer.expired(), sealer.expired(), sealer.ok("one")])
    new = sealer.ok("new")
    async with sealer.session(place) as session:
        remove_any = type(session._sealed.rows).remove_any

        async def meanwhile(self: RowStore, rows: Any) -> int:
            await replace_raw_row(place, SESSION, 0, new)
            return await remove_any(self, rows)

        monkeypatch.setattr(type(session._sealed.rows), "remove_any", meanwhile)
        assert await session.purge_expired() == 1
    left = await raw_rows(place, SESSION)
    assert (left[0], len(left)) == (new, 2)


async def test_a_cancelled_purge_has_removed_whole_pages_or_nothing(place: StoreLocation, sealer: Sealer):
    await write(place, [*[sealer.expired()] * 700, sealer.ok("one")])
    async with sealer.session(place) as session:
        for turns in (0, 3, 10, 40):
            task = asyncio.ensure_future(session.purge_expired())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert texts(await session.get_items()) == ["one"]
        await session.purge_expired()
    assert len(await raw_rows(place, SESSION)) == 1


# -- purge_on_add -----------------------------------------------------------------------------------


async def test_each_add_removes_so_many_of_the_oldest_expired_rows(place: StoreLocation, sealer: Sealer):
    rows = [sealer.expired(str(number)) for number in range(5)]
    await write(place, [*rows, sealer.ok("one")])
    async with sealer.session(place, purge_on_add=2) as session:
        await session.add_items([message("two")])
        assert (await raw_rows(place, SESSION))[:3] == rows[2:]
        await session.add_items([message("three")])
        assert (await raw_rows(place, SESSION))[0] == rows[4]
        await session.add_items([message("four")])
        await session.add_items([message("five")])
        assert texts(await session.get_items()) == ["one", "two", "three", "four", "five"]
    assert len(await raw_rows(place, SESSION)) == 5


@pytest.mark.parametrize("kind", STAYS)
async def test_an_add_removes_nothing_but_what_is_authentic_and_expired(
    place: StoreLocation, sealer: Sealer, kind: str
):
    rows = [sealer.of(kind), sealer.expired(), sealer.of(kind)]
    await write(place, rows)
    async with sealer.session(place, purge_on_add=10) as session:
        await session.add_items([message("new")])
    assert (await raw_rows(place, SESSION))[:-1] == [rows[0], rows[2]]


async def test_an_add_costs_one_read_of_a_few_rows_however_long_the_history_is(place: StoreLocation, sealer: Sealer):
    await write(place, [*[sealer.expired()] * 40, *[sealer.ok("one")] * 500])
    async with open_store(place, SESSION) as store, counting(place, store) as fetched:
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, purge_on_add=3)
        await session.add_items([message("two")])
        assert 32 <= fetched.rows <= 32 + _OF_THE_STORES_OWN
    assert len(await raw_rows(place, SESSION)) == 538


async def test_an_add_leaves_a_call_whose_output_it_does_not_see(place: StoreLocation, sealer: Sealer):
    rows = [sealer.row(CALL, age=AGE), sealer.expired(), sealer.row(OUTPUT), sealer.row(LAST)]
    await write(place, rows)
    async with sealer.session(place, purge_on_add=10) as session:
        await session.add_items([message("new")])
        assert await session.get_items() == [LAST, message("new")]
        assert (await raw_rows(place, SESSION))[:3] == [rows[0], *rows[2:]]


async def test_an_add_removes_a_call_with_its_output(place: StoreLocation, sealer: Sealer):
    await write(place, [sealer.row(CALL, age=AGE), sealer.row(OUTPUT, age=AGE)])
    async with sealer.session(place, purge_on_add=10) as session:
        await session.add_items([message("new")])
    assert len(await raw_rows(place, SESSION)) == 1


async def test_an_add_never_fails_for_its_purge_and_tries_again_later(
    place: StoreLocation, sealer: Sealer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    rows = [sealer.row(message("old"), sealer.older, age=AGE)]
    await write(place, rows)
    sealer.provider.fail("older", KeyUnavailableError)
    async with sealer.session(place, purge_on_add=5) as session:
        with caplog.at_level(logging.WARNING, logger="encrypted_sessions"):
            for _ in range(3):
                await session.add_items([message("new")])
        told = [record.getMessage() for record in caplog.records if record.name == "encrypted_sessions"]
        (warning,) = told
        assert warning == (
            "purge_on_add removed no expired rows (KeyUnavailableError); the items were added. The next attempt is"
            " made in 60 s"
        )
        assert len(await raw_rows(place, SESSION)) == 4
        sealer.provider.work("older")
        session._purge_again_at = 0.0
        await session.add_items([message("new")])
    assert len(await raw_rows(place, SESSION)) == 4


async def test_an_add_that_fails_purges_nothing(place: StoreLocation, sealer: Sealer):
    rows = [sealer.expired()]
    await write(place, rows)
    async with sealer.session(place, purge_on_add=5) as session:
        with pytest.raises(TypeError):
            await session.add_items([{"role": "user", "content": object()}])  # type: ignore[typeddict-item]
    assert await raw_rows(place, SESSION) == rows


# -- Deleted means gone -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sqlite", "async-sqlite", "sqlalchemy-sqlite"], indirect=True)
@pytest.mark.parametrize("how", ["purge_expired", "purge_on_add"])
async def test_sqlite_overwrites_what_was_purged(place: StoreLocation, sealer: Sealer, how: str):
    rows = [sealer.expired(str(number)) for number in range(20)]
    tokens = [json.loads(row)["payload"][30:60].encode() for row in rows]
    await write(place, rows)
    at_rest = await everything_at_rest(place)
    assert all(token in at_rest for token in tokens)
    async with sealer.session(place, purge_on_add=20) as session:
        if how == "purge_expired":
            await session.purge_expired()
        else:
            await session.add_items([message("new")])
    with contextlib.closing(sqlite3.connect(place.where)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    at_rest = await everything_at_rest(place)
    assert not [token for token in tokens if token in at_rest]


# -- Stores without addressable rows ----------------------------------------------------------------


@pytest.fixture(params=[kind for kind in KINDS if kind not in ROW_ADDRESSABLE])
def other(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place(request.param, request)


async def test_another_store_without_expired_rows_has_nothing_to_purge(other: StoreLocation, sealer: Sealer):
    await write(other, [sealer.ok("one"), sealer.of("unauthentic")])
    async with sealer.session(other) as session:
        assert await session.purge_expired() == 0
    async with sealer.session(other, ttl=None) as session:
        assert await session.purge_expired() == 0


async def test_another_store_with_expired_rows_refuses_and_says_why(other: StoreLocation, sealer: Sealer):
    rows = [sealer.expired(), sealer.expired(), sealer.ok("one")]
    await write(other, rows)
    async with sealer.session(other) as session:
        with pytest.raises(PurgeRefusedError, match="2 expired rows are in a ") as raised:
            await session.purge_expired()
    assert "Nothing was removed; " in str(raised.value)
    assert ("encrypted-sessions purge" in str(raised.value)) == (other.kind == "advanced-sqlite")
    assert await raw_rows(other, SESSION) == rows


async def test_another_store_refuses_purge_on_add_when_it_is_wrapped(other: StoreLocation, sealer: Sealer):
    async with open_store(other, SESSION) as store:
        with pytest.raises(ValueError, match="purge_on_add needs a store that can remove single rows"):
            EncryptedSession.wrap(store, sealer.ring, ttl=TTL, purge_on_add=1)
        EncryptedSession.wrap(store, sealer.ring, ttl=TTL, purge_on_add=0)


@contextlib.asynccontextmanager
async def in_memory(kind: str) -> AsyncIterator[Any]:
    from agents import SQLiteSession
    from agents.extensions.memory import AsyncSQLiteSession

    if kind == "sqlite":
        store = SQLiteSession(SESSION)
        yield store
        store.close()
    else:
        async_store = AsyncSQLiteSession(SESSION)
        yield async_store
        await async_store.close()


@pytest.mark.parametrize("kind", ["sqlite", "async-sqlite"])
async def test_a_sqlite_database_in_memory_is_purged_like_a_file(kind: str, sealer: Sealer):
    async with in_memory(kind) as store:
        await store.add_items([sealer.envelope(message("old"), age=AGE), sealer.envelope(message("one"))])
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, purge_on_add=1)
        assert await session.purge_expired() == 1
        await store.add_items([sealer.envelope(message("old"), age=AGE)])
        await session.pop_item()
        await store.add_items([sealer.envelope(message("old"), age=AGE)])
        await session.add_items([message("two")])
        assert len(await store.get_items()) == 1


def test_a_release_of_the_sdk_without_the_rows_access_only_purges_nothing(
    sealer: Sealer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    from agents import SQLiteSession

    from encrypted_sessions.stores.sqlite.rows import SQLiteRows

    monkeypatch.setattr(SQLiteRows, "NEEDS", ("_no_such_thing",))
    store = SQLiteSession(SESSION, tmp_path / "a.db")
    with pytest.warns(RuntimeWarning, match="expired rows cannot be purged"):
        session = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, purge_on_add=1)

    async def add_and_purge() -> None:
        await store.add_items([sealer.envelope(message("old"), age=AGE)])  # type: ignore[list-item]
        await session.add_items([message("one")])
        with pytest.raises(PurgeRefusedError):
            await session.purge_expired()

    asyncio.run(add_and_purge())
    store.close()

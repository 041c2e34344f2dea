"""Real servers that follow real servers: who lags is named before a key is destroyed, and what that saves one from."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from encrypted_sessions import Key
from encrypted_sessions.errors import StoreUnavailableError
from encrypted_sessions.maintenance import erase, inventory, reencrypt, verify
from encrypted_sessions.maintenance.reports import Report
from encrypted_sessions_tests.databases import new_postgres_database
from encrypted_sessions_tests.envelopes import kid_of
from encrypted_sessions_tests.maintenance_command import filled, report_of, run, start
from encrypted_sessions_tests.replicas import (
    OF_A_PRIMARY,
    PostgresStandby,
    RedisPrimary,
    RedisReplica,
    as_superuser,
    until,
)
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.servers import PostgresServer
from encrypted_sessions_tests.stores import StoreLocation, raw_rows, set_redis_rights
from encrypted_sessions_tests.whole_stores import whole

FREE = "Nothing in this store depends on any key but"


def one_line(text: str) -> str:
    return " ".join(text.split())


def rows_at(place: StoreLocation) -> list[str]:
    return [str(row) for row in asyncio.run(raw_rows(place, SESSION))]


def kids_at(place: StoreLocation) -> set[str | None]:
    return {kid_of(row.encode()) for row in rows_at(place)}


def under_the_older_key(place: StoreLocation, sealer: Sealer) -> None:
    filled(place, {SESSION: [sealer.row(message(str(number)), sealer.older) for number in range(3)]})


# -- PostgreSQL ---------------------------------------------------------------------------------------


NewServer = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def primary(new_server: NewServer) -> Iterator[PostgresServer]:
    with new_server(PostgresServer, OF_A_PRIMARY) as server:
        yield server


@pytest.fixture(scope="module")
def lasting_standby(primary: PostgresServer, new_server: NewServer) -> Iterator[PostgresStandby]:
    with new_server(PostgresStandby, primary, "node_2") as server:
        yield server


@pytest.fixture
def standby(lasting_standby: PostgresStandby) -> Iterator[PostgresStandby]:
    """One that replays all there is, as long as it is let."""
    yield lasting_standby
    lasting_standby.resume_replay()


@pytest.fixture
def place(primary: PostgresServer) -> StoreLocation:
    return place_at(primary)


def place_at(server: PostgresServer) -> StoreLocation:
    return StoreLocation("sqlalchemy-postgres", server.url, f"t{uuid.uuid4().hex[:12]}")


def at_the(server: PostgresServer, place: StoreLocation) -> StoreLocation:
    return StoreLocation(place.kind, server.url, place.prefix)


def rows_if_any(place: StoreLocation) -> list[str]:
    """What has come to a standby; its tables may not have."""
    try:
        return rows_at(place)
    except Exception as error:
        if "does not exist" in str(error):
            return []
        raise


async def test_a_standby_that_catches_up_within_the_wait_is_waited_for(
    place: StoreLocation, standby: PostgresStandby, sealer: Sealer
):
    await asyncio.to_thread(under_the_older_key, place, sealer)
    standby.pause_replay()
    async with whole(place) as store:
        running = asyncio.ensure_future(reencrypt(store, sealer.ring))
        await moved(place, sealer)
        assert not (await asyncio.wait({running}, timeout=0.3))[0]
        standby.resume_replay()
        report = await running
        assert (report.ok, [replica.name for replica in report.replicas]) == (True, ["the standby node_2 at 127.0.0.1"])
        counted = await inventory(store, sealer.ring)
    assert counted.ok
    assert f"{FREE} {sealer.active.kid}" in counted.conclusion
    assert await raw_rows(at_the(standby, place), SESSION) == await raw_rows(place, SESSION)


async def moved(place: StoreLocation, sealer: Sealer) -> None:
    """Wait until every row is under the active key."""
    while {kid_of(str(row).encode()) for row in await raw_rows(place, SESSION)} != {sealer.active.kid}:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.02)


def test_a_signal_while_it_waits_ends_it_within_a_second(
    place: StoreLocation, standby: PostgresStandby, sealer: Sealer
):
    under_the_older_key(place, sealer)
    standby.pause_replay()
    process = start(place, sealer, "reencrypt", "--json")
    asyncio.run(moved(place, sealer))
    told_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=30)
    assert time.monotonic() - told_at < 3, "a second, and the end of a process"
    report = json.loads(stdout.splitlines()[-1])
    assert (process.returncode, report["stopped"], report["changed"]) == (3, "interrupted", 3)
    assert [replica["replayed"] for replica in report["replicas"]] == [False]


def test_a_role_that_may_not_look_is_told_so_and_it_is_no_failure(
    place: StoreLocation, primary: PostgresServer, standby: PostgresStandby, sealer: Sealer
):
    under_the_older_key(place, sealer)
    standby.pause_replay()
    user = urlsplit(primary.url)
    url = primary.url.replace(f"{user.username}:{user.password}@", "modest:modest@")
    modest = StoreLocation(place.kind, url, place.prefix)
    with as_superuser(primary) as execute:
        execute("CREATE ROLE modest LOGIN PASSWORD 'modest'")
        execute(f"GRANT SELECT, UPDATE, DELETE ON {place.messages_table}, {place.sessions_table} TO modest")
        try:
            result = run(modest, sealer, "reencrypt")
            assert result.exit_code == 0, result.stdout
            note = "Note: 1 server is connected for replication, and how far it is could not be seen"
            assert f"{note}: this role may not look. Let its role look (GRANT pg_monitor" in one_line(result.stdout)
            told = report_of(run(modest, sealer, "inventory", "--json"))
            assert (told["ok"], told["replicas"]) == (True, [])
            assert told["replicas_unseen"].startswith("1 server is connected")
            assert "Whether each replica has the same state could not be checked" in told["conclusion"]
            execute("GRANT pg_monitor TO modest")
            assert run(modest, sealer, "inventory", "--replica-wait", "0s").exit_code == 1
            execute("REVOKE pg_monitor FROM modest")
            # As where somebody has hardened the server, or where it is none of PostgreSQL's.
            execute("REVOKE SELECT ON pg_stat_replication FROM PUBLIC")
            told = report_of(run(modest, sealer, "inventory", "--json"))
            assert told["ok"]
            assert "permission denied for view pg_stat_replication" in told["replicas_unseen"]
            assert "GRANT pg_monitor" in told["replicas_unseen"]
        finally:
            execute("GRANT SELECT ON pg_stat_replication TO PUBLIC")
            execute("DROP OWNED BY modest")
            execute("DROP ROLE modest")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_a_slot_is_a_standby_that_is_not_connected(
    place: StoreLocation, primary: PostgresServer, sealer: Sealer, driver: str
):
    under_the_older_key(place, sealer)
    place = StoreLocation(place.kind, place.where.replace("+asyncpg", f"+{driver}"), place.prefix)
    with as_superuser(primary) as execute:
        execute("SELECT pg_create_physical_replication_slot('node_3', true)")
        try:
            result = run(place, None, "erase", "--session", SESSION, "--yes", "--replica-wait", "0s")
            assert result.exit_code == 1
            printed = one_line(result.stdout)
            assert "the standby of the replication slot node_3 (not connected) may have an older state" in printed
            assert "SELECT pg_drop_replication_slot('node_3')" in printed
        finally:
            execute("SELECT pg_drop_replication_slot('node_3')")
    assert run(place, None, "erase", "--session", SESSION, "--missing-ok", "--yes").exit_code == 0


async def test_a_subscriber_counts_where_it_takes_changes_of_this_database(
    place: StoreLocation, primary: PostgresServer, sealer: Sealer
):
    await asyncio.to_thread(under_the_older_key, place, sealer)
    with as_superuser(primary) as execute:
        execute("SELECT pg_create_logical_replication_slot('changes', 'pgoutput')")
        try:
            async with whole(place) as store:
                report = await reencrypt(store, sealer.ring, replica_wait_s=0)
                (one,) = (replica for replica in report.replicas_behind if "subscriber" in replica.name)
                assert (one.name, bool(one.missing)) == (
                    "the subscriber of the logical replication slot changes",
                    True,
                )
                running = asyncio.ensure_future(erase(store, [SESSION]))
                while not running.done():
                    execute("SELECT pg_replication_slot_advance('changes', pg_current_wal_lsn())")
                    await asyncio.sleep(0.05)
                assert (await running).ok
            other = StoreLocation(place.kind, new_postgres_database(primary.url, "another"), place.prefix)
            await asyncio.to_thread(under_the_older_key, other, sealer)
            async with whole(other) as store:
                report = await reencrypt(store, sealer.ring)
                assert (report.ok, [one.name for one in report.replicas if "subscriber" in one.name]) == (True, [])
        finally:
            execute("SELECT pg_drop_replication_slot('changes')")


def test_a_standby_itself_frees_no_key(place: StoreLocation, standby: PostgresStandby, sealer: Sealer):
    filled(place, {SESSION: [sealer.ok("one")]})
    until(lambda: len(rows_if_any(at_the(standby, place))) == 1)
    result = run(at_the(standby, place), sealer, "inventory")
    assert result.exit_code == 1
    printed = one_line(result.stdout)
    assert FREE not in printed
    assert "this server (a standby itself)" in printed
    assert run(at_the(standby, place), sealer, "verify").exit_code == 0


def test_a_stale_replica_promoted_after_rotation_was_named_before(sealer: Sealer, new_server: NewServer):
    with new_server(PostgresServer) as primary, new_server(PostgresStandby, primary, "node_2") as standby:
        place = place_at(primary)
        under_the_older_key(place, sealer)
        until(lambda: len(rows_if_any(at_the(standby, place))) == 3)
        standby.stop_receiving()
        result = run(place, sealer, "reencrypt", "--replica-wait", "0.3s")
        assert kids_at(place) == {sealer.active.kid}
        assert result.exit_code == 1
        printed = one_line(result.stdout)
        assert "Behind: the standby node_2 at 127.0.0.1 has an older state (" in printed
        assert "pg_wal_replay_resume()" in printed
        assert "Not well: 1 replica has an older state." in printed
        result = run(place, sealer, "inventory", "--replica-wait", "0s")
        assert result.exit_code == 1
        printed = one_line(result.stdout)
        assert FREE not in printed
        assert "A replica has an older state of this store, or may have one: the standby node_2 at 127.0.0.1" in printed
        assert f"{sealer.older.kid} 0 0 - now" not in printed, "nor in the table"
        told = report_of(run(place, sealer, "inventory", "--replica-wait", "0s", "--json"))
        assert (told["ok"], told["exit_code"]) == (False, 1)
        (named,) = told["replicas"]
        assert (named["name"], named["replayed"], named["missing"] > 0) == (
            "the standby node_2 at 127.0.0.1",
            False,
            True,
        )

        primary.kill()
        standby.lose_what_is_on_its_way()
        standby.promote()
        assert kids_at(at_the(standby, place)) == {sealer.older.kid}, "what was warned of"
        counted = report_of(run(at_the(standby, place), sealer, "inventory", "--json"))
        assert [use["needed_by"] for use in counted["keys"] if use["kid"] == sealer.older.kid] == [3]
        sealer.older = Key.generate("another")  # had the key been destroyed, nobody could read them any more
        assert report_of(run(at_the(standby, place), sealer, "verify", "--json"))["left"] == {"unknown_key": 3}


# -- Redis --------------------------------------------------------------------------------------------


@pytest.fixture
def master(new_server: NewServer) -> Iterator[RedisPrimary]:
    with new_server(RedisPrimary) as server:
        yield server


@pytest.fixture
def replica(master: RedisPrimary, new_server: NewServer) -> Iterator[RedisReplica]:
    with new_server(RedisReplica, master) as server, redis.Redis.from_url(master.url) as client:
        until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
        yield server


@pytest.fixture
def lists(master: RedisPrimary) -> StoreLocation:
    return StoreLocation("redis", master.url, f"t{uuid.uuid4().hex[:12]}")


async def test_a_replica_of_redis_is_waited_for_and_named_where_it_lags(
    lists: StoreLocation, replica: RedisReplica, sealer: Sealer
):
    await asyncio.to_thread(under_the_older_key, lists, sealer)
    replica.pause()
    async with whole(lists) as store:
        report = await reencrypt(store, sealer.ring, replica_wait_s=0.2)
        assert not report.ok
        assert [one.name for one in report.replicas_behind] == [f"the replica 127.0.0.1:{replica.port}"]
        waiting = asyncio.ensure_future(inventory(store, sealer.ring))
        assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
        replica.resume()
        counted = await waiting
        assert (counted.ok, FREE in counted.conclusion, len(counted.replicas)) == (True, True, 1)
    follower = StoreLocation("redis", replica.url, lists.prefix)
    assert await raw_rows(follower, SESSION) == await raw_rows(lists, SESSION)
    async with whole(follower) as store:
        counted = await inventory(store, sealer.ring)
        assert (counted.ok, FREE in counted.conclusion) == (False, False)
        assert [one.name for one in counted.replicas_behind] == ["this server (a replica itself)"]
        assert (await verify(store, sealer.ring)).ok


async def test_a_user_of_redis_who_may_not_ask_is_told_which_right_it_takes(lists: StoreLocation, sealer: Sealer):
    await asyncio.to_thread(under_the_older_key, lists, sealer)
    set_redis_rights(lists.where, "modest", "~*", "+@all", "-info")
    modest = StoreLocation("redis", lists.where.replace("redis://", "redis://modest:modest@"), lists.prefix)
    async with whole(modest) as store:
        report = await inventory(store, sealer.ring)
        assert (report.ok, report.replicas) == (True, ())
        assert "+info" in str(report.replicas_unseen)


async def test_a_server_that_dies_during_the_wait_ends_the_run_in_words(
    lists: StoreLocation, master: RedisPrimary, replica: RedisReplica, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.maintenance.store_calls._RETRY_WAITS_S", (0.0, 0.0))
    await asyncio.to_thread(under_the_older_key, lists, sealer)
    replica.pause()
    async with whole(lists) as store:
        running: asyncio.Future[Report] = asyncio.ensure_future(reencrypt(store, sealer.ring))
        await moved(lists, sealer)
        master.kill()
        report = await asyncio.wait_for(running, 10)
        assert (report.ok, report.stopped, report.changed) == (False, "store", 3)
        assert "whether each replica has the same is not known" in str(report.stopped_because)
        with pytest.raises(StoreUnavailableError):
            await store.replication()


async def test_a_redis_that_was_started_anew_during_the_run_is_another_one(
    lists: StoreLocation, master: RedisPrimary, replica: RedisReplica, sealer: Sealer
):
    await asyncio.to_thread(under_the_older_key, lists, sealer)
    replica.pause()
    async with whole(lists) as store:
        running = asyncio.ensure_future(reencrypt(store, sealer.ring))
        await moved(lists, sealer)
        master.kill()
        master.start()
        report = await asyncio.wait_for(running, 10)
        assert (report.ok, report.stopped) == (False, "store")
        assert "another server answers" in str(report.stopped_because)

"""A run says that all is well only once every server that follows the store's has the same; else it names it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions.errors import StoreError, StoreUnavailableError
from encrypted_sessions.maintenance import (
    ReplicaState,
    Report,
    discard,
    encrypt_plaintext,
    erase,
    inventory,
    purge,
    reencrypt,
    verify,
)
from encrypted_sessions.stores import Replica, Replication
from encrypted_sessions.stores.sql.replicas import _end_of_records
from encrypted_sessions_tests.maintenance_command import filled, run
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation

FREE = "Nothing in this store depends on any key but"

Look = Replication | Exception | None


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encrypted_sessions.maintenance.store_calls._RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr("encrypted_sessions.maintenance.replicas._LOOK_AFTER_S", 0.001)


class FollowedStore(MemoryStore):
    """A store whose server says of its replicas what a test lets it say, look by look; the last one stays."""

    looks: list[Look]
    looked = 0

    async def replication(self) -> Replication | None:
        said = self.looks[min(self.looked, len(self.looks) - 1)]
        self.looked += 1
        if isinstance(said, Exception):
            raise said
        return said


def followed(sealer: Sealer, *looks: Look) -> FollowedStore:
    store = FollowedStore(SESSION, [sealer.row(message("one"), sealer.older), sealer.expired()])
    store.looks = list(looks)
    return store


def at(position: int | None, name: str = "node-2", *, may_catch_up: bool = True) -> Replica:
    return Replica(name, f"the standby {name}", position, "Let it catch up", may_catch_up)


def log(end: int, *replicas: Replica, name: str = "A", unseen: str | None = None) -> Replication:
    return Replication(name, end, replicas, unseen)


def behind(report: Report) -> list[str]:
    return [replica.name for replica in report.replicas_behind]


# -- Waiting, and its end -----------------------------------------------------------------------------


async def test_a_replica_that_catches_up_is_waited_for(sealer: Sealer):
    store = followed(sealer, log(5, at(5)), log(9, at(6)), log(9, at(8)), log(12, at(10)))
    report = await reencrypt(store, sealer.ring)
    assert report.ok
    assert report.replicas == (ReplicaState("the standby node-2", replayed=True, missing=None, to_do=None),)


async def test_what_is_written_after_the_run_is_not_waited_for(sealer: Sealer):
    store = followed(sealer, log(5, at(5)), log(9, at(8)), log(90, at(9)))
    assert (await reencrypt(store, sealer.ring)).ok


async def test_one_that_stays_behind_is_named_after_the_wait(sealer: Sealer):
    store = followed(sealer, log(9, at(4), at(9, "node-3")))
    began = time.monotonic()
    report = await reencrypt(store, sealer.ring, replica_wait_s=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert (report.ok, report.stopped, report.changed) == (False, None, 1)
    assert report.replicas_behind == (
        ReplicaState("the standby node-2", replayed=False, missing=5, to_do="Let it catch up"),
    )
    assert {replica.name for replica in report.replicas} == {"the standby node-2", "the standby node-3"}


async def test_a_wait_of_nothing_is_a_single_look(sealer: Sealer):
    store = followed(sealer, log(9, at(4)))
    assert not (await purge(store, sealer.ring, ttl=TTL, replica_wait_s=0)).ok
    assert store.looked == 2, "one at the beginning"


async def test_where_waiting_does_not_help_nobody_waits(sealer: Sealer):
    store = followed(sealer, Replication(replicas=[at(None, "itself", may_catch_up=False)]))
    report = await inventory(store, sealer.ring)
    assert (report.ok, store.looked, behind(report)) == (False, 2, ["the standby itself"])
    assert FREE not in report.conclusion


async def test_every_command_that_changes_rows_looks_also_when_it_changed_none(sealer: Sealer, tmp_path: Path):
    def lagging() -> FollowedStore:
        store = followed(sealer, log(9, at(4)))
        store.data = {}
        return store

    reports: list[Report] = [
        await purge(lagging(), sealer.ring, ttl=TTL, replica_wait_s=0),
        await reencrypt(lagging(), sealer.ring, replica_wait_s=0),
        await encrypt_plaintext(lagging(), sealer.ring, replica_wait_s=0),
        await discard(lagging(), sealer.ring, outcome="malformed", export=tmp_path / "x", replica_wait_s=0),
        await erase(lagging(), [SESSION], replica_wait_s=0),
        await inventory(lagging(), sealer.ring, replica_wait_s=0),
    ]
    assert [(report.ok, behind(report)) for report in reports] == [(False, ["the standby node-2"])] * 6


async def test_what_changes_and_frees_nothing_does_not_look(sealer: Sealer):
    store = followed(sealer, log(9, at(4)))
    assert (await purge(store, sealer.ring, ttl=TTL, dry_run=True)).ok
    assert (await erase(store, [SESSION], dry_run=True)).ok
    assert (await verify(store, sealer.ring)).ok
    assert (await inventory(store)).ok
    assert store.looked == 0


async def test_one_that_goes_during_the_run_is_no_less_behind(sealer: Sealer):
    store = followed(sealer, log(5, at(5)), log(9))
    report = await reencrypt(store, sealer.ring, replica_wait_s=0)
    assert behind(report) == ["the standby node-2, not connected any more"]
    store = followed(sealer, log(5), log(9, at(8)), log(9))
    assert behind(await reencrypt(store, sealer.ring, replica_wait_s=0.05)) == [
        "the standby node-2, not connected any more"
    ]
    store = followed(sealer, log(5), log(9, at(9), at(8, "node-3")), log(9, at(9, "node-3")))
    assert (await reencrypt(store, sealer.ring)).ok, "this one had it before it went"


async def test_two_of_one_name_are_two(sealer: Sealer):
    store = followed(sealer, log(9, at(9), at(4)))
    assert len((await reencrypt(store, sealer.ring, replica_wait_s=0)).replicas) == 2
    store = followed(sealer, log(9, at(9), at(4)), log(9, at(9)))
    assert len(behind(await reencrypt(store, sealer.ring, replica_wait_s=0))) == 1


# -- What an inventory says ---------------------------------------------------------------------------


async def test_no_key_is_called_free_while_a_replica_is_behind(sealer: Sealer):
    store = followed(sealer, log(5, at(5)))
    store.data = {0: sealer.ok("one").encode()}
    report = await inventory(store, sealer.ring)
    assert report.ok
    assert FREE in report.conclusion
    assert "check each backup and each replica that was not connected, by name" in report.conclusion
    store.looks = [log(9, at(5), *(at(1, f"node-{number}") for number in range(10, 17)))]
    report = await inventory(store, sealer.ring, replica_wait_s=0)
    assert not report.ok
    assert FREE not in report.conclusion
    assert report.conclusion.startswith("8 replicas have an older state of this store, or may have one: the standby")
    assert "and 3 more" in report.conclusion


async def test_where_one_may_not_look_the_report_says_that_and_it_is_no_failure(sealer: Sealer):
    for look in (log(9, unseen="this role may not look"), StoreError("the place says: no such function")):
        store = followed(sealer, look)
        report = await inventory(store, sealer.ring)
        assert report.ok
        assert report.replicas_unseen in ("this role may not look", "the place says: no such function")
        assert "Whether each replica has the same state could not be checked" in report.conclusion


async def test_nothing_is_taken_from_a_look_of_before_once_one_may_not_look_any_more(sealer: Sealer):
    report = await reencrypt(followed(sealer, log(5, at(5)), StoreError("no right")), sealer.ring)
    assert (report.ok, report.replicas, report.replicas_unseen) == (True, (), "no right")


# -- Ends of the wait ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later", [log(9, name="B"), log(3)], ids=["another server took over", "it has lost what it had"]
)
async def test_a_failover_during_the_run_is_told(sealer: Sealer, later: Replication):
    store = followed(sealer, log(5), later)
    report = await inventory(store, sealer.ring)
    assert (report.ok, report.stopped) == (False, "store")
    assert "another server answers" in str(report.stopped_because)
    assert FREE not in report.conclusion
    assert report.conclusion.startswith("The run ended before it was known whether each replica has the same state")


async def test_a_run_that_is_told_to_stop_while_it_waits_ends_at_once(sealer: Sealer):
    store, told = followed(sealer, log(9, at(4))), asyncio.Event()
    running = asyncio.ensure_future(reencrypt(store, sealer.ring, stop=told.is_set))
    while store.looked < 4:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
    told.set()
    report = await asyncio.wait_for(running, 1.0)
    assert (report.stopped, report.changed, behind(report)) == ("interrupted", 1, ["the standby node-2"])
    assert "told to stop while it waited for replicas" in str(report.stopped_because)


async def test_a_store_that_stops_answering_during_the_wait_ends_it_in_words(sealer: Sealer):
    store = followed(sealer, log(9, at(4)), log(9, at(4)), StoreUnavailableError("the place does not answer"))
    report = await inventory(store, sealer.ring)
    assert (report.ok, report.stopped) == (False, "store")
    assert str(report.stopped_because).startswith("the place does not answer; whether each replica has the same")
    assert FREE not in report.conclusion


# -- Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, True, "60", None], ids=repr)
async def test_a_wait_that_is_none_is_refused_by_every_function(sealer: Sealer, value: Any):
    store = followed(sealer, None)
    calls: list[Callable[..., Any]] = [
        lambda **options: purge(store, sealer.ring, ttl=TTL, **options),
        lambda **options: reencrypt(store, sealer.ring, **options),
        lambda **options: encrypt_plaintext(store, sealer.ring, **options),
        lambda **options: discard(store, sealer.ring, outcome="malformed", export="never made", **options),
        lambda **options: erase(store, [SESSION], **options),
        lambda **options: inventory(store, sealer.ring, **options),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"^replica_wait_s must be"):
            await call(replica_wait_s=value)
    assert store.looked == 0


@pytest.mark.parametrize("text", ["-5s", "inf", "nan", "5 days", "", "1e3", "s", "٣s"])
def test_the_command_takes_times_that_one_can_read(file: StoreLocation, sealer: Sealer, text: str):
    result = run(file, sealer, "inventory", f"--replica-wait={text}")
    assert result.exit_code == 2
    assert "--replica-wait must be a time such as 600, 90m, 12h or 1d" in " ".join(
        result.stderr.replace("│", " ").split()
    )


def test_a_file_has_no_replicas_to_look_at(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.ok("one")]})
    result = run(file, sealer, "inventory", "--replica-wait=1.5m")
    assert result.exit_code == 0
    assert "Note" not in result.stdout
    assert FREE in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("next_record", "ends"),
    [(8192 + 24, 8192), (16384 + 40, 16384), (8192, 8192), (8192 + 48, 8192 + 48), (8192 + 8184, 8192 + 8184)],
)
def test_a_log_ends_with_its_last_record_and_not_behind_a_header(next_record: int, ends: int):
    assert _end_of_records(next_record, 8192) == ends

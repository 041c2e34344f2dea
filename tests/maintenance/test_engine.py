"""How a run goes through a store: in batches, with turns for others, and to an end that the next run goes on from."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from encrypted_sessions import ProviderConfigError
from encrypted_sessions.errors import StoreError, StoreUnavailableError
from encrypted_sessions.maintenance import (
    Progress,
    discard,
    encrypt_plaintext,
    erase,
    inventory,
    purge,
    reencrypt,
    verify,
)
from encrypted_sessions_tests.envelopes import kid_of
from encrypted_sessions_tests.keyring_fakes import ACTIVE
from encrypted_sessions_tests.memory_store import MemoryStore
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encrypted_sessions.maintenance.store_calls._RETRY_WAITS_S", (0.0, 0.0))


def older_rows(sealer: Sealer, count: int) -> MemoryStore:
    return MemoryStore(SESSION, [sealer.row(message(str(n)), sealer.older) for n in range(count)])


def moved(store: MemoryStore, sealer: Sealer) -> int:
    return sum(kid_of(row) == sealer.active.kid for row in store.data.values())


async def test_a_run_that_is_told_to_stop_ends_with_the_batch_and_the_next_one_goes_on(sealer: Sealer):
    store = older_rows(sealer, 250)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    first = await reencrypt(store, sealer.ring, batch=20, stop=stop)
    assert (first.stopped, first.ok) == ("interrupted", False)
    assert "the next run continues" in str(first.stopped_because)
    assert 0 < first.changed == moved(store, sealer) < 250
    second = await reencrypt(store, sealer.ring)
    assert (second.ok, second.changed + first.changed) == (True, 250)
    assert store.checkpointed == 2


async def test_progress_is_told_and_ends_with_all_rows(sealer: Sealer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encrypted_sessions.maintenance.progress._EVERY_S", 0.0)
    told: list[Progress] = []
    await reencrypt(older_rows(sealer, 250), sealer.ring, batch=20, progress=told.append)
    assert [one.seen for one in told] == sorted(one.seen for one in told)
    assert (told[-1].seen, told[-1].total, told[-1].changed) == (250, 250, 250)
    assert len(told) > 10
    assert told[-1].rate > 0
    assert told[-1].left_s == 0


async def test_other_tasks_have_their_turns(sealer: Sealer):
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    await verify(older_rows(sealer, 3000), sealer.ring, batch=3000)
    task.cancel()
    assert turns > 5


async def test_a_store_that_fails_for_a_moment_is_asked_again(sealer: Sealer):
    store = older_rows(sealer, 250)
    calls: Counter[str] = Counter()

    async def fail_each_first_time(call: str) -> None:
        calls[call] += 1
        if calls[call] % 2 and call not in ("blocks", "checkpoint"):
            raise StoreUnavailableError("it is away")

    store.before = fail_each_first_time
    report = await reencrypt(store, sealer.ring, batch=20)
    assert (report.ok, report.changed, report.stopped) == (True, 250, None)


@pytest.mark.parametrize("call", ["count", "blocks", "rows", "replace"])
async def test_a_store_that_stays_away_ends_the_run_with_what_was_done(sealer: Sealer, call: str):
    store = older_rows(sealer, 250)
    calls: Counter[str] = Counter()

    async def fail(name: str) -> None:
        calls[name] += 1
        if name == call and (calls[name] > 3 or name in ("count", "blocks")):
            raise StoreUnavailableError("it is away")

    store.before = fail
    report = await reencrypt(store, sealer.ring, batch=20)
    assert (report.stopped, report.ok) == ("store", False)
    assert str(report.stopped_because).startswith("it is away; what was done so far stays done")
    assert report.changed == moved(store, sealer) < 250

    async def work(_: str) -> None:
        pass

    store.before = work
    assert (await reencrypt(store, sealer.ring)).ok
    assert moved(store, sealer) == 250


async def test_a_store_that_cannot_be_worked_on_raises(sealer: Sealer):
    store = older_rows(sealer, 50)

    async def fail(name: str) -> None:
        if name == "replace":
            raise StoreError("no permission")

    store.before = fail
    with pytest.raises(StoreError, match="no permission"):
        await reencrypt(store, sealer.ring, batch=20)
    assert moved(store, sealer) == 0


async def test_what_could_not_be_made_gone_is_told(sealer: Sealer):
    store = older_rows(sealer, 5)

    async def checkpoint() -> tuple[str, ...]:
        return ("old bytes are still there",)

    store.checkpoint = checkpoint  # type: ignore[method-assign]
    report = await reencrypt(store, sealer.ring)
    assert (report.ok, report.incomplete) == (False, ("old bytes are still there",))


async def test_a_run_that_is_cancelled_ends_with_the_write_under_way(sealer: Sealer):
    store = older_rows(sealer, 250)
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def wait(name: str) -> None:
        if name == "replace":
            writing.set()
            await go_on.wait()

    store.before = wait
    run = asyncio.ensure_future(reencrypt(store, sealer.ring, batch=8))
    await writing.wait()
    run.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await run
    assert moved(store, sealer) == 8
    assert len(asyncio.all_tasks()) == 1


async def test_two_runs_at_once_leave_nothing_undone(sealer: Sealer):
    store = older_rows(sealer, 450)

    async def let_others_go_first(_: str) -> None:
        await asyncio.sleep(0)

    store.before = let_others_go_first
    reports = await asyncio.gather(*(reencrypt(store, sealer.ring, batch=batch) for batch in (20, 30)))
    assert [report.ok for report in reports] == [True, True]
    assert sum(report.changed for report in reports) == 450
    assert moved(store, sealer) == 450


async def test_a_row_that_is_never_left_alone_is_counted_as_changed_meanwhile(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
):
    """It is tried again, ever later."""
    store = older_rows(sealer, 30)
    waited: list[float] = []

    async def wait(seconds: float, _: object) -> None:
        waited.append(seconds)

    monkeypatch.setattr("encrypted_sessions.maintenance.engine.wait", wait)

    async def somebody_writes(name: str) -> None:
        if name == "replace":
            store.data[7] = sealer.row(message("again"), sealer.older).encode()

    store.before = somebody_writes
    report = await reencrypt(store, sealer.ring)
    assert (report.ok, report.changed, report.left) == (False, 29, {"changed_meanwhile": 1})
    assert waited == sorted(waited)
    assert waited[-1] > 10 * waited[0]


async def test_a_provider_that_is_set_up_wrongly_raises_at_once(sealer: Sealer):
    store = MemoryStore(SESSION, [])
    sealer.provider.fail(ACTIVE, ProviderConfigError)
    with pytest.raises(ProviderConfigError):
        await reencrypt(store, sealer.ring)


async def test_reports_and_errors_show_no_content(sealer: Sealer):
    store = MemoryStore(
        SESSION, [sealer.row(message("sentinel-" + "content"), sealer.older), '{"sentinel-content": 1}']
    )
    for report in (
        await inventory(store, sealer.ring),
        await verify(store, sealer.ring),
        await reencrypt(store, sealer.ring),
        await encrypt_plaintext(store, sealer.ring),
        await purge(store, sealer.ring, ttl=TTL),
    ):
        assert "sentinel-content" not in repr(report)
        assert sealer.active.reveal_base64() not in repr(report)
        with pytest.raises(AttributeError):
            report.changed = 0  # type: ignore[misc]


Command = Callable[..., Any]
COMMANDS: list[tuple[Command, dict[str, Any]]] = [
    (inventory, {}),
    (verify, {}),
    (purge, {"ttl": TTL}),
    (reencrypt, {}),
    (encrypt_plaintext, {}),
    (discard, {"outcome": "erased", "export": None, "dry_run": True}),
]
WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("batch", "5", TypeError, "batch must be an int of rows, not str"),
    ("batch", True, TypeError, "batch"),
    ("batch", 0, ValueError, "batch must be from 1 to 10000, not 0"),
    ("batch", 10_001, ValueError, "batch"),
    ("upstream_key", b"k", TypeError, "upstream_key"),
    ("upstream_key", "", ValueError, "upstream_key is empty"),
    ("upstream_until", "2026-12-01T09:00Z", TypeError, "upstream_until must be a datetime"),
    ("upstream_until", datetime(2026, 12, 1), ValueError, "upstream_until has no time zone"),  # noqa: DTZ001 - that is it
    ("upstream_until", datetime(2026, 12, 1, tzinfo=timezone.utc), ValueError, "goes with upstream_key"),
    ("progress", 5, TypeError, "progress must be callable or None, not int"),
    ("stop", "x", TypeError, "stop must be callable"),
    ("ttl", 0, ValueError, "ttl"),
    ("ttl", 1.5, TypeError, "ttl"),
    ("limit", 0, ValueError, "limit must be 1 or more, not 0"),
    ("limit", "1", TypeError, "limit"),
    ("dry_run", 1, TypeError, "dry_run must be True or False, not int"),
    ("from_kid", 5, TypeError, "from_kid must be a str"),
    ("from_kid", "no kid", ValueError, "from_kid must be a kid"),
]
TAKES_NO = {
    (inventory, "limit"), (inventory, "dry_run"), (verify, "limit"), (verify, "dry_run"),
    (reencrypt, "dry_run"), (reencrypt, "ttl"), (encrypt_plaintext, "ttl"),
    *((command, "from_kid") for command, _ in COMMANDS if command is not reencrypt),
}  # fmt: skip


@pytest.mark.parametrize(("command", "needed"), COMMANDS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize(("name", "value", "kind", "words"), WRONG)
async def test_a_wrong_argument_is_refused_by_name(
    sealer: Sealer, command: Command, needed: dict[str, Any], name: str, value: Any, kind: type[Exception], words: str
):
    if (command, name) in TAKES_NO:
        return
    with pytest.raises(kind, match=words):
        await command(MemoryStore(SESSION, []), sealer.ring, **{**needed, name: value})
    assert sealer.provider.asked == []


@pytest.mark.parametrize(("command", "needed"), COMMANDS, ids=lambda value: getattr(value, "__name__", ""))
async def test_the_store_and_the_keys_must_be_such(sealer: Sealer, command: Command, needed: dict[str, Any]):
    with pytest.raises(TypeError, match="store must be what open_store"):
        await command("sqlite:///x.db", sealer.ring, **needed)
    with pytest.raises(TypeError, match="keys must be a KeyRing, not str"):
        await command(MemoryStore(SESSION, []), "env:KEYS", **needed)


async def test_erase_checks_its_arguments_too():
    with pytest.raises(TypeError, match="store must be"):
        await erase(None, ["a"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dry_run must be"):
        await erase(MemoryStore(SESSION, []), ["a"], dry_run="no")  # type: ignore[arg-type]


async def test_purge_needs_a_ttl(sealer: Sealer):
    with pytest.raises(TypeError, match="without one nothing expires"):
        await purge(MemoryStore(SESSION, []), sealer.ring, ttl=None)  # type: ignore[arg-type]


async def test_large_rows_are_read_and_written_few_at_once(sealer: Sealer):
    store = MemoryStore(SESSION, [sealer.row(message(f"{n}" + "x" * 2**20), sealer.older) for n in range(30)])
    at_once: list[int] = []
    read, write = store.rows, store.replace

    async def rows(block: Any, after: Any, count: int) -> Any:
        at_once.append(count)
        return await read(block, after, count)

    async def replace(changes: Any) -> list[bool]:
        at_once.append(len(changes))
        return await write(changes)

    store.rows, store.replace = rows, replace  # type: ignore[method-assign]
    report = await reencrypt(store, sealer.ring)
    assert (report.ok, report.changed) == (True, 30)
    assert max(at_once) == 8
    assert max(at_once[5:]) <= 4


async def test_small_rows_are_read_by_whole_batches(sealer: Sealer):
    store = older_rows(sealer, 500)
    at_once: list[int] = []
    read = store.rows

    async def rows(block: Any, after: Any, count: int) -> Any:
        at_once.append(count)
        return await read(block, after, count)

    store.rows = rows  # type: ignore[method-assign]
    assert (await reencrypt(store, sealer.ring, batch=70)).ok
    assert at_once[:5] == [8, 16, 32, 64, 70]
    assert set(at_once[4:]) == {70}

"""The start and the end of each run of maintenance and of each command about a keyset."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from encrypted_sessions import KeysetEvent, RunEvent, audit_context, observe
from encrypted_sessions.cli import application
from encrypted_sessions.events.hooks import Recorder
from encrypted_sessions.maintenance import PurgeReport, purge, verify
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from encrypted_sessions_tests.maintenance_command import run
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer
from encrypted_sessions_tests.stores import StoreLocation
from encrypted_sessions_tests.whole_stores import fill, whole
from keyproviders.keyset import KeysetManager, KeysetRefusedError, urls

in_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


@in_sqlite
async def test_a_run_by_a_function_is_told_with_its_report(place: StoreLocation, sealer: Sealer, observed: list[Any]):
    await fill(place, {SESSION: [sealer.ok("a"), sealer.expired()]})
    with audit_context(actor="night job"):
        async with whole(place) as store:
            report = await purge(store, sealer.ring, ttl=600)
    start, end = observed
    assert [(event.command, event.phase, event.store) for event in (start, end)] == [
        ("purge", "start", report.store),
        ("purge", "end", report.store),
    ]
    assert start.sequence == end.sequence
    assert (start.report, start.error, start.took_s) == (None, None, 0.0)
    assert isinstance(end.report, PurgeReport)
    assert end.report is report
    assert (end.report.changed, end.error) == (1, None)
    assert end.took_s > 0
    assert end.context == {"actor": "night job"}


@in_sqlite
async def test_a_run_that_fails_or_is_cancelled_is_told(place: StoreLocation, sealer: Sealer, observed: list[Any]):
    await fill(place, {SESSION: [sealer.ok("a")]})
    async with whole(place) as store:
        with pytest.raises(ValueError, match="ttl"):
            await purge(store, sealer.ring, ttl=-1)
        task = asyncio.create_task(verify(store, sealer.ring))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(TypeError):
        await purge("sqlite:///a.db", sealer.ring, ttl=1)  # type: ignore[arg-type]  # what is tested
    assert [(event.command, event.phase, event.error, event.report) for event in observed] == [
        ("purge", "start", None, None),
        ("purge", "end", "ValueError", None),
        ("verify", "start", None, None),
        ("verify", "end", "CancelledError", None),
    ]


@pytest.mark.parametrize("place", ["sqlite", "redis", "sqlalchemy-postgres"], indirect=True)
def test_each_command_over_a_store_is_told_once(place: StoreLocation, sealer: Sealer, observed: list[Any]):
    asyncio.run(fill(place, {SESSION: [sealer.ok("a"), sealer.of("unauthentic")]}))
    commands = {
        "inventory": (),
        "verify": (),
        "sessions": (),
        "inspect": ("--session", SESSION),
        "purge": ("--ttl", "10m", "--yes"),
        "reencrypt": (),
        "encrypt": (),
        "discard": ("--outcome", "unauthentic"),
        "erase": ("--session", SESSION),
    }
    for command, more in commands.items():
        result = run(place, None if command in ("sessions", "inspect", "erase") else sealer, command, *more)
        assert result.exit_code in (0, 1), result.output
    runs = [event for event in observed if isinstance(event, RunEvent)]
    assert [(event.command, event.phase) for event in runs] == [
        (command, phase) for command in commands for phase in ("start", "end")
    ]
    ends = {event.command: event for event in runs if event.phase == "end"}
    assert {event.error for event in ends.values()} == {None}
    assert [command for command, event in ends.items() if event.report is None] == ["sessions", "inspect"]
    report = ends["verify"].report
    assert report is not None
    assert (report.found, report.left) == ({"ok": 1, "unauthentic": 1}, {"unauthentic": 1})


def test_a_command_whose_store_cannot_be_opened_is_told_as_failed(tmp_path: Path, sealer: Sealer, observed: list[Any]):
    place = StoreLocation("sqlite", str(tmp_path / "none.db"), "t")
    assert run(place, sealer, "verify").exit_code == 4
    assert [(event.phase, event.error is None) for event in observed] == [("start", True), ("end", False)]
    assert observed[1].error == "StoreError"


class Refusing(Recorder):
    """Takes note of nothing."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __call__(self, event: Any) -> None:
        pass

    def before(self, event: Any) -> Future[None]:
        answer: Future[None] = Future()
        answer.set_exception(OSError("no room"))
        return answer

    def after(self, event: Any) -> Future[None]:
        self.told.append(event)
        answer: Future[None] = Future()
        answer.set_result(None)
        return answer


@in_sqlite
async def test_a_run_that_a_recorder_refuses_does_not_begin(place: StoreLocation, sealer: Sealer, observed: list[Any]):
    await fill(place, {SESSION: [sealer.expired()]})
    recorder = Refusing()
    stop = observe(recorder)
    try:
        async with whole(place) as store:
            with pytest.raises(OSError, match="no room"):
                await purge(store, sealer.ring, ttl=600)
            assert await store.count() == 1
    finally:
        stop()
    assert [(event.phase, event.error) for event in recorder.told] == [("end", "OSError")]
    assert [(event.phase, event.error) for event in observed] == [("end", "OSError")]


# -- Keysets ------------------------------------------------------------------------------------


def keys(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(application(), ["keys", *arguments], input=answer, prog_name="encrypted-sessions")


def test_each_command_about_a_keyset_is_told_by_its_start_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: list[Any]
):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    url = f"aws-kms:alias/agents?keyset=file:{tmp_path / 'keyset.json'}"
    reason = "ticket 7"
    with audit_context(actor="op"):
        assert keys("create", url, "--key-name", "one", "--activation-delay", "1s", "--reason", reason).exit_code == 0
        assert keys("rotate", url, "--now").exit_code == 0
        assert keys("list", url).exit_code == 0
        assert keys("rewrap", url, "--reason", reason).exit_code == 0
        assert keys("upgrade", url).exit_code == 0
        assert keys("retire", url, "nothing").exit_code == 1
        assert keys("destroy", url, "one", "--now", "one").exit_code == 1
        assert keys("rotate", "aws-kms:nothing").exit_code == 2
    events = [event for event in observed if isinstance(event, KeysetEvent)]
    ends = [event for event in events if event.phase == "end"]
    starts = [event for event in events if event.phase == "start"]
    assert [event.sequence for event in starts] == [event.sequence for event in ends]
    made = ends[1].key
    assert made not in (None, "one")
    assert [(event.command, event.key, event.reason, event.error) for event in ends] == [
        ("create", "one", reason, None),
        ("rotate", made, None, None),
        ("list", None, None, None),
        ("rewrap", None, reason, None),
        ("upgrade", None, None, None),
        ("retire", "nothing", None, "KeysetRefusedError"),
        ("destroy", "one", None, "KeysetRefusedError"),
    ]
    assert [(event.key, event.error, event.took_s) for event in starts[:2]] == [("one", None, 0.0), (None, None, 0.0)]
    assert all(str(tmp_path) in event.place and event.context == {"actor": "op"} for event in events)


def test_a_key_that_nobody_confirms_is_refused_as_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: list[Any]
):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    url = f"aws-kms:alias/agents?keyset=file:{tmp_path / 'keyset.json'}"
    wrapper, store, *_ = urls.open_keyset_url(url)
    hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    manager = KeysetManager(wrapper, store, clock=hour_ago.timestamp)
    manager.create(key_name="one")
    manager.rotate(now=True)
    assert keys("retire", url, "one").exit_code == 0
    observed.clear()
    assert keys("destroy", url, "one", "--now", "one", answer="n\n").exit_code == 1
    assert keys("destroy", url, "one", "--now", "one", answer="y\n").exit_code == 0
    assert [(event.command, event.phase, event.error) for event in observed] == [
        ("destroy", "start", None),
        ("destroy", "end", "KeysetRefusedError"),
        ("destroy", "start", None),
        ("destroy", "end", None),
    ]


def keyset_in(folder: Path) -> KeysetManager:
    wrapper, store, *_ = urls.open_keyset_url(f"aws-kms:alias/agents?keyset=file:{folder / 'keyset.json'}")
    return KeysetManager(wrapper, store)


def test_a_change_that_a_program_makes_to_a_keyset_is_told_as_that_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: list[Any]
):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    manager = keyset_in(tmp_path)
    with audit_context(actor="job"):
        manager.create(key_name="one", activation_delay_s=1, reason="first")
        made = manager.rotate(now=True).name
        manager.rewrap()
        manager.upgrade()
        for change in (manager.retire, manager.restore, manager.destroy):
            with pytest.raises(KeysetRefusedError):
                change("nothing")
        with pytest.raises(TypeError):
            manager.retire(7)  # type: ignore[arg-type]  # what is tested
    manager.list()
    assert {(event.place, event.context["actor"]) for event in observed} == {(manager.place, "job")}
    starts, ends = observed[::2], observed[1::2]
    assert [event.sequence for event in starts] == [event.sequence for event in ends]
    assert {(event.phase, event.error, event.took_s) for event in starts} == {("start", None, 0.0)}
    assert [(event.key, event.reason) for event in starts[:2]] == [("one", "first"), (None, None)]
    assert all(event.phase == "end" and event.took_s > 0 for event in ends)
    assert [(event.command, event.key, event.reason, event.error) for event in ends] == [
        ("create", "one", "first", None),
        ("rotate", made, None, None),
        ("rewrap", None, None, None),
        ("upgrade", None, None, None),
        *((command, "nothing", None, "KeysetRefusedError") for command in ("retire", "restore", "destroy")),
        ("retire", None, None, "TypeError"),
    ]


def test_a_change_of_a_keyset_that_a_recorder_refuses_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: list[Any]
):
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)
    recorder = Refusing()
    stop = observe(recorder)
    try:
        with pytest.raises(OSError, match="no room"):
            keyset_in(tmp_path).create()
    finally:
        stop()
    assert list(tmp_path.iterdir()) == []
    assert [(event.phase, event.error) for event in recorder.told] == [("end", "OSError")]
    observed.clear()
    keyset_in(tmp_path).create()
    assert [event.phase for event in observed] == ["start", "end"]

"""What is counted and timed, and how many series that makes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from opentelemetry.instrumentation.distro import DefaultDistro
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from encrypted_sessions import (
    EncryptedSession,
    Key,
    KeyNotFoundError,
    KeyRing,
    KeyUnavailableError,
    UnreadableItemsError,
)
from encrypted_sessions.maintenance import open_store, purge
from encrypted_sessions.telemetry import EncryptedSessionsInstrumentor, instrument
from encrypted_sessions_tests.bulk_rows import write_rows
from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.keyring_fakes import ACTIVE, ScriptedKeys, impatient_ring
from encrypted_sessions_tests.sealed_rows import SESSION, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation, new_place
from encrypted_sessions_tests.telemetry import Exported, exported
from keyproviders import RetryPolicy
from keyproviders.local import StaticKeyProvider

OPERATION, OUTCOME, ERROR = "encrypted_sessions.operation", "encrypted_sessions.outcome", "error.type"
RING, SCHEME, USE = "keyproviders.ring", "keyproviders.scheme", "keyproviders.use"
EVENT, QUESTION, KID = "keyproviders.event", "keyproviders.question", "keyproviders.kid"


@pytest.fixture
def kept() -> Iterator[Exported]:
    with exported() as kept:
        yield kept


@pytest.fixture
def place(request: pytest.FixtureRequest) -> StoreLocation:
    return new_place("sqlite", request)


def timed(kept: Exported) -> dict[tuple[Any, ...], float]:
    return kept.of("encrypted_sessions.operation.duration", o=OPERATION, e=ERROR)


def items(kept: Exported) -> dict[tuple[Any, ...], float]:
    return kept.of("encrypted_sessions.items", o=OPERATION, r=OUTCOME)


async def test_operations_are_timed_and_items_counted_by_outcome(kept: Exported, sealer: Sealer, place: StoreLocation):
    async with sealer.session(place) as session:
        await session.add_items([message(str(number)) for number in range(3)])
        await write_rows(place, SESSION, [sealer.of("unauthentic"), sealer.of("plaintext")])
        with pytest.raises(UnreadableItemsError):
            await session.get_items()
        await session.read()
    assert timed(kept) == {("add_items", None): 1, ("get_items", "UnreadableItemsError"): 1, ("read", None): 1}
    assert items(kept) == {
        ("add_items", "sealed"): 3,
        **{(name, outcome): 1 for name in ("get_items", "read") for outcome in ("unauthentic", "plaintext")},
        **{(name, "ok"): 3 for name in ("get_items", "read")},
    }


async def test_runs_count_what_they_found_and_a_dry_run_is_another_operation(
    kept: Exported, sealer: Sealer, place: StoreLocation
):
    async with sealer.session(place):
        await write_rows(place, SESSION, [sealer.expired(), sealer.ok("one")])
    async with open_store(f"sqlite:///{place.where}") as store:
        await purge(store, sealer.ring, ttl=600, dry_run=True)
        await purge(store, sealer.ring, ttl=600)
        with pytest.raises(TypeError):
            await purge(store, sealer.ring, ttl="soon")  # type: ignore[arg-type]
    assert timed(kept) == {("purge --dry-run", None): 1, ("purge", None): 1, ("purge", "TypeError"): 1}
    assert items(kept)["purge", "expired"] == items(kept)["purge --dry-run", "expired"] == 1


async def test_a_run_that_the_keys_ended_is_one_that_failed(kept: Exported, sealer: Sealer, place: StoreLocation):
    async with sealer.session(place):
        await write_rows(place, SESSION, [sealer.expired()])
    sealer.provider.fail(ACTIVE, KeyUnavailableError)
    sealer.provider.fail("active", KeyUnavailableError)
    async with open_store(f"sqlite:///{place.where}") as store:
        assert (await purge(store, sealer.ring, ttl=600)).stopped == "provider"
    assert timed(kept) == {("purge", "provider"): 1}


def test_calls_are_timed_by_scheme_and_question_and_events_of_rings_counted(kept: Exported, tmp_path: Path):
    (tmp_path / "keys").write_text(f"one={Key.generate().reveal_base64()}")
    (tmp_path / "keys").chmod(0o600)
    with closing(KeyRing.from_url(f"file:{tmp_path / 'keys'}", name="main")) as ring:
        ring.active_sync()
        with pytest.raises(KeyNotFoundError):
            ring.get_sync("made-up~00000000")
    calls = kept.of("keyproviders.call.duration", s=SCHEME, q=QUESTION, e=ERROR)
    assert calls == {("file", "active", None): 1, ("file", "names", None): 1}
    events = kept.of("keyproviders.ring.events", r=RING, s=SCHEME, e=EVENT, x=ERROR)
    assert events["main", "file", "fetched", None] == 1


def test_a_call_that_fails_is_counted_by_its_error_and_each_attempt_by_itself(kept: Exported):
    keys = ScriptedKeys(Key.generate("1"))
    keys.fail(ACTIVE, KeyUnavailableError)
    with closing(KeyRing(keys, sleep=lambda _: None)) as ring, pytest.raises(KeyUnavailableError):
        ring.active_sync()
    calls = kept.of("keyproviders.call.duration", q=QUESTION, e=ERROR)
    assert calls == {("active", "KeyUnavailableError"): len(keys.asked)}
    assert len(keys.asked) > 1


def test_gauges_say_how_long_a_ring_goes_on(kept: Exported):
    clock, keys = FakeClock(), ScriptedKeys(Key.generate("1"))
    with closing(KeyRing(keys, clock=clock, name="main")) as ring:
        assert kept.of("keyproviders.ring.time_left", u=USE) == {}  # nobody has used it
        ring.active_sync()
        keys.fail(ACTIVE, KeyUnavailableError)
        clock.now += 400
        assert kept.of("keyproviders.ring.time_left", r=RING, u=USE) == {
            ("main", "write"): 500,
            ("main", "read"): 86_000,
        }
        assert kept.of("keyproviders.ring.answer.age", r=RING) == {("main",): 400}
        assert kept.of("keyproviders.ring.keys", r=RING) == {("main",): 1}
        clock.now += 6 * 3600
        # Nobody used it for so long that it asks no more: that its time runs out is no alarm.
        assert kept.of("keyproviders.ring.time_left", r=RING) == {}
    assert kept.of("keyproviders.ring.keys", r=RING) == {}


def test_a_ring_that_got_no_key_has_no_time_to_write(kept: Exported):
    keys = ScriptedKeys(Key.generate("1"))
    keys.fail(ACTIVE, KeyUnavailableError)
    with closing(impatient_ring(keys)) as ring:
        with pytest.raises(KeyUnavailableError):
            ring.active_sync()
        assert kept.of("keyproviders.ring.time_left", u=USE) == {("write",): 0, ("read",): 0}


def test_calls_that_do_not_come_back_are_counted(kept: Exported):
    free = threading.Event()

    class Hanging(ScriptedKeys):
        def active(self) -> Key:
            free.wait(30)
            return super().active()

    ring = KeyRing(Hanging(Key.generate("1")), retry=RetryPolicy(deadline_s=0.02))
    try:
        with pytest.raises(KeyUnavailableError):
            ring.active_sync()
        while not ring.health().stuck:
            time.sleep(0.001)
        assert kept.of("keyproviders.ring.stuck_calls", r=RING) == {("scripted keys",): 1}
    finally:
        free.set()
        ring.close()


def test_the_age_of_keys_is_that_of_keys_in_hand_and_of_a_bounded_number_of_them(kept: Exported):
    now = datetime.now(timezone.utc)
    keys = [Key(str(day), os.urandom(32), created_at=now - timedelta(days=day)) for day in range(1, 31)]
    undated = Key("undated", os.urandom(32))
    with closing(KeyRing(StaticKeyProvider(keys[4], *keys[:4], *keys[5:], undated), name="main")) as ring:
        ring.active_sync()
        for key in (*keys, undated):
            ring.get_sync(key.kid)
        ages = kept.of("keyproviders.key.age", k=KID, u=USE)
    days = {kid: round(age / 86_400) for (kid, _), age in ages.items()}
    assert days == {**{key.kid: int(key.name or 0) for key in keys[:20]}, "other": 30}
    assert [kid for kid, use in ages if use == "write"] == [keys[4].kid]


def test_beyond_fifty_rings_one_of_each_scheme_shows_the_worst(kept: Exported):
    clock = FakeClock()
    rings = [KeyRing(ScriptedKeys(Key.generate("1")), clock=clock, name=f"ring {number}") for number in range(60)]
    try:
        for number, ring in enumerate(rings):
            ring.active_sync()
            if number == 54:
                clock.now += 100
        left = kept.of("keyproviders.ring.time_left", r=RING, s=SCHEME, u=USE)
        writing = {name: value for (name, _, use), value in left.items() if use == "write"}
        assert len(writing) == 51
        assert writing["other"] == 800
        assert kept.of("keyproviders.ring.answer.age", r=RING)["other",] == 100
        fetched = {name: n for (name, event), n in kept.of("keyproviders.ring.events", r=RING, e=EVENT).items()}
        assert len(fetched) == 51
        assert fetched["other"] == 10
    finally:
        for ring in rings:
            ring.close()


@pytest.mark.parametrize("many", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_made_up_kids_make_no_series(kept: Exported, tmp_path: Path, sealer: Sealer, many: int):
    envelope = sealer.envelope(message("made up"))
    with (
        closing(KeyRing(StaticKeyProvider(sealer.active))) as ring,
        closing(SQLiteSession(SESSION, tmp_path / "agents.db")) as store,
    ):
        session = EncryptedSession.wrap(store, ring, ttl=600, on_unreadable="skip")
        await session.add_items([message("one")])
        await session.read()
        before = {name: len(series) for name, series in kept.points().items()}
        rows = [(SESSION, json.dumps({**envelope, "kid": f"made-up-{n}~{n:08x}"})) for n in range(many)]
        with closing(sqlite3.connect(tmp_path / "agents.db")) as database, database:
            database.executemany("INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)", rows)
        outcomes = (await session.read()).outcomes
        after = {name: len(series) for name, series in kept.points().items()}
        assert "made-up" not in kept.text()
    # A slow machine does not get round to all of them while a read waits.
    assert outcomes["unknown_key"] + outcomes.get("key_not_asked", 0) == many
    # The outcomes of these rows; and that names were listed for them.
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)} == {
        "encrypted_sessions.items": len(outcomes) - 1,
        "keyproviders.call.duration": 1,
    }


def keys_of(kept: Exported, ring: str) -> float | None:
    return kept.of("keyproviders.ring.keys", r=RING).get((ring,))


async def test_turned_on_twice_it_counts_once_and_stops_once(tmp_path: Path):
    with (
        closing(KeyRing(StaticKeyProvider(Key.generate()), name="twice")) as ring,
        closing(SQLiteSession("s", tmp_path / "agents.db")) as store,
        exported() as kept,
    ):
        assert instrument() is kept.stop
        assert instrument(meter_provider=kept.meters, spans=True) is kept.stop
        session = EncryptedSession.wrap(store, ring, ttl=600)
        await session.add_items([message("one")])
        assert items(kept) == {("add_items", "sealed"): 1}
        kept.stop()
        kept.stop()
        await session.add_items([message("two")])
        assert items(kept) == {("add_items", "sealed"): 1}
        assert keys_of(kept, "twice") is None
        kept.start()
        await session.add_items([message("three")])
        assert items(kept) == {("add_items", "sealed"): 2}
        assert keys_of(kept, "twice") == 1


def test_other_arguments_while_it_is_on_are_a_warning(caplog: pytest.LogCaptureFixture):
    with exported() as kept:
        instrument()
        instrument(meter_provider=kept.meters, tracer_provider=kept.tracers)
        assert not caplog.records
        instrument(spans=True)
        (record,) = caplog.records
        assert "keeps its first settings" in record.message


def test_another_meter_provider_after_the_first_is_the_only_one_that_counts():
    with closing(KeyRing(StaticKeyProvider(Key.generate()), name="another")) as ring:
        ring.active_sync()
        with exported() as first:
            assert keys_of(first, "another") == 1
            first.stop()
            with exported() as second:
                assert keys_of(second, "another") == 1
                assert keys_of(first, "another") is None


def test_what_opentelemetry_finds_turns_it_on_and_off():
    # As the metadata has it: tests/test_packaging.py.
    value = "encrypted_sessions.telemetry:EncryptedSessionsInstrumentor"
    entry_point = EntryPoint("encrypted_sessions", value, "opentelemetry_instrumentor")
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    DefaultDistro().load_instrumentor(entry_point, skip_dep_check=True, meter_provider=meters)
    instrumentor = EncryptedSessionsInstrumentor()
    assert instrumentor.instrumentation_dependencies() == ()
    try:
        assert instrumentor.is_instrumented_by_opentelemetry
        with closing(KeyRing.ephemeral()) as ring:
            ring.active_sync()
            data = reader.get_metrics_data()
        assert data is not None
        assert "keyproviders.ring.keys" in data.to_json()
    finally:
        instrumentor.uninstrument()
        instrumentor.uninstrument()
        meters.shutdown()
    assert not instrumentor.is_instrumented_by_opentelemetry


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"meter_provider": "otlp"}, TypeError, "meter_provider must be a MeterProvider or None, not str"),
        ({"tracer_provider": 1}, TypeError, "tracer_provider must be a TracerProvider"),
        ({"spans": "yes"}, TypeError, "spans must be a bool"),
        ({"session_ids": "all"}, ValueError, 'must be "omitted", "hashed" or "plain"'),
        ({"session_ids": "hashed"}, ValueError, "pseudonym_keys go together"),
        ({"session_ids": "hashed", "pseudonym_keys": 5}, TypeError, "pseudonym_keys must be a KeyRing, a URL or None"),
        ({"session_ids": "hashed", "pseudonym_keys": "nowhere:1"}, ValueError, "no key provider reads"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_turned_on(options: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        instrument(**options)
    assert not EncryptedSessionsInstrumentor().is_instrumented_by_opentelemetry


def test_without_the_extra_its_name_is_said():
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
try:
    import encrypted_sessions.telemetry
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "encrypted_sessions.telemetry needs opentelemetry-api, which is not installed;"
        " pip install 'encrypted-sessions[otel]'\n"
    )


def test_the_api_alone_is_enough():
    code = """
import sys, encrypted_sessions.telemetry as telemetry
from encrypted_sessions import KeyRing
stop = telemetry.instrument(spans=True)
ring = KeyRing.ephemeral()
ring.active_sync()
ring.close()
stop()
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.instrumentation"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_lines_that_an_audit_log_loses_are_counted(kept: Exported, tmp_path: Path):
    pytest.importorskip("encrypted_sessions.audit", reason="comes with the audit log")
    audit = import_module("encrypted_sessions.audit")
    (tmp_path / "audit").mkdir(mode=0o700)
    with audit.AuditLog(tmp_path / "audit") as log:
        assert kept.of("encrypted_sessions.audit.lines_lost") == {(): 0}
        for path in (tmp_path / "audit").iterdir():
            path.unlink()
        (tmp_path / "audit").rmdir()
        sealer = Sealer()
        async with sealer.session(StoreLocation("sqlite", str(tmp_path / "agents.db"), "x"), on_event=log) as session:
            await session.get_items()
        sealer.ring.close()
        log.close()
        assert kept.of("encrypted_sessions.audit.lines_lost")[()] >= 1

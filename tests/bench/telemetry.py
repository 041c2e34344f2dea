"""What metrics and spans cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing

from agents import SQLiteSession
from measuring import Samples, Table, in_turn, ms
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from subjects import SESSION, TTL, add_and_get, message

from encrypted_sessions import EncryptedSession, Key, KeyRing
from encrypted_sessions.events.listening import LISTENING
from encrypted_sessions.telemetry import instrument
from keyproviders.local import StaticKeyProvider

_OFF, _METRICS, _SPANS = "off", "metrics", "metrics and spans"
_SUBJECTS = (_OFF, _METRICS, _SPANS)
_BATCH = 200
_MOST = 1.05


async def measure(*, quick: bool) -> Table:
    """Batches of 200, and single calls."""
    table = Table(
        "Telemetry",
        ("call", *_SUBJECTS, "metrics / off", "target", "met", "with spans / off"),
        f"`add_items` and `get_items` of {_BATCH} items of 1 KiB over a SQLite file, and the same for one item,"
        " which has no target. OpenTelemetry's own SDK holds metrics and spans in memory. Times are the minimum"
        " CPU time of a round; ratios are the medians of the ratios within the rounds, in CPU time.",
    )
    meters, tracers = MeterProvider([InMemoryMetricReader()]), TracerProvider()
    kept = InMemorySpanExporter()
    tracers.add_span_processor(BatchSpanProcessor(kept))

    def turned(subject: str) -> Callable[[], object]:
        LISTENING.is_on = subject != _OFF
        if subject == _OFF:
            return lambda: None
        return instrument(meter_provider=meters, tracer_provider=tracers, spans=subject == _SPANS)

    ring = KeyRing(StaticKeyProvider(Key.generate("bench")))
    with tempfile.TemporaryDirectory() as folder, closing(SQLiteSession(SESSION, f"{folder}/agents.db")) as store:
        session = EncryptedSession.wrap(store, ring, ttl=TTL)
        for batch, rounds in (([message(1024)] * _BATCH, 120), ([message(1024)], 600)):
            added, got = Samples(), Samples()
            for number, order in enumerate(in_turn(_SUBJECTS, (rounds // 10 if quick else rounds) + 2)):
                for subject in order:
                    stop = turned(subject)
                    took_to_add, took_to_get = await add_and_get(session, batch)
                    stop()
                    tracers.force_flush()  # not while another one is measured
                    if number >= 2:
                        added.add(subject, took_to_add)
                        got.add(subject, took_to_get)
            for call, samples in (("add_items", added), ("get_items", got)):
                _add_row(table, f"{call} of {len(batch)}", samples, has_target=len(batch) > 1)
    assert kept.get_finished_spans()
    meters.shutdown()
    tracers.shutdown()
    return table


def _add_row(table: Table, label: str, samples: Samples, *, has_target: bool) -> None:
    ratio = samples.cpu_ratio(_METRICS, _OFF)
    table.add(
        label,
        *(ms(samples.least_cpu(subject)) for subject in _SUBJECTS),
        f"{ratio:.2f}",
        *(table.judged(label, ratio, _MOST) if has_target else ("", "")),
        f"{samples.cpu_ratio(_SPANS, _OFF):.2f}",
    )

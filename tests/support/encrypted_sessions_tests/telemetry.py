"""What an application with an SDK of OpenTelemetry would export, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from encrypted_sessions.telemetry import instrument

Labels = dict[str, Any]


@dataclass
class Exported:
    """Where metrics and spans of one test go."""

    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    spans_kept: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    meters: MeterProvider = field(init=False)
    tracers: TracerProvider = field(default_factory=TracerProvider)
    stop: Callable[[], None] = field(init=False)

    def __post_init__(self) -> None:
        self.meters = MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_kept))

    def start(self, **options: Any) -> Callable[[], None]:
        """Instrument the process for these."""
        self.stop = instrument(meter_provider=self.meters, tracer_provider=self.tracers, **options)
        return self.stop

    def points(self) -> dict[str, list[tuple[Labels, float]]]:
        """The series of each metric: attributes, and the value; of a histogram, how many there were."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[tuple[Labels, float]]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [
                        (
                            dict(point.attributes or {}),
                            point.count if isinstance(point, HistogramDataPoint) else point.value,
                        )
                        for point in metric.data.data_points
                    ]
        return found

    def of(self, name: str, **labels: str) -> dict[tuple[Any, ...], float]:
        """The series of one metric by the values of these attributes, named `o="encrypted_sessions.operation"`."""
        series: dict[tuple[Any, ...], float] = {}
        for attributes, value in self.points().get(name, []):
            key = tuple(attributes.get(label) for label in labels.values())
            assert key not in series, "these attributes do not tell the series apart"
            series[key] = value
        return series

    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in the order of their ends."""
        return list(self.spans_kept.get_finished_spans())

    def text(self) -> str:
        """All that is exported, as text."""
        data = self.reader.get_metrics_data()
        return (data.to_json() if data else "") + "".join(span.to_json() for span in self.spans())


@contextmanager
def exported(**options: Any) -> Iterator[Exported]:
    """An instrumented process, until the end of the block."""
    kept = Exported()
    kept.start(**options)
    try:
        yield kept
    finally:
        kept.stop()
        kept.meters.shutdown()
        kept.tracers.shutdown()

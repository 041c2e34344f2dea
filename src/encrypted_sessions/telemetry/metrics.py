"""What is counted and timed as it happens: operations, items, calls to providers, events of rings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Meter

from keyproviders import KeyEvent, ProviderCall

from ..events.shapes import KeysetEvent, SessionEvent
from .bounds import RingNames, scheme_of
from .names import (
    BUCKETS_S,
    CALL_DURATION,
    ERROR,
    EVENT,
    ITEMS,
    OPERATION,
    OPERATION_DURATION,
    OUTCOME,
    QUESTION,
    RING,
    RING_EVENTS,
    SCHEME,
)

if TYPE_CHECKING:
    from ..maintenance.run_event import RunEvent

__all__ = ["Metrics"]

# A run that ended early, but not because it was told how many rows it may change.
_AS_TOLD = (None, "limit")


class Metrics:
    """A hook for `observe`, and one for `observe_calls`."""

    def __init__(self, meter: Meter, names: RingNames) -> None:
        self._names = names
        self._operation_s = meter.create_histogram(
            OPERATION_DURATION,
            unit="s",
            description="How long operations of sessions and commands over whole stores and keysets took.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._items = meter.create_counter(
            ITEMS, unit="{item}", description="Items that were sealed, and stored rows by outcome."
        )
        self._call_s = meter.create_histogram(
            CALL_DURATION,
            unit="s",
            description="How long calls to key providers took, for each attempt.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._ring_events = meter.create_counter(
            RING_EVENTS, unit="{event}", description="What happened to the keys of rings."
        )

    def __call__(self, event: Any) -> None:
        """Count an event, and pass over one that is not known."""
        if isinstance(event, SessionEvent):
            self._timed(event.operation, event.took_s, event.error)
            for use in event.uses:
                self._items.add(use.items, {OPERATION: event.operation, OUTCOME: use.outcome})
        elif isinstance(event, KeyEvent):
            self._ring_event(event)
        elif isinstance(event, KeysetEvent):
            if event.phase == "end":
                self._timed(f"keys {event.command}", event.took_s, event.error)
        elif type(event).__name__ == "RunEvent" and event.phase == "end":  # its class would load maintenance
            self._run(event)

    def _timed(self, operation: str, took_s: float, error: str | None) -> None:
        attributes = {OPERATION: operation} if error is None else {OPERATION: operation, ERROR: error}
        self._operation_s.record(took_s, attributes)

    def _run(self, event: RunEvent) -> None:
        report = event.report
        if report is None:
            self._timed(event.command, event.took_s, event.error)
            return
        operation = f"{event.command} --dry-run" if report.dry_run else event.command
        self._timed(operation, event.took_s, None if report.stopped in _AS_TOLD else report.stopped)
        for outcome, rows in report.found.items():
            self._items.add(rows, {OPERATION: operation, OUTCOME: outcome})

    def _ring_event(self, event: KeyEvent) -> None:
        ring = event.place if event.ring is None else event.ring
        attributes = {RING: self._names.shown(ring), SCHEME: scheme_of(event.place), EVENT: event.what}
        if event.error is not None:
            attributes[ERROR] = event.error
        self._ring_events.add(1, attributes)

    def call(self, call: ProviderCall) -> Callable[[BaseException | None], None]:
        """Time a call to a provider."""
        began = time.perf_counter()
        attributes = {SCHEME: scheme_of(call.place), QUESTION: call.question}

        def end(error: BaseException | None) -> None:
            if error is not None:
                attributes[ERROR] = type(error).__name__
            self._call_s.record(time.perf_counter() - began, attributes)

        return end

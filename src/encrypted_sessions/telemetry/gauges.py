"""What is looked at when metrics are collected: how each ring is, how old its keys are, what audit logs lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from opentelemetry.metrics import Meter, Observation

from keyproviders import RingSnapshot, snapshot_rings

from .bounds import MOST_KEYS, RingNames, scheme_of
from .names import (
    AUDIT_LINES_LOST,
    KEY_AGE,
    KID,
    OTHER,
    RING,
    RING_ANSWER_AGE,
    RING_KEYS,
    RING_STUCK_CALLS,
    RING_TIME_LEFT,
    SCHEME,
    USE,
)

__all__ = ["Gauges"]

_Series = tuple[tuple[str, str], ...]
_Values = Iterator[tuple[dict[str, str], float]]
_READ, _WRITE = "read", "write"


class Gauges:
    """What one meter observes. What a meter has cannot be taken back, so `names` is None where nobody looks.

    Where several rings share a series, it shows the worst of them.
    """

    def __init__(self, meter: Meter) -> None:
        self.names: RingNames | None = None
        self._rings: tuple[RingSnapshot, ...] = ()
        self._shown: set[str] = set()
        gauges: tuple[tuple[str, str, str, Callable[[RingSnapshot], _Values], Callable[..., float]], ...] = (
            (RING_TIME_LEFT, "s", "How long reading and writing continue if no place of keys answers.",
             _time_left, min),
            (RING_ANSWER_AGE, "s", "Time since the place last said which key is active.", _answer_age, max),
            (RING_KEYS, "{key}", "Keys that are held.", _keys, min),
            (RING_STUCK_CALLS, "{call}", "Calls to the place that take longer than callers wait.", _stuck_calls, max),
            (KEY_AGE, "s", "Age of the held keys whose place says when they were made.", _key_ages, max),
        )  # fmt: skip
        for name, unit, description, values, worst in gauges:
            meter.create_observable_gauge(
                name, [self._callback(name, values, worst)], unit=unit, description=description
            )
        meter.create_observable_counter(
            AUDIT_LINES_LOST, [self._lines_lost], unit="{line}", description="Lines that an audit log could not write."
        )

    def _lines_lost(self, _: Any) -> list[Observation]:
        # Not imported where nobody keeps one.
        audit = sys.modules.get(f"{__package__.rpartition('.')[0]}.audit.log")
        if audit is None or self.names is None:
            return []
        return [Observation(sum(log.lines_lost for log in list(audit._logs)))]  # noqa: SLF001 - the one list of them there is

    def _callback(
        self, name: str, values: Callable[[RingSnapshot], _Values], worst: Callable[..., float]
    ) -> Callable[[Any], Iterable[Observation]]:
        def observe(_: Any) -> list[Observation]:
            names = self.names
            if names is None:
                return []
            series: dict[_Series, float] = {}
            for ring in self._snapshot(name):
                shown = {RING: names.shown(ring.ring), SCHEME: scheme_of(ring.place)}
                for attributes, value in values(ring):
                    key = tuple({**shown, **attributes}.items())
                    series[key] = worst(series[key], value) if key in series else value
            return [Observation(value, dict(key)) for key, value in series.items()]

        return observe

    def _snapshot(self, gauge: str) -> tuple[RingSnapshot, ...]:
        """The rings as they are: looked at once for all gauges that are collected together."""
        if not self._shown or gauge in self._shown:
            self._rings, self._shown = snapshot_rings(), set()
        self._shown.add(gauge)
        return self._rings


def _time_left(ring: RingSnapshot) -> _Values:
    # Of a ring that nobody uses, time runs out although nothing is wrong.
    if not ring.is_resting:
        yield {USE: _WRITE}, ring.health.writes_for_s
        yield {USE: _READ}, ring.health.reads_for_s


def _answer_age(ring: RingSnapshot) -> _Values:
    if not ring.is_resting and ring.health.active_age_s is not None:
        yield {}, ring.health.active_age_s


def _keys(ring: RingSnapshot) -> _Values:
    yield {}, len(ring.health.held)


def _stuck_calls(ring: RingSnapshot) -> _Values:
    yield {}, len(ring.health.stuck)


def _key_ages(ring: RingSnapshot) -> _Values:
    now, active = datetime.now(timezone.utc), ring.health.active_kid
    ages = {kid: (now - made).total_seconds() for kid, made in ring.created_at.items() if made is not None}
    by_rank = sorted(ages, key=lambda kid: (kid != active, ages[kid]))
    for rank, kid in enumerate(by_rank):
        yield {KID: kid if rank < MOST_KEYS else OTHER, USE: _WRITE if kid == active else _READ}, max(0.0, ages[kid])

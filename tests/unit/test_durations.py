"""Seconds in words, as each place has them."""

from __future__ import annotations

import pytest

from encrypted_sessions._support.durations import (
    DELAYS,
    RUNS,
    STEPS,
    Unit,
    format_clock,
    format_duration,
    format_minutes,
)


@pytest.mark.parametrize(
    ("units", "seconds", "words"),
    [
        (STEPS, 0.0, "0.0 ms"),
        (STEPS, 0.0123, "12.3 ms"),
        (STEPS, 1.0, "1.0 s"),
        (STEPS, 5_000.0, "5000.0 s"),
        (RUNS, 0.04, "0.0 s"),
        (RUNS, 119.9, "119.9 s"),
        (RUNS, 120.0, "2.0 minutes"),
        (RUNS, 9_000.0, "150.0 minutes"),
        (DELAYS, 0.0, "0 s"),
        (DELAYS, 119.0, "119 s"),
        (DELAYS, 1_260, "21 min"),
        (DELAYS, 7_200, "2.0 h"),
        (DELAYS, 90_000, "25.0 h"),
    ],
)
def test_a_duration_is_a_number_in_the_first_unit_that_fits(units: tuple[Unit, ...], seconds: float, words: str):
    assert format_duration(seconds, units) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (60, "1 minute"),
        (90, "1.5 minutes"),
        (900, "15 minutes"),
        (7_200, "120 minutes (2 h)"),
        (86_400, "1,440 minutes (24 h)"),
        (7_260, "121 minutes"),
    ],
)
def test_minutes_name_the_hours_where_they_are_whole(seconds: float, words: str):
    assert format_minutes(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "short", "long"),
    [
        (5, "0:05", "0:00:05"),
        (125, "2:05", "0:02:05"),
        (3_725, "1:02:05", "1:02:05"),
        (360_000, "100:00:00", "100:00:00"),
    ],
)
def test_a_clock_has_hours_when_they_pass_or_are_asked_for(seconds: int, short: str, long: str):
    assert (format_clock(seconds), format_clock(seconds, hours=True)) == (short, long)

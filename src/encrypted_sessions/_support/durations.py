"""Seconds in words, as a sentence, a table and a clock have them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "DELAYS",
    "RUNS",
    "STEPS",
    "Unit",
    "format_clock",
    "format_duration",
    "format_minutes",
    "format_option",
    "parse_duration",
]


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h|d)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Unit(NamedTuple):
    """A unit, for durations that are shorter than `below_s`."""

    name: str
    seconds: float
    digits: int
    below_s: float = math.inf


#: How long a step took.
STEPS = (Unit("ms", 1e-3, 1, below_s=1), Unit("s", 1, 1))
#: How long a run took.
RUNS = (Unit("s", 1, 1, below_s=120), Unit("minutes", 60, 1))
#: How long it is until something happens.
DELAYS = (Unit("s", 1, 0, below_s=120), Unit("min", 60, 0, below_s=7_200), Unit("h", 3_600, 1))


def format_duration(seconds: float, units: Sequence[Unit]) -> str:
    """A rounded number in the first of the units that fits."""
    unit = next(unit for unit in units if seconds < unit.below_s)
    return f"{seconds / unit.seconds:.{unit.digits}f} {unit.name}"


def format_minutes(seconds: float) -> str:
    """Minutes for a sentence, with the hours where they are whole: `1,440 minutes (24 h)`."""
    minutes = seconds / 60
    number = f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.3g}"
    unit = "minute" if number == "1" else "minutes"
    return f"{number} {unit}" + (f" ({minutes / 60:g} h)" if minutes >= 120 and minutes % 60 == 0 else "")


def format_clock(seconds: int, *, hours: bool = False) -> str:
    """As a clock shows it, `2:05` or `1:02:05`; with `hours` always in the longer form."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if hours or minutes >= 60 else f"{minutes}:{rest:02}"


def parse_duration(text: str, name: str) -> float:
    """The seconds of what somebody wrote: `600`, `90m`, `12h`, `1.5d`; a number alone is seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{name} must be a time such as 600, 90m, 12h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


def format_option(seconds: int) -> str:
    """The shortest of what `parse_duration` reads as that many seconds: `40d`, `90m`, `601`."""
    unit = next((unit for unit in ("d", "h", "m") if seconds and seconds % _SECONDS[unit] == 0), None)
    return f"{seconds // _SECONDS[unit]}{unit or ''}"

"""Taking turns, medians, and tables: what every measurement here needs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class Table:
    """What one measurement found, ready to print."""

    title: str
    columns: Sequence[str]
    note: str
    """What was measured, and how."""
    rows: list[list[str]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """Targets that were not met."""

    def add(self, label: str, *cells: str) -> None:
        self.rows.append([label, *cells])

    def judged(self, label: str, value: float, target: float, words: str | None = None) -> tuple[str, str]:
        """The cells "target" and "met" for a value that must not exceed its target."""
        met = value <= target
        if not met:
            self.missed.append(f"{self.title}, {label}")
        return words or f"{target:.2f}", "yes" if met else "NO"

    def markdown(self) -> str:
        lines = [_line(self.columns), _line(["---"] + ["---:"] * (len(self.columns) - 1)), *map(_line, self.rows)]
        return f"## {self.title}\n\n{self.note}\n\n" + "\n".join(lines) + "\n"

    def text(self) -> str:
        """The same for a terminal."""
        lines = [list(self.columns), *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return f"{self.title}\n" + "".join(f"  {_aligned(line, widths)}\n" for line in lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest])


def in_turn(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """For each round the order in which to measure: everyone comes first, and after everyone, as often."""
    for number in range(rounds):
        start = number // 2 % len(names)
        order = [*names[start:], *names[:start]]
        yield order[::-1] if number % 2 else order


class Taken(NamedTuple):
    """Seconds by the clock on the wall, and of processor time of all threads."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, start: Taken | None = None) -> Taken:
        """What was taken since `start`, which is what this gave without an argument."""
        now = (time.perf_counter(), time.process_time())
        return cls(*now) if start is None else cls(now[0] - start.wall, now[1] - start.cpu)


class Samples:
    """What each subject took, one value for each round."""

    def __init__(self) -> None:
        self._taken: dict[str, list[Taken]] = {}

    def add(self, name: str, taken: Taken) -> None:
        self._taken.setdefault(name, []).append(taken)

    def median(self, name: str) -> float:
        return statistics.median(taken.wall for taken in self._taken[name])

    def least_cpu(self, name: str) -> float:
        """The least processor time, which other work on the machine disturbs least."""
        return min(taken.cpu for taken in self._taken[name])

    def ratio(self, name: str, to: str) -> float:
        """The median of the ratios within the rounds: what disturbs a round disturbs both of its halves."""
        return self._ratio(name, to, 0)

    def cpu_ratio(self, name: str, to: str) -> float:
        """The same for processor time, which other work on the machine disturbs less."""
        return self._ratio(name, to, 1)

    def _ratio(self, name: str, to: str, place: int) -> float:
        pairs = zip(self._taken[name], self._taken[to], strict=True)
        return statistics.median(mine[place] / other[place] for mine, other in pairs)


def ms(seconds: float) -> str:
    """Seconds as milliseconds with three digits that say something."""
    value = seconds * 1e3
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"

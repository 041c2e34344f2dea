"""What is shown while a run goes on: a bar on a terminal, lines of JSON for programs, else nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._support.durations import format_clock
from .._support.terminal import is_terminal
from ..maintenance.progress import Progress

__all__ = ["Show", "shown"]

#: Seconds between two lines of JSON.
_EVERY_S = 1.0

#: Columns of the bar itself.
_NARROWEST, _WIDEST = 8, 40

Show = Callable[[Progress], None]


@contextmanager
def shown(command: str, *, as_json: bool) -> Iterator[Show | None]:
    """What to call with each progress, None where nothing is shown."""
    if as_json:
        yield _Lines(command).show
    elif is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        with _bar(command) as show:
            yield show
    else:
        yield None


class _Lines:
    """One line of JSON per interval, on stdout."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._printed_at: float | None = None

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._printed_at is not None and now - self._printed_at < _EVERY_S:
            return
        self._printed_at = now
        line = {
            "event": "progress",
            "command": self._command,
            **progress._asdict(),
            "rate": round(progress.rate, 1),
            "left_s": None if progress.left_s is None else round(progress.left_s, 1),
        }
        print(json.dumps(line), flush=True)  # noqa: T201 - this is what the command prints


@contextmanager
def _bar(command: str) -> Iterator[Show]:
    """A bar with the rate and the time left, on stderr; gone at the end."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn  # noqa: PLC0415 - likewise
    from rich.progress import Progress as Bar  # noqa: PLC0415 - likewise
    from rich.table import Column  # noqa: PLC0415 - likewise

    console = Console(stderr=True)
    bar_width = max(_NARROWEST, min(_WIDEST, console.width // 4))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True)),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(command, total=None, rate="")

        def show(progress: Progress) -> None:
            room = console.width - len(command) - bar_width - len("  100%  ")
            bar.update(task, total=max(progress.total, 1), completed=progress.seen, rate=_rate(progress, room))

        yield show


def _rate(progress: Progress, room: int) -> str:
    """How far it is and how fast, as much of it as there is room for."""
    rows = f"{progress.seen:,} of about {progress.total:,} rows"
    left = "" if progress.left_s is None else f"{format_clock(round(progress.left_s))} left"
    rate, changed = f"{progress.rate:,.0f}/s", f"{progress.changed:,} changed" if progress.changed else ""
    for shown in ((rows, rate, changed, left), (rows, changed, left), (rows, left), (left,)):
        text = ", ".join(filter(None, shown))
        if len(text) <= room:
            return text
    return ""

"""What is shown while a run goes on: a bar on a terminal, lines of JSON for programs, else nothing."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from encrypted_sessions.maintenance.progress import Progress

#: Seconds between two lines of JSON.
_EVERY_S = 1.0

Show = Callable[[Progress], None]


@contextmanager
def shown(command: str, *, as_json: bool) -> Iterator[Show | None]:
    """What to call with each progress, None where nothing is shown."""
    if as_json:
        yield _Lines(command).show
    elif sys.stderr.isatty():
        with _bar(command) as show:
            yield show
    else:
        yield None


class _Lines:
    """One line of JSON per interval, on stdout."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._told_at: float | None = None

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < _EVERY_S:
            return
        self._told_at = now
        told = {
            "event": "progress",
            "command": self._command,
            **progress._asdict(),
            "rate": round(progress.rate, 1),
            "left_s": None if progress.left_s is None else round(progress.left_s, 1),
        }
        print(json.dumps(told), flush=True)  # noqa: T201 - this is what the command prints


@contextmanager
def _bar(command: str) -> Iterator[Show]:
    """A bar with the rate and the time left, on stderr; gone at the end."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn  # noqa: PLC0415 - likewise
    from rich.progress import Progress as Bar  # noqa: PLC0415 - likewise

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[told]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(command, total=None, told="")

        def show(progress: Progress) -> None:
            bar.update(task, total=max(progress.total, 1), completed=progress.seen, told=_told(progress))

        yield show


def _told(progress: Progress) -> str:
    left = "" if progress.left_s is None else f", {_minutes(progress.left_s)} left"
    changed = f", {progress.changed:,} changed" if progress.changed else ""
    return f"{progress.seen:,} of about {progress.total:,} rows, {progress.rate:,.0f}/s{changed}{left}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class Stop:
    """Whether somebody wants the run to end: the first signal asks for that, the second one forces it."""

    def __init__(self) -> None:
        self._asked = False

    def was_asked(self) -> bool:
        """Whether a signal came."""
        return self._asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP meanwhile."""
        if threading.current_thread() is not threading.main_thread():  # only that one may
            yield
            return
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {number: signal.signal(number, self._ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            signal.default_int_handler(number, frame)
        self._asked = True
        sys.stderr.write("\nStopping after this batch; once more to stop at once.\n")

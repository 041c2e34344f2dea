"""What is shown while a run goes on: a bar on a terminal, lines of JSON for programs, else nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

from ..maintenance.progress import Progress

#: Seconds between two lines of JSON.
_EVERY_S = 1.0

Show = Callable[[Progress], None]
_T = TypeVar("_T")


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
    """Whether somebody wants the work to end. The first signal asks for that, the next one cancels it.

    Nothing is raised where a signal happens to arrive: a step of the store that has begun ends, and
    what is open is closed.
    """

    def __init__(self, *, patient: bool = True) -> None:
        """Where nobody looks at `was_asked`, it is not `patient`: the first signal cancels."""
        self._patient = patient
        self._asked = False

    def was_asked(self) -> bool:
        """Whether a signal came."""
        return self._asked

    async def heeding(self, work: Awaitable[_T]) -> _T:
        """Wait for `work`, and take SIGINT, SIGTERM and SIGHUP meanwhile. Raises CancelledError when cancelled."""
        if threading.current_thread() is not threading.main_thread():  # only that one may
            return await work
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: this is a coroutine

        def take(_number: int, _frame: FrameType | None) -> None:
            is_first, self._asked = not self._asked, True
            if self._patient and is_first:
                _say("Stopping after this batch; once more to break off.")
            else:
                _say("Breaking off as soon as the store answers.")
                loop.call_soon_threadsafe(task.cancel)

        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, take) for number in numbers}
        try:
            return await work
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _say(sentence: str) -> None:
    """Write it to stderr from within a signal's handler: unbuffered, and the terminal may be gone."""
    with suppress(OSError):
        os.write(2, f"\n{sentence}\n".encode())

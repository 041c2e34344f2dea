"""What Ctrl-C, SIGTERM and SIGHUP do while no work goes on that has to end well."""

# Little is imported: until it is, a signal does what Python does with it.
from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .exit_codes import INTERRUPTED

__all__ = ["exit_on_signals", "signals_raise"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def exit_on_signals() -> None:
    """From here on each of them ends the process at once and quietly; one that is ignored stays so.

    A KeyboardInterrupt would come up anywhere: in an import, where it is a traceback, within typer,
    which ends with codes of its own, or while Python ends, where nobody can catch it.
    """
    for number in _numbers():
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _exit)
    atexit.register(_ignore_signals)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it each of them raises KeyboardInterrupt, so that a command can leave things in order.

    It can come up while this is entered or left, so what catches it belongs around this.
    """
    changed = [number for number in _numbers() if signal.getsignal(number) is _exit]
    try:
        for number in changed:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number in changed:
            signal.signal(number, _exit)


def _numbers() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__]


def _ignore_signals() -> None:
    """At the very end, when all is done: Python would put back what kills it with a code of the signal's."""
    for number in _numbers():
        if signal.getsignal(number) is _exit:
            signal.signal(number, signal.SIG_IGN)


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)

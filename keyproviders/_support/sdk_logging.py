"""Keeps what SDKs log for debugging quiet while we call them: requests and answers are in it, keys and tokens too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps

__all__ = ["quiet_sdk_logs"]

_SDKS = frozenset({"boto3", "botocore", "hvac", "requests", "urllib3"})


class _Depth(threading.local):
    """How many of our calls are under way in this thread, one within the other."""

    value = 0


_depth = _Depth()


@contextmanager
def quiet_sdk_logs() -> Iterator[None]:
    """Within it, nothing below INFO comes from any logger of an SDK in this thread.

    What the application logs, and what it does with the same SDKs in other threads or by itself,
    stays as it is: no level, handler or filter of any logger is changed.
    """
    _install()
    _depth.value += 1
    try:
        yield
    finally:
        _depth.value -= 1


@cache
def _install() -> None:
    """Let every logger ask first, once a process.

    A filter would have to be on each single logger (those of a parent see nothing of its children),
    and SDKs make loggers whenever they import a module: also amid a call. All of them come through
    this one method, before any handler does. Outside of our calls it does what it did.
    """
    handle = logging.Logger.handle

    @wraps(handle)
    def handle_unless_quiet(self: logging.Logger, record: logging.LogRecord) -> None:
        if _depth.value and record.levelno < logging.INFO and record.name.partition(".")[0] in _SDKS:
            return
        handle(self, record)

    logging.Logger.handle = handle_unless_quiet  # type: ignore[method-assign]  # see above

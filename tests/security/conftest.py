"""What the tests of secrecy share: the net under each of them."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator

import pytest

from encrypted_sessions_tests.leaks import Net


@pytest.fixture
def net(capfd: pytest.CaptureFixture[str]) -> Iterator[Net]:
    """Everything that a test lets out is in here, and the test fails if a piece of a sentinel is among it."""
    net = Net()

    class Catch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            net.log_record(record)

    handler = Catch(logging.NOTSET)
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    before = [(logger, logger.level, logger.disabled) for logger in loggers]
    ends = [logger for logger in loggers if logger.parent is None or not logger.propagate]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
    for logger in ends:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield net
    finally:
        # A ring's calls tell the log after they have told who waits.
        for thread in threading.enumerate():
            if thread.name == "keyproviders-call":
                thread.join(5)
        for logger in ends:
            logger.removeHandler(handler)
        for logger, level, disabled in before:
            logger.setLevel(level)
            logger.disabled = disabled
    for warning in told:
        net.add(f"{warning.category.__name__}", f"{warning.message} {warning.message!r}")
    written = capfd.readouterr()
    net.add("stdout", written.out)
    net.add("stderr", written.err)
    leaks = net.leaks()
    assert not leaks, "\n".join(["a sentinel came out:", *leaks])

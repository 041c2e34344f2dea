"""While a provider calls an SDK, nothing that the SDK logs for debugging comes out."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator

import pytest

from keyproviders._support.sdk_logging import quiet_sdk_logs


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What a root logger at DEBUG gets."""
    came: list[str] = []

    class Catch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            came.append(record.getMessage())

    handler, level = Catch(), logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    yield came
    logging.root.removeHandler(handler)
    logging.root.setLevel(level)


@pytest.fixture(params=["boto3", "botocore", "hvac", "requests", "urllib3", "botocore.parsers"])
def name(request: pytest.FixtureRequest) -> str:
    """A new one at each call."""
    return f"{request.param}.made_{secrets.token_hex(4)}"


def test_neither_a_logger_made_before_nor_one_made_within_a_call_says_what_is_for_debugging(
    log: list[str], name: str
) -> None:
    before = logging.getLogger(name)
    before.debug("outside")
    with quiet_sdk_logs():
        for logger in (before, logging.getLogger(f"{name}.later")):
            logger.setLevel(1)
            logger.debug("secret")
            logger.log(5, "secret")
            logger.info("told")
            logger.warning("told")
    assert log == ["outside"] + ["told"] * 4


def test_a_handler_of_the_logger_itself_gets_nothing_either(log: list[str], name: str) -> None:
    logger = logging.getLogger(name)
    logger.addHandler(logging.root.handlers[-1])
    with quiet_sdk_logs():
        logger.debug("secret")
    assert log == []


def test_what_others_log_stays_as_it_is(log: list[str], name: str) -> None:
    with quiet_sdk_logs():
        logging.getLogger("application").debug("mine")
        logging.getLogger(f"botocore_of_mine.{secrets.token_hex(4)}").debug("mine")
        other = threading.Thread(target=logging.getLogger(name).debug, args=("of another thread",))
        other.start()
        other.join()
    logging.getLogger(name).debug("after")
    assert log == ["mine", "mine", "of another thread", "after"]


def test_it_ends_with_the_outermost_call_also_by_an_error(log: list[str], name: str) -> None:
    def call() -> None:
        with quiet_sdk_logs():
            with quiet_sdk_logs():
                pass
            logging.getLogger(name).debug("secret")
            raise KeyError

    with pytest.raises(KeyError):
        call()
    logging.getLogger(name).debug("after")
    assert log == ["after"]

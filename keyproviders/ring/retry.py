"""The one module that repeats a call to a provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import KeyUnavailableError
from .policies import RetryPolicy

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["call_with_retry"]

_Answer = TypeVar("_Answer")

# What a source asks for is heeded this far; a longer wait is the background's business.
_LONGEST_RETRY_AFTER_S = 5.0
# The first wait is drawn from 1 to 4 times the shortest one, the next from twice that, and so on:
# far enough apart that a fleet which lost its provider in one moment does not return in one.
_SPREAD = 4.0


def call_with_retry(
    call: Callable[[], _Answer],
    policy: RetryPolicy,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> _Answer:
    """Make `call`, and again when it raises KeyUnavailableError, as `policy` says.

    Waits between attempts are random (full jitter) and at least what the provider asked for, as far
    as 5 s. No attempt begins after the policy's deadline. The last error is raised as it is; every
    other error at once.
    """
    started = clock()
    try:
        return call()
    except KeyUnavailableError as error:
        if policy.attempts == 1:
            raise
        first = error
    try:
        return _again(call, first, policy, started=started, clock=clock, sleep=sleep)
    finally:
        del first  # this frame and the error would hold each other


def _again(
    call: Callable[[], _Answer],
    first: KeyUnavailableError,
    policy: RetryPolicy,
    *,
    started: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> _Answer:
    # Only a process whose provider has failed pays for this import.
    from tenacity import Retrying, retry_if_exception_type, wait_random_exponential  # noqa: PLC0415 - as said above

    first_error: list[KeyUnavailableError] = [first]

    def attempt() -> _Answer:
        # The first attempt is made already; what it raised stands for it, so that the library
        # counts it and waits after it.
        if first_error:
            raise first_error.pop()
        return call()

    jitter = wait_random_exponential(
        multiplier=policy.wait_min_s * _SPREAD, min=policy.wait_min_s, max=policy.wait_max_s
    )

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after_s if isinstance(error, KeyUnavailableError) else None
        return max(jitter(state), min(asked or 0.0, _LONGEST_RETRY_AFTER_S))

    def stop(state: RetryCallState) -> bool:
        too_late = clock() - started + state.upcoming_sleep >= policy.deadline_s
        return state.attempt_number >= policy.attempts or too_late

    del first
    return Retrying(
        sleep=sleep,
        stop=stop,
        wait=wait,
        retry=retry_if_exception_type(KeyUnavailableError),
        reraise=True,
    )(attempt)

"""Errors leave this library's functions without local variables that a tracker could record."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import pytest

from keyproviders import redact_frames

SENTINEL = "sentinel-of-this-test"


def inside(function: Callable[..., Any], package: str = "keyproviders.somewhere") -> Any:
    """The function as if a module of this library had it."""
    assert isinstance(function, FunctionType)
    names = {**function.__globals__, "__name__": package}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


def shown(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def fail(secret: str) -> None:
    kept = [secret]
    raise ValueError(f"refused {len(kept)}")


async def fail_async(secret: str) -> None:
    kept = [secret]
    await asyncio.sleep(0)
    raise ValueError(f"refused {len(kept)}")


def test_without_redaction_the_traceback_would_show_it() -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        inside(fail)(SENTINEL)
    assert SENTINEL in shown(caught.value)


def test_the_frames_of_this_library_are_cleared() -> None:
    with pytest.raises(ValueError, match="refused 1") as caught:
        redact_frames(inside(fail))(SENTINEL)
    assert SENTINEL not in shown(caught.value)
    assert "in fail" in shown(caught.value)


def test_arguments_by_keyword_are_cleared_too() -> None:
    with pytest.raises(ValueError, match="refused 1") as caught:
        redact_frames(inside(fail))(secret=SENTINEL)
    assert SENTINEL not in shown(caught.value)


async def test_an_async_function_is_cleared_too() -> None:
    with pytest.raises(ValueError, match="refused 1") as caught:
        await redact_frames(inside(fail_async))(SENTINEL)
    assert SENTINEL not in shown(caught.value)


async def test_wrong_arguments_of_an_async_function_are_cleared_too() -> None:
    with pytest.raises(TypeError) as caught:
        await redact_frames(inside(fail_async))(SENTINEL, SENTINEL)
    assert SENTINEL not in shown(caught.value)


async def test_cancellation_passes_and_is_cleared() -> None:
    async def wait(secret: str) -> None:
        await asyncio.sleep(3600)
        raise AssertionError(secret)

    task = asyncio.ensure_future(redact_frames(inside(wait))(SENTINEL))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert SENTINEL not in shown(caught.value)


def test_causes_and_contexts_are_cleared_also_in_a_ring() -> None:
    def chain(secret: str) -> None:
        try:
            inside(fail)(secret)
        except ValueError as error:
            raise KeyError("cause") from error

    def context(secret: str) -> None:
        try:
            inside(chain)(secret)
        except KeyError as error:
            final = RuntimeError("last")
            cast("ValueError", error.__cause__).__context__ = final
            raise final  # noqa: B904 - the context is what is tested

    with pytest.raises(RuntimeError, match="last") as caught:
        redact_frames(inside(context))(SENTINEL)
    assert SENTINEL not in shown(caught.value)
    assert "cause" in shown(caught.value)


def test_frames_of_others_are_left_alone() -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        redact_frames(inside(fail, "keyproviders_of_somebody_else"))(SENTINEL)
    assert SENTINEL in shown(caught.value)


def test_a_result_and_the_name_pass_through() -> None:
    @redact_frames
    def double(number: int) -> int:
        """Twice."""
        return 2 * number

    assert double(4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


async def test_an_async_result_passes_through() -> None:
    @redact_frames
    async def double(number: int) -> int:
        return 2 * number

    assert await double(4) == 8


@pytest.mark.parametrize("no_function", [None, 5, "f"])
def test_what_is_no_function_is_refused(no_function: Any) -> None:
    with pytest.raises(TypeError, match="function must be callable"):
        redact_frames(no_function)

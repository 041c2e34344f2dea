"""Keeps secrets out of the local variables that a traceback carries.

Error trackers record the local variables of each frame of a traceback. A frame that decodes key
material has that material in a local, so an error about a key would publish the key. A function
under `redact_frames` empties such frames before its error leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["redact_frames"]

_PACKAGES = frozenset({"keyproviders", "encrypted_sessions"})

_Function = TypeVar("_Function", bound=Callable[..., Any])


def redact_frames(function: _Function) -> _Function:
    """Decorate a function, plain or async, so that its errors do not carry local variables of this project.

    When the function raises, the local variables of every finished frame that belongs to `keyproviders` or
    `encrypted_sessions` are cleared, along the whole chain of causes and contexts. The error itself, its message and
    its line numbers stay as they are. Frames that are still running (such as the caller's) cannot be cleared and are
    left alone.

    `@staticmethod` and `@classmethod` belong above this decorator. It does nothing for a
    generator, whose frame runs after the decorated call has returned.

    Args:
        function: The function.

    Returns:
        The decorated function.

    Raises:
        TypeError: The argument is not callable.
    """
    if not callable(function):
        raise TypeError(f"function must be callable, not {type(function).__name__}")
    if iscoroutinefunction(function):
        started = cast("Callable[..., Coroutine[Any, Any, Any]]", function)

        @wraps(function)
        async def redacted_async(*args: Any, **kwargs: Any) -> Any:
            running: Coroutine[Any, Any, Any] | None = None
            try:
                running = started(*args, **kwargs)
                # This frame shows in the traceback too, and it still runs when frames are cleared.
                del args, kwargs
                return await running
            except BaseException as error:
                args, kwargs, running = (), {}, None
                clear_frames(error)
                raise

        return cast("_Function", redacted_async)

    @wraps(function)
    def redacted(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            args, kwargs = (), {}
            clear_frames(error)
            raise

    return cast("_Function", redacted)


def clear_frames(error: BaseException) -> None:
    """Clear the local variables of this project's finished frames that `error` refers to."""
    for frame in _frames(error):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _PACKAGES:
            try:
                frame.clear()
            except RuntimeError:
                # It still runs, or waits in a generator: not ours to end.
                continue


def _frames(error: BaseException) -> Iterator[FrameType]:
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        step = current.__traceback__
        while step is not None:
            yield step.tb_frame
            step = step.tb_next
        # `exceptions` is what an exception group holds.
        linked = (
            current.__cause__,
            current.__context__,
            *getattr(current, "exceptions", ()),
        )
        waiting.extend(other for other in linked if isinstance(other, BaseException))

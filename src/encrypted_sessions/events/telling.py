"""The decorator of a session's methods that are told of. It is all that is there where nobody listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from keyproviders import redact_frames

from .listening import LISTENING

if TYPE_CHECKING:
    from .protocols import Telling

__all__ = ["told", "told_function"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Method = TypeVar("_Method", bound=Callable[..., Coroutine[Any, Any, Any]])


def told(*, changes: bool = False, name: str | None = None) -> Callable[[_Method], _Method]:
    """Have a method told as an operation of that name, or of its own; one that `changes` something, also before.

    It belongs below `redact_frames`: what it is called with are items.
    """

    def decorate(method: _Method) -> _Method:
        operation = name or method.__name__

        @wraps(method)
        async def telling(self: Telling, *args: Any, **kwargs: Any) -> Any:
            if not LISTENING.is_on:
                return await method(self, *args, **kwargs)
            from .operation import perform  # noqa: PLC0415 - nobody listens in most processes

            return await perform(operation, self, method, (self, *args), kwargs, changes=changes)

        return cast("_Method", telling)

    return decorate


def told_function(
    session: Telling, operation: str, function: Callable[_P, Awaitable[_T]]
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """The same for a function that changes something in a session."""

    @redact_frames
    @wraps(function)
    async def telling(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not LISTENING.is_on:
            return await function(*args, **kwargs)
        from .operation import perform  # noqa: PLC0415 - as above

        return await perform(operation, session, function, args, kwargs, changes=True)

    return telling

"""Have a run over a whole store told: its start, and its end, however it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..events.listening import LISTENING

if TYPE_CHECKING:
    from ..stores.whole import WholeStore

__all__ = ["told", "told_run"]

_T = TypeVar("_T")
_Function = TypeVar("_Function", bound=Callable[..., Coroutine[Any, Any, Any]])


def told(command: str) -> Callable[[_Function], _Function]:
    """Have a function told as a run of this command. Its first argument is the store."""

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        async def telling(store: WholeStore, *args: Any, **kwargs: Any) -> Any:
            return await told_run(command, store, partial(function, store, *args, **kwargs))

        return cast("_Function", telling)

    return decorate


async def told_run(command: str, store: WholeStore, run: Callable[[], Awaitable[_T]]) -> _T:
    """What `run` gives: a run of this command over that store."""
    if not LISTENING.is_on:
        return await run()
    from .run_telling import perform  # noqa: PLC0415 - nobody listens in most processes

    return await perform(command, store, run)

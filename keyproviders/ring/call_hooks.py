"""Who is told of each call to a provider, such as what measures and traces them. Nothing is made where nobody is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import TYPE_CHECKING

from .._support.hook_list import HookList
from .events import log

if TYPE_CHECKING:
    from .calls import InFlightCall
    from .provider_call import ProviderCall

__all__ = ["CallHook", "calling", "observe_calls", "running", "waits_for"]

# Further waiters of one call are not handed to hooks.
_MOST_WAITERS = 64


#: Is told that a call begins; what it gives is called at its end, with the error or None.
CallHook = Callable[["ProviderCall"], "Callable[[BaseException | None], object] | None"]

_hooks: HookList[CallHook] = HookList()
_thread = threading.local()
_NOTHING: AbstractContextManager[None] = nullcontext()


def observe_calls(hook: CallHook) -> Callable[[], None]:
    """Call a hook before each call to a provider of any ring of this process, from now on.

    It is called in the thread that makes the call, right before it. If it returns a function, that is called right
    after the call. Errors of both are logged.

    Args:
        hook: Called with each `ProviderCall`.

    Returns:
        A function without arguments that ends this. Calling it again does nothing.

    Raises:
        TypeError: The hook is not callable.
    """
    if not callable(hook):
        raise TypeError(f"hook must be callable, not {type(hook).__name__}")
    return _hooks.add(hook)


def waits_for(call: InFlightCall) -> None:
    """Who calls this waits for that call. To be called in the turn in which the call was made or joined."""
    if _hooks.hooks and len(call.waiters) < _MOST_WAITERS:
        call.waiters.append(copy_context())


def running(call: InFlightCall | None) -> None:
    """What this thread asks from now on, it asks for that call."""
    _thread.call = call


def calling(place: str, question: str) -> AbstractContextManager[None]:
    """For a `with` statement around a call to a provider."""
    return _Told(place, question) if _hooks.hooks else _NOTHING


class _Told:
    """Tells those hooks that there were when the call began."""

    def __init__(self, place: str, question: str) -> None:
        from .provider_call import ProviderCall  # noqa: PLC0415 - as said there

        call: InFlightCall | None = getattr(_thread, "call", None)
        kid, waiters = ("", []) if call is None else (call.kid, call.waiters)
        self._call = ProviderCall(place, question, kid or None, waiters)
        self._ends: list[Callable[[BaseException | None], object]] = []

    def __enter__(self) -> None:
        for hook in _hooks.hooks:
            try:
                end = hook(self._call)
            except Exception as failed:  # noqa: BLE001 - whatever somebody's function raises
                self._log(failed)
            else:
                if end is not None:
                    self._ends.append(end)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        while self._ends:
            try:
                self._ends.pop()(error)
            except Exception as failed:  # noqa: BLE001 - likewise
                self._log(failed)

    def _log(self, failed: Exception) -> None:
        # Not its words: nobody knows what they hold.
        log.error("a hook failed on a call to %s: %s", self._call.place, type(failed).__name__)

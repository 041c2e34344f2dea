"""Who is told: hooks of one session, and those of the whole process.

A hook is called in the caller's task when an operation has ended, under no lock. What it raises ends in the log,
and changes nothing. A `Recorder` that refuses is another thing: it is asked before as well, waited for, and
what it raises is raised.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from inspect import iscoroutinefunction
from types import CoroutineType, TracebackType
from typing import Any

from .listening import Hook

__all__ = [
    "Recorder",
    "ask",
    "ask_sync",
    "call_hook",
    "checked_hook",
    "next_sequence",
    "recorders",
    "tell",
    "tell_failure",
    "tell_failure_sync",
    "tell_start",
    "tell_start_sync",
    "tell_sync",
    "told",
    "wait",
]

logger = logging.getLogger("encrypted_sessions")

#: A hook that fails is told of once in so many seconds.
_REST_S = 60.0
_MOST_REMEMBERED = 64

_lock = threading.Lock()
_told_at: dict[str, tuple[float, int]] = {}
_numbers = itertools.count(1)


class Recorder:
    """A hook that may refuse: nothing is done of which it could not take note before.

    While `refuses` is false, it is called as any other hook. While it is true, it is called with the events of
    keys alone. Of an operation that changes something, and of each command, `before` is told first where it `asks`,
    and then `after`, with one `sequence`; of an operation that reads, `after` alone. Both are waited for; what they
    raise is raised: by `before` in the place of the operation, by `after` in the place of its result. An operation
    that was refused, or failed, is told to `after` too.

    Futures may be done at once, or later and in any thread.
    """

    #: Whether it is waited for, and asked.
    refuses: bool = True

    @property
    def asks(self) -> bool:
        """Whether it is told before. One that is not may still be waited for afterwards."""
        return self.refuses

    # Not abstract: `isinstance` of a class with an ABC's type takes as long as all else of an event together.

    def __call__(self, event: Any) -> object:
        """Take note of an event that nobody waits for."""
        raise NotImplementedError

    def before(self, event: Any) -> Future[None]:
        """Take note of what is to be done. `event` has the `sequence` of the result, and counts nothing yet."""
        raise NotImplementedError

    def after(self, event: Any) -> Future[None]:
        """Take note of what was done."""
        raise NotImplementedError


def checked_hook(value: object, argument: str = "on_event") -> Hook:
    """Something that can be called with an event, and does its work by then."""
    if not callable(value):
        raise TypeError(f"{argument} must be callable, not {type(value).__name__}")
    if isinstance(value, type):
        raise TypeError(f"{argument} must be a function, not the class {value.__name__} itself; make one of it")
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004 - an object
        raise TypeError(f"{argument} must be a plain function: a coroutine function would not be awaited")
    return value


def next_sequence() -> int:
    """The number of an operation in this process."""
    return next(_numbers)


def _begin_in_child() -> None:
    global _lock, _numbers  # noqa: PLW0603 - a forked child is another process
    _lock = threading.Lock()
    _numbers = itertools.count(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


# Before.


async def ask(hooks: Iterable[Hook], event: Any) -> None:
    """Have recorders take note of what is to be done; raises what keeps one from it."""
    for answer in [hook.before(event) for hook in recorders(hooks)]:
        await wait(answer)


def ask_sync(hooks: Iterable[Hook], event: Any) -> None:
    """The same without an event loop."""
    for answer in [hook.before(event) for hook in recorders(hooks)]:
        answer.result()


async def tell_start(hooks: Iterable[Hook], event: Any) -> None:
    """The same for an event of a start, which all others are told of too."""
    await ask(hooks, event)
    await tell(_others(hooks), event)


def tell_start_sync(hooks: Iterable[Hook], event: Any) -> None:
    """The same without an event loop."""
    ask_sync(hooks, event)
    tell_sync(_others(hooks), event)


# After.


async def tell(hooks: Iterable[Hook], event: Any) -> None:
    """Tell everybody what was done; raises what keeps a recorder from taking note, once all others are told."""
    for answer in told(hooks, event):
        await wait(answer)


def tell_sync(hooks: Iterable[Hook], event: Any) -> None:
    """The same without an event loop."""
    for answer in told(hooks, event):
        answer.result()


async def tell_failure(hooks: Iterable[Hook], event: Any, error: BaseException) -> None:
    """The same for what has failed with `error`, which is raised then.

    In its place what keeps a recorder from taking note, but not of what it refused itself, nor of a cancellation.
    """
    try:
        await tell(hooks, event)
    except Exception as refusal:
        if _comes_before(refusal, error):
            raise refusal from error


def tell_failure_sync(hooks: Iterable[Hook], event: Any, error: BaseException) -> None:
    """The same without an event loop."""
    try:
        tell_sync(hooks, event)
    except Exception as refusal:
        if _comes_before(refusal, error):
            raise refusal from error


def _comes_before(refusal: Exception, error: BaseException) -> bool:
    return isinstance(error, Exception) and type(error) is not type(refusal)


def told(hooks: Iterable[Hook], event: Any) -> list[Future[None]]:
    """Tell everybody what was done, and what recorders answer."""
    answers = []
    for hook in hooks:
        if isinstance(hook, Recorder) and hook.refuses:
            answers.append(hook.after(event))
        else:
            call_hook(hook, event)
    return answers


def recorders(hooks: Iterable[Hook]) -> list[Recorder]:
    """Those of the hooks that are asked."""
    return [hook for hook in hooks if isinstance(hook, Recorder) and hook.asks]


def _others(hooks: Iterable[Hook]) -> list[Hook]:
    asked = recorders(hooks)
    return [hook for hook in hooks if hook not in asked]


async def wait(answer: Future[None]) -> None:
    """Wait for what a recorder answers, also where the caller is cancelled."""
    if answer.done():
        return answer.result()
    # A caller that is cancelled must not take back a line that waits to be written.
    return await asyncio.shield(asyncio.wrap_future(answer))


# Hooks that fail.


def call_hook(hook: Hook, event: Any) -> None:
    """Tell one hook. What it raises ends in the log."""
    try:
        given = hook(event)
    except Exception as error:  # noqa: BLE001 - whatever somebody's function raises
        _log_failure(hook, type(error).__name__, error.__traceback__)
        return
    if type(given) is CoroutineType:
        given.close()
        _log_failure(hook, "it returned a coroutine, which is not awaited", None)


def _log_failure(hook: Hook, problem: str, trace: TracebackType | None) -> None:
    """Once a minute for each hook. Not the error's words: nobody knows what they hold."""
    name = f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"
    now = time.monotonic()
    with _lock:
        last, unsaid = _told_at.get(name, (float("-inf"), 0))
        is_due = now - last >= _REST_S
        if len(_told_at) >= _MOST_REMEMBERED:
            _told_at.clear()
        _told_at[name] = (now, 0) if is_due else (last, unsaid + 1)
    if not is_due:
        return
    where = ""
    while trace is not None:
        where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    more = f"; {unsaid} more since the last such record" if unsaid else ""
    logger.error("the hook %s failed: %s%s%s. Nothing else was affected", name, problem, where, more)

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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from inspect import iscoroutinefunction
from types import CoroutineType, TracebackType
from typing import Any

from keyproviders import redact_frames

from .listening import LISTENING, Hook

__all__ = [
    "Recorder",
    "ask",
    "ask_sync",
    "checked_hook",
    "next_sequence",
    "observe",
    "recorders",
    "tell",
    "tell_failure",
    "tell_failure_sync",
    "tell_plainly",
    "tell_start",
    "tell_start_sync",
    "tell_sync",
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
    keys alone. Of an operation that changes something, and of each command, `before` is told first, and then
    `after`, with one `sequence`; of an operation that reads, `after` alone. Both are waited for; what they raise is
    raised: by `before` in the place of the operation, by `after` in the place of its result. An operation that
    was refused, or failed, is told to `after` too.

    Futures may be done at once, or later and in any thread.
    """

    #: Whether it is asked.
    refuses: bool = True

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


@redact_frames
def observe(hook: Hook) -> Callable[[], None]:
    """Call a hook with every event of this process from now on, in whichever thread or event loop.

    Events are a `SessionEvent` for each operation of a session, a `RunEvent` for the start and the end of each run of
    maintenance, a `KeysetEvent` for the start and the end of each command `keys`, and a `KeyEvent` for what happens
    to the keys of each ring. Later releases may add others: a hook must ignore events that it does not know.

    It is called in the task or thread that caused the event, without a lock, so it must be quick. Its errors are
    logged, once a minute, and have no other effect. A hook that is given twice, or is also a session's `on_event`, is
    called once per event.

    Args:
        hook: Called with each event. It must not be a coroutine function.

    Returns:
        A function without arguments that ends this. Calling it again does nothing.

    Raises:
        TypeError: The hook is not callable, or is a coroutine function.
    """
    from keyproviders import observe as observe_rings  # noqa: PLC0415 - loads the ring, which shapes need not

    checked_hook(hook, "hook")
    with _lock:
        _observed.append(hook)
        LISTENING.hooks = _unique(_observed)
        LISTENING.is_on = True
    stop_rings = observe_rings(_KeyEvents(hook))
    once = threading.Lock()

    def stop() -> None:
        if not once.acquire(blocking=False):
            return
        stop_rings()
        with _lock:
            _observed.remove(hook)
            LISTENING.hooks = _unique(_observed)

    return stop


_observed: list[Hook] = []


def _unique(hooks: Sequence[Hook]) -> tuple[Hook, ...]:
    found: list[Hook] = []
    for hook in hooks:
        if hook not in found:
            found.append(hook)
    return tuple(found)


class _KeyEvents:
    """Hands the events of rings to a hook, as all others are. It equals that hook, so that a ring tells it once."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def __eq__(self, other: object) -> bool:
        return bool(self._hook == (other._hook if isinstance(other, _KeyEvents) else other))

    def __hash__(self) -> int:
        return hash(self._hook)

    def __call__(self, event: Any) -> None:
        _call(self._hook, event)


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
        await _wait(answer)


def ask_sync(hooks: Iterable[Hook], event: Any) -> None:
    """The same without an event loop."""
    for answer in [hook.before(event) for hook in recorders(hooks)]:
        answer.result()


async def tell_start(hooks: Iterable[Hook], event: Any) -> None:
    """The same for an event of a start, which all others are told of too."""
    await ask(hooks, event)
    _told(_others(hooks), event)


def tell_start_sync(hooks: Iterable[Hook], event: Any) -> None:
    """The same without an event loop."""
    ask_sync(hooks, event)
    _told(_others(hooks), event)


# After.


async def tell(hooks: Iterable[Hook], event: Any) -> None:
    """Tell everybody what was done; raises what keeps a recorder from taking note, once all others are told."""
    for answer in _told(hooks, event):
        await _wait(answer)


def tell_sync(hooks: Iterable[Hook], event: Any) -> None:
    """The same without an event loop."""
    for answer in _told(hooks, event):
        answer.result()


def tell_plainly(hooks: Iterable[Hook], event: Any) -> None:
    """Tell hooks of which none is a recorder that refuses."""
    for hook in hooks:
        _call(hook, event)


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


def _told(hooks: Iterable[Hook], event: Any) -> list[Future[None]]:
    """What recorders answer. All have been told."""
    answers = []
    for hook in hooks:
        if isinstance(hook, Recorder) and hook.refuses:
            answers.append(hook.after(event))
        else:
            _call(hook, event)
    return answers


def recorders(hooks: Iterable[Hook]) -> list[Recorder]:
    """Those of the hooks that are asked."""
    return [hook for hook in hooks if isinstance(hook, Recorder) and hook.refuses]


def _others(hooks: Iterable[Hook]) -> list[Hook]:
    asked = recorders(hooks)
    return [hook for hook in hooks if hook not in asked]


async def _wait(answer: Future[None]) -> None:
    # A caller that is cancelled must not take back a line that waits to be written.
    await asyncio.shield(asyncio.wrap_future(answer))


# Hooks that fail.


def _call(hook: Hook, event: Any) -> None:
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

"""Hooks of the whole process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from keyproviders import observe as observe_rings
from keyproviders import redact_frames

from .hooks import call_hook, checked_hook
from .keysets import watch_keysets
from .listening import LISTENING, Hook

__all__ = ["observe"]

_lock = threading.Lock()


def _unlock_in_child() -> None:
    global _lock  # noqa: PLW0603 - a forked child is another process
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


@redact_frames
def observe(hook: Hook) -> Callable[[], None]:
    """Call a hook with every event of this process from now on, in whichever thread or event loop.

    Events are a `SessionEvent` for each operation of a session, a `RunEvent` for the start and the end of each run of
    maintenance, a `KeysetEvent` for the start and the end of each command `keys` and of each change that a program
    makes to a keyset, and a `KeyEvent` for what happens to the keys of each ring. Later releases may add others: a
    hook must ignore events that it does not know.

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
    checked_hook(hook, "hook")
    with _lock:
        if not _observed:
            watch_keysets()
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
        call_hook(self._hook, event)

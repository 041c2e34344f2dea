"""Who is there already when an operation begins: what makes its span the current one."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["BeginningHook", "observe_beginnings", "tell_beginning"]

logger = logging.getLogger("encrypted_sessions")

#: Called with the `sequence` that the operation's event will have, its name, and the session's id.
BeginningHook = Callable[[int, str, str], object]

_hooks: tuple[BeginningHook, ...] = ()


def observe_beginnings(hook: BeginningHook) -> Callable[[], None]:
    """Have a hook called in the task of each operation of a session that begins. What it gives ends that."""
    global _hooks  # noqa: PLW0603 - the process has one list of them
    _hooks = (*_hooks, hook)

    def stop() -> None:
        global _hooks  # noqa: PLW0603 - likewise
        _hooks = tuple(one for one in _hooks if one is not hook)

    return stop


def tell_beginning(sequence: int, operation: str, session: str) -> None:
    """An operation begins. What a hook raises ends in the log."""
    for hook in _hooks:
        try:
            hook(sequence, operation, session)
        except Exception as error:  # noqa: BLE001 - whatever a tracer raises
            logger.error("a hook failed at the beginning of %s: %s", operation, type(error).__name__)  # noqa: TRY400 - nobody knows what its words hold

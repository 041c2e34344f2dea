"""Hooks that are called with each change of a keyset. Without any, nothing is created.

This is not in `keyset`, which takes long to load: a program that listens need not have a keyset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from .hook_list import HookList

__all__ = ["KeysetCall", "KeysetEnd", "KeysetHook", "Made", "changing", "is_heard", "observe_keysets"]


class KeysetCall(NamedTuple):
    """One change of a keyset that begins: one call of a method of `KeysetManager`.

    Attributes:
        command: The method's name, such as "rotate".
        place: What wraps the keys, and where they are stored.
        key: The name of the key, as it was given. None if it is about all keys, or if the name is made up.
        reason: The reason that was given, or None.
    """

    command: str
    place: str
    key: str | None
    reason: str | None


#: Is called at the end of a change, with the name of the key, and the error or None.
KeysetEnd = Callable[["str | None", "BaseException | None"], object]
#: Is told that a change begins; what it gives is called at its end.
KeysetHook = Callable[[KeysetCall], "KeysetEnd | None"]

_hooks = HookList[KeysetHook]()


def observe_keysets(hook: KeysetHook) -> Callable[[], None]:
    """Call a hook with each change that a `KeysetManager` of this process makes, from now on.

    It is called in the thread that makes the change, right before it. If it raises, the change is not made, and the
    error is passed on. If it returns a function, that is called right after the change, with the name of the key, and
    the error or None; what it raises is passed on, too.

    Args:
        hook: Called with each `KeysetCall`.

    Returns:
        A function without arguments that ends this. Calling it again does nothing.

    Raises:
        TypeError: The hook is not callable.
    """
    if not callable(hook):
        raise TypeError(f"hook must be callable, not {type(hook).__name__}")
    return _hooks.add(hook)


def is_heard() -> bool:
    """Whether anybody is told."""
    return bool(_hooks.hooks)


class Made:
    """What a change says of itself at its end: the name of the key, also of one that was made up."""

    def __init__(self, key: str | None) -> None:
        self.key = key


@contextmanager
def changing(call: KeysetCall) -> Iterator[Made]:
    """Around a change: those are told who listened when it began, of its end also where another one raises."""
    made = Made(call.key)
    with ExitStack() as ends:
        for hook in _hooks.hooks:
            end = hook(call)
            if end is not None:
                ends.push(partial(_end, made, end))
        yield made


def _end(made: Made, end: KeysetEnd, _: object, error: BaseException | None, __: object) -> None:
    end(made.key, error)

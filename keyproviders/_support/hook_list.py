"""Hooks that a process has, of one kind: whoever adds one gets what takes it out again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["HookList"]

_Hook = TypeVar("_Hook")


class HookList(Generic[_Hook]):
    """Kept by a module for as long as the process runs. `hooks` is replaced, and never changed."""

    def __init__(self) -> None:
        self.hooks: tuple[_Hook, ...] = ()
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.Lock()  # a forked child is another process

    def add(self, hook: _Hook) -> Callable[[], None]:
        """Add a hook. What it returns takes it out; calling that again does nothing."""
        own = [hook]  # not equal to that of another call with the same hook
        with self._lock:
            self.hooks = (*self.hooks, hook)

        def stop() -> None:
            with self._lock:
                if own:
                    left = list(self.hooks)
                    left.remove(own.pop())
                    self.hooks = tuple(left)

        return stop

"""What happens around a fork of the process.

Before it the threads that do nothing end, and all locks are taken; in the child every lock is new,
no thread is left, and what was under way is forgotten.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from .workers import WORKERS

__all__ = ["survive_forks", "survivors"]

_Owner = TypeVar("_Owner")

_Hooks = tuple[Callable[[Any], None], Callable[[Any], None], Callable[[Any], None]]

# What is done for each ring before a fork, after it in the parent, and after it in the child.
# Weakly: to be taken care of keeps no ring alive.
_members: weakref.WeakKeyDictionary[object, _Hooks] = weakref.WeakKeyDictionary()
_members_lock = threading.RLock()
_forking: list[tuple[object, _Hooks]] = []  # kept alive from before a fork until after it
_registered = False


def survive_forks(
    owner: _Owner,
    before: Callable[[_Owner], None],
    in_parent: Callable[[_Owner], None],
    in_child: Callable[[_Owner], None],
) -> None:
    """From now on call these with `owner` when the process forks, as long as it lives."""
    global _registered  # noqa: PLW0603 - hooks can be registered once and never be taken back
    with _members_lock:
        _members[owner] = (before, in_parent, in_child)
        if not _registered and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
            )
            _registered = True


def survivors() -> list[object]:
    """All that `survive_forks` was called with, of what lives."""
    with _members_lock:
        return list(_members)


def _before_fork() -> None:
    # One fork at a time, and the members' locks before the pool's: a ring that has its lock may
    # call the pool, never the other way round.
    _members_lock.acquire()
    WORKERS.quiesce()
    _forking.extend(_members.items())
    for owner, (before, _, _) in _forking:
        before(owner)
    WORKERS.lock.acquire()


def _after_fork_in_parent() -> None:
    WORKERS.lock.release()
    for owner, (_, in_parent, _) in _forking:
        in_parent(owner)
    _forking.clear()
    WORKERS.resume()
    _members_lock.release()


def _after_fork_in_child() -> None:
    global _members_lock  # noqa: PLW0603 - the parent's is held by a thread that is not here
    _members_lock = threading.RLock()
    WORKERS.reset()
    for owner, (_, _, in_child) in _forking:
        in_child(owner)
    _forking.clear()

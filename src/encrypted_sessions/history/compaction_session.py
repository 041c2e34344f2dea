"""A caller's compaction session with the encryption put in, between it and the store that it was made around."""

from __future__ import annotations

import asyncio
import logging
import time
import types
from collections.abc import Awaitable, Callable
from functools import lru_cache, wraps
from typing import Any

from .._support.shielding import ends_until
from ..errors import StoreTimeoutError

__all__ = ["compaction_around", "let_go_when_cancelled"]

logger = logging.getLogger("encrypted_sessions")

#: So long a replacement may go on by itself after its caller was cancelled, and no longer than half of `shield_s`.
_BREAK_OFF_S = 1.0

# The event loop itself keeps no task alive.
_held: set[asyncio.Task[None]] = set()

#: What the two do not have in common: what lies beneath, and what was seen there (items, or envelopes).
_APART = ("underlying_session", "_compaction_candidate_items", "_session_items")


def compaction_around(sealing: Any, compaction: Any) -> Any:
    """`compaction` as if it had been made around `sealing`, and not around the store itself.

    The caller's own stays as it is. Everything else is one and the same for both, also when it is set later: the
    lock, the client, the threshold, what was deferred. It keeps no state itself, and is made for each call: a
    session that held one would hold itself.
    """
    its_class: type = type(compaction)
    made: Any = object.__new__(_class_around(its_class))
    for name, value in {"__dict__": vars(compaction), **dict.fromkeys(_APART), "underlying_session": sealing}.items():
        object.__setattr__(made, name, value)  # a class of the caller's may have a way of its own
    return made


@lru_cache(maxsize=64)
def _class_around(compaction_class: type) -> type:
    """The class, with places for what is apart: a slot comes before the attribute of that name in `__dict__`."""
    members = {
        "__slots__": _APART,
        "__module__": compaction_class.__module__,
        "__qualname__": compaction_class.__qualname__,
    }
    return types.new_class(
        compaction_class.__name__, (compaction_class,), exec_body=lambda names: names.update(members)
    )


def let_go_when_cancelled(
    run_compaction: Callable[..., Awaitable[None]], shield_s: float, break_off: Callable[[], None]
) -> Callable[..., Awaitable[None]]:
    """`run_compaction`, of which a caller that was cancelled is let go after `shield_s`.

    The SDK waits for a replacement that has begun as long as the store takes for it. One that takes longer than
    a second is broken off where it can be. Raises CancelledError, with a StoreTimeoutError as its cause where the
    compaction goes on; the session's next change waits for its end, as the SDK makes it.
    """

    @wraps(run_compaction)
    async def run(*arguments: Any, **keywords: Any) -> None:
        task = asyncio.ensure_future(run_compaction(*arguments, **keywords))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
        else:
            return task.result()
        task.cancel()
        began = time.monotonic()
        if not await ends_until(began + min(_BREAK_OFF_S, shield_s / 2), task):
            break_off()
        if await ends_until(began + shield_s, task):
            if not task.cancelled():
                task.result()
            raise cancelled
        _held.add(task)
        task.add_done_callback(_ended)
        raise cancelled from StoreTimeoutError(
            f"compaction: the store had not answered {shield_s:g} s after the caller was cancelled. What was started"
            " continues; the session's next change waits for it",
            in_doubt=True,
        )

    return run


def _ended(task: asyncio.Task[None]) -> None:
    _held.discard(task)
    # Not the error's words: a database's may hold rows.
    how = "ended" if task.cancelled() or task.exception() is None else f"failed ({type(task.exception()).__name__})"
    logger.warning("the compaction that was abandoned when its caller was cancelled has %s", how)

"""One run over a whole store while somebody listens."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TypeVar

from ..events.context import context_now
from ..events.hooks import next_sequence, tell, tell_failure, tell_start
from ..events.listening import LISTENING
from ..events.shapes import Phase
from ..stores.whole import WholeStore
from .reports import Report
from .run_event import RunEvent

__all__ = ["perform"]

_T = TypeVar("_T")

#: The store of the run in this task: a command's function is a part of the command.
_running: ContextVar[WholeStore | None] = ContextVar("encrypted_sessions_run", default=None)


async def perform(command: str, store: WholeStore, run: Callable[[], Awaitable[_T]]) -> _T:
    """Run it, and tell its start and its end. A part of one that runs is told with that."""
    hooks = LISTENING.hooks
    if not hooks or _running.get() is store or not isinstance(store, WholeStore):  # which the function refuses
        return await run()
    sequence, began = next_sequence(), time.perf_counter()

    def event(phase: Phase, report: object, error: BaseException | None) -> RunEvent:
        return RunEvent(
            datetime.now(timezone.utc),
            sequence,
            command,
            phase,
            store.location,
            report if isinstance(report, Report) else None,
            None if error is None else type(error).__name__,
            0.0 if phase == "start" else time.perf_counter() - began,
            context_now(),
        )

    token = _running.set(store)
    try:
        await tell_start(hooks, event("start", None, None))
        result = await run()
    except GeneratorExit:
        raise
    except BaseException as error:
        _running.reset(token)
        await tell_failure(hooks, event("end", None, error), error)
        raise
    _running.reset(token)
    await tell(hooks, event("end", result, None))
    return result

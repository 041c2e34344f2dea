"""Prove that every row of a store is in order. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

from keyproviders import KeyRing, redact_frames

from ..stores.whole import WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .engine import Engine
from .operation import ReadOnlyOperation
from .progress import Progress
from .reports import VerifyReport
from .run import Run

__all__ = ["verify"]


class _Verify(ReadOnlyOperation):
    def decide(self, classified: ClassifiedRow) -> None:
        if classified.outcome not in ("ok", "expired", "erased", "not_opened"):
            self.run.leave(classified.outcome, classified)


@redact_frames
async def verify(
    store: WholeStore,
    keys: KeyRing,
    *,
    ttl: int | None = None,
    upstream_key: str | None = None,
    batch: int = 500,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> VerifyReport:
    """Open every row. In order is what opens, in time or expired by `ttl`, and what was erased with its key.

    Everything else is in the report's `left`, and up to 20 of such rows are named in `findings`.

    The other arguments and errors are those of `reencrypt`.
    """
    settings = arguments.settings(ttl=ttl, upstream_key=upstream_key, batch=batch, progress=progress, stop=stop)
    run = Run(arguments.store(store), arguments.keys(keys), settings)
    operation = _Verify(run)
    await Engine(operation).execute()
    return VerifyReport(**run.report_fields(), active_kid=operation.active_kid)

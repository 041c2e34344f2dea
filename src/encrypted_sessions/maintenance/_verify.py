"""Prove that every row of a store is in order. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from keyproviders import KeyRing, redact_frames

from ..stores.whole import WholeStore
from . import arguments
from .aggregation import Aggregation
from .classified_row import ClassifiedRow
from .engine import Engine
from .operation import ReadOnlyOperation
from .progress import Progress
from .realms import GivenRealms
from .reports import VerifyReport
from .run import Run
from .telling import told

__all__ = ["verify"]


class _Verify(ReadOnlyOperation):
    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.erased = Aggregation(run.settings.ttl)

    def decide(self, classified: ClassifiedRow) -> None:
        if classified.outcome == "erased":
            self.erased.add(classified)
        if classified.outcome not in ("ok", "expired", "erased", "not_opened"):
            self.run.leave(classified.outcome, classified)


@redact_frames
@told("verify")
async def verify(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing],
    *,
    ttl: int | None = None,
    realm: GivenRealms = "",
    upstream_key: str | None = None,
    upstream_until: datetime | None = None,
    batch: int = 500,
    max_row_bytes: int = 64 * 2**20,
    sessions: Iterable[str] | None = None,
    session_prefix: str | None = None,
    kids: Sequence[str] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> VerifyReport:
    """Open every row. Valid rows are those that open, expired by `ttl` or not, and those whose key was destroyed.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys that rows are opened with, a ring or several.
        ttl: Seconds after which an item expires. Without it, a row expires only at an end that its writer set.
        realm: The realm of rows of suite 2, several realms, each of which is tried, or a function that returns either
            for a session id. It has no effect in suite 1.
        upstream_key: The string that the SDK's own class was given as its key, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: later rows of the
            SDK's class are `unauthentic`. None for no end.
        batch: Rows read at once, at most.
        max_row_bytes: A row with more stored bytes is `too_large`: the report names it, and it stays.
        sessions: The ids of the sessions to work on; None for all. An id that does not exist is counted as left.
        session_prefix: The beginning of the ids of the sessions to work on, compared byte for byte; None for all.
        kids: Only rows that name one of these keys, as `inventory` shows them; rows of other keys are counted as
            `other_keys` and are not touched. None for all.
        progress: Called from time to time with the progress of the run.
        stop: Called between batches; the run ends when it returns True.

    Returns:
        Rows that are not valid, as `left`; `findings` names up to 20 of them. Rows of destroyed keys are counted by
            key, with their times: nobody can check what they say. An outage ends the run and is reported as
            `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store cannot be used.
        ProviderConfigError: A provider cannot work with its settings.
    """
    settings = arguments.settings(
        ttl=ttl,
        realm=realm,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        only_kids=kids,
        progress=progress,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    run = Run(arguments.store(store), arguments.keys(keys), settings)
    operation = _Verify(run)
    await Engine(operation).execute()
    run.notice_unmet_kids()
    return VerifyReport(**run.report_fields(), active_kid=operation.active_kid, erased=operation.erased.groups())

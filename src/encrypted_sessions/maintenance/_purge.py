"""Remove what expired, for good: only what is authentic, so that its age is proven."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from os import PathLike

from keyproviders import KeyRing, redact_frames

from ..core.cipher import NotAnItem
from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .engine import Engine
from .export import Export, Exporting
from .operation import DEFER, REMOVE, Action, Operation
from .progress import Progress
from .realms import GivenRealms
from .reports import PurgeReport
from .run import Run
from .telling import told
from .tool_calls import ExpiredCalls

__all__ = ["purge"]

#: Outcomes of rows whose age is proven, and of those whose content nobody gets at any more.
_NO_CONCERN_OF_PURGE = ("ok", "not_yet_valid", "erased", "not_opened")


class _Purge(Operation):
    def __init__(self, run: Run, export: Export | None) -> None:
        super().__init__(run)
        self.export = export
        self._calls = ExpiredCalls(run)
        self.kept = 0

    async def begin_page(self) -> None:
        await self.run.refuse_a_fast_clock()  # what it removes for good is judged by the clock

    def decide(self, classified: ClassifiedRow) -> Action | None:
        if classified.outcome == "expired":
            return DEFER if self._is_call(classified) else REMOVE
        if classified.outcome not in _NO_CONCERN_OF_PURGE:
            self.run.leave(classified.outcome, classified)
        return None

    def _is_call(self, classified: ClassifiedRow) -> bool:
        assert classified.opener is not None  # noqa: S101 - it is authentic, so it had a key
        assert classified.envelope is not None  # noqa: S101 - likewise
        try:
            item = classified.opener.open(classified.envelope)
        except NotAnItem:
            return False
        return self._calls.note(classified.row, item)

    async def release_deferred(self, rows: Sequence[StoredRow]) -> list[int]:
        released = await self._calls.releasable(rows)
        if self.run.first_pass:
            self.kept += len(rows) - len(released)
        return released


@redact_frames
@told("purge")
async def purge(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing],
    *,
    ttl: int,
    export: str | PathLike[str] | None = None,
    dry_run: bool = False,
    realm: GivenRealms = "",
    upstream_key: str | None = None,
    upstream_until: datetime | None = None,
    batch: int = 500,
    max_row_bytes: int = 64 * 2**20,
    limit: int | None = None,
    allow_triggers: Sequence[str] = (),
    replica_wait_s: float = 60.0,
    sessions: Iterable[str] | None = None,
    session_prefix: str | None = None,
    kids: Sequence[str] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> PurgeReport:
    """Remove authentic rows that are older than `ttl` seconds, or past the end that their writer set, and nothing else.

    An expired tool call stays while its output has not expired: a notice counts such calls.

    Rows that cannot be opened are left and counted, since their age is only claimed. So is plaintext.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys that rows are opened with, a ring or several.
        ttl: Seconds after which an item expires.
        export: The path of a file that does not exist yet, to which rows are written before they are removed, as
            `discard` does; None for none.
        dry_run: Only count what would be removed.
        realm: The realm of rows of suite 2, several realms, each of which is tried, or a function that returns either
            for a session id. It has no effect in suite 1.
        upstream_key: The string that the SDK's own class was given as its key, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: later rows of the
            SDK's class are `unauthentic`. None for no end.
        batch: Rows removed at once, at most.
        max_row_bytes: A row with more stored bytes is `too_large`: the report names it, and it stays.
        limit: Rows removed in all, at most.
        allow_triggers: Names of triggers, generated columns and virtual tables of the store to allow. There is then
            no guarantee for what they do to rows. Any other one ends the run before it changes anything.
        replica_wait_s: How many seconds to wait, at most, until every replica of the store is up to date; 0 to check
            once.
        sessions: The ids of the sessions to work on; None for all. An id that does not exist is counted as left.
        session_prefix: The beginning of the ids of the sessions to work on, compared byte for byte; None for all.
        kids: Only rows that name one of these keys, as `inventory` shows them; rows of other keys are counted as
            `other_keys` and are not touched. None for all.
        progress: Called from time to time with the progress of the run.
        stop: Called between batches; the run ends when it returns True.

    Returns:
        What was removed, what was left, and why. An outage ends the run and is reported as `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store has triggers or the like that were not allowed, or cannot be used, or its clock is
            behind this machine's, so that rows that have not expired would count as expired.
        ProviderConfigError: A provider cannot work with its settings.
        FileExistsError: There is a file at `export` already.
        OSError: The file cannot be created or written.
    """
    ttl = arguments.retention(ttl)
    settings = arguments.settings(
        ttl=ttl,
        realm=realm,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        limit=limit,
        dry_run=dry_run,
        allow_triggers=allow_triggers,
        replica_wait_s=replica_wait_s,
        only_kids=kids,
        progress=progress,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    path = arguments.new_file(export, "export", needed=False)
    rings, whole = arguments.keys(keys), arguments.store(store)
    with Exporting(path, whole, dry_run=dry_run) as exporting:
        run = Run(whole, rings, settings)
        operation = _Purge(run, exporting.file)
        await Engine(operation).execute()
    run.notice_unmet_kids()
    if operation.kept:
        run.notice(
            f"{_calls_stay(operation.kept)} until its output has expired too: without the call, a session"
            " would return an output alone, which a model refuses"
        )
    return PurgeReport(**run.report_fields(), ttl=ttl, export=exporting.path)


def _calls_stay(count: int) -> str:
    return f"{count:,} expired tool call stays" if count == 1 else f"{count:,} expired tool calls stay, each"

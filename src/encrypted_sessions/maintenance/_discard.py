"""Remove what nobody can read, once it was written to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from os import PathLike

from keyproviders import KeyRing, redact_frames

from ..stores.whole import WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .engine import Engine
from .export import Export, Exporting
from .kid_filter import OtherKeys, rows_by_kid
from .operation import REMOVE, Action, Operation
from .progress import Progress
from .realms import BINDS_NO_REALM, GivenRealms
from .refusals import RefusedUseError
from .reports import DiscardReport
from .run import Run
from .telling import told

__all__ = ["discard"]


class _Discard(Operation):
    def __init__(self, run: Run, outcome: str, export: Export | None, *, all_realms_given: bool) -> None:
        super().__init__(run)
        self._outcome = outcome
        self._all_realms_given = all_realms_given
        self.export = export

    async def begin_page(self) -> None:
        if self._outcome == "expired_unverified":
            await self.run.refuse_a_fast_clock()  # what it removes for good is judged by the clock
        elif self._outcome == "not_yet_valid":
            await self.run.refuse_a_slow_clock()

    def decide(self, classified: ClassifiedRow) -> Action | None:
        if classified.outcome == "too_large":  # nobody knows what it is
            self.run.leave("too_large", classified)
            return None
        if classified.outcome != self._outcome:
            return None
        if self._may_be_of_another_realm(classified):
            self.run.leave("in_another_realm", classified)
            return None
        return REMOVE

    def _may_be_of_another_realm(self, classified: ClassifiedRow) -> bool:
        """Whether a row is whole, for all that is known, and only not of the realms that were given."""
        if classified.outcome != "unauthentic" or self._all_realms_given:
            return False
        return classified.envelope is not None and classified.envelope.version != BINDS_NO_REALM


@redact_frames
@told("discard")
async def discard(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing],
    *,
    outcome: str,
    export: str | PathLike[str] | None,
    ttl: int | None = None,
    all_realms_given: bool = False,
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
) -> DiscardReport:
    """Remove the rows of one `outcome` that nobody can read now, after they were written to `export`.

    Only the file's owner may read it. It has one JSON object per line: "session_id", "id", "created_at" (seconds, or
    null), and the exact bytes as "data", or as "data_base64" if they are not UTF-8. A row is on the disk before it is
    removed, so the file may contain a row that stayed because it changed meanwhile. The last line has the count of
    the others ("rows") and their SHA-256; it is missing after a run that was killed. `put_back` reads such a file.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys to open rows with, a ring or several. A key is unknown if their places do not have it.
        outcome: One of erased, expired_unverified (needs `ttl`), late_key, malformed, not_yet_valid,
            plaintext, unauthentic, unknown_key, unsupported.
        export: The path of a file that does not exist yet. None is for dry runs only.
        ttl: Seconds after which an item expires.
        all_realms_given: With the outcome "unauthentic": `realm` names every realm of the store's rows, so that rows
            of suite 2 that open in none of them are removed too. Without it they stay, and are counted as left.
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
        What was removed, and the path of the file, None if nothing was written. An outage ends the run and is
            reported as `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed. Also "unknown_key" without `kids`, if there are such
            rows: they may belong to another tenant.
        StoreError: The store has triggers or the like that were not allowed, or cannot be used, or its clock is
            behind this machine's, so that rows that have not expired would count as expired.
        ProviderConfigError: A provider cannot work with its settings.
        FileExistsError: There is a file at `export` already.
        OSError: The file cannot be created or written.
    """
    outcome = arguments.discardable(outcome, ttl, all_realms_given=all_realms_given)
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
    arguments.refuse_kids_of_none(outcome, settings.kids)
    path = arguments.new_file(export, "export", needed=not dry_run)
    rings, whole = arguments.keys(keys), arguments.store(store)
    if outcome == "unknown_key" and not settings.is_limited:
        return await _refuse_unnamed(Run(whole, rings, settings._replace(dry_run=True)), dry_run=dry_run)
    with Exporting(path, whole, dry_run=dry_run) as exporting:
        run = Run(whole, rings, settings)
        operation = _Discard(run, outcome, exporting.file, all_realms_given=all_realms_given)
        await Engine(operation).execute()
    run.notice_unmet_kids()
    return DiscardReport(**run.report_fields(), outcome=outcome, export=exporting.path)


class _CountUnknown(Operation):
    """Counts the rows whose key no given place has, by the kids that they name."""

    changes = False

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.rows = OtherKeys()

    def decide(self, classified: ClassifiedRow) -> None:
        if classified.outcome == "unknown_key":
            self.rows.add(classified.kid)


async def _refuse_unnamed(run: Run, *, dry_run: bool) -> DiscardReport:
    """Discard rows of unknown keys where nobody said of which: none, for they may be another tenant's, and in time.

    What is older than the ttl by its own account is `expired_unverified`, so each such row claims to be in time.
    """
    operation = _CountUnknown(run)
    await Engine(operation).execute()
    if operation.rows.rows:
        raise RefusedUseError(_unnamed(operation.rows.rows))
    return DiscardReport(**{**run.report_fields(), "dry_run": dry_run}, outcome="unknown_key", export=None)


def _unnamed(rows: Mapping[str, int]) -> str:
    count = sum(rows.values())
    named = f"{count:,} row{'' if count == 1 else 's'} ({rows_by_kid(rows)})"
    return (
        f"none of the given places of keys has the keys of {named}, which have not expired: they may be another"
        " tenant's, so nothing was removed. Give the places of their keys; or name the keys whose rows to remove,"
        " with kids= (--kid"
        " KID). With a ttl, older rows are expired_unverified"
    )

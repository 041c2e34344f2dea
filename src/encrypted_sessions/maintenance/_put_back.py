"""Put back what a command took out, from the file that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from os import PathLike

from keyproviders import KeyProviderError, KeyRing, redact_frames

from ..errors import StoreUnavailableError
from ..history.classified import GROUP, Classifier, ReadPolicy
from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .exported_rows import ExportedRows
from .interruption import InterruptedRunError
from .keys import NOT_OPENED
from .progress import Progress, Ticker
from .realms import GivenRealms, RealmError
from .replicas import ReplicaWatch
from .reports import PutBackReport
from .resealing import AUTHENTIC
from .run import STAYS_DONE, Run
from .telling import told

__all__ = ["put_back"]

_GOES_ON = f"{STAYS_DONE}, and the next run continues from there"


class _PutBack:
    """Takes the rows of a file to their places, and notes what became of each."""

    def __init__(self, run: Run, rows: ExportedRows, *, unverified: bool) -> None:
        assert run.keys is not None  # noqa: S101 - checked where it entered
        self._run = run
        self._rows = rows
        self._keys = run.keys
        self._unverified = unverified
        self._classifier = Classifier[StoredRow](run.keys, self._policy, run.time_slice)
        self.already = 0

    def _policy(self) -> ReadPolicy:
        run = self._run
        return ReadPolicy(run.refresh_now(), None, read_plaintext=True, upstream_until=run.settings.upstream_until)

    async def go_through_file(self) -> None:
        run = self._run
        ticker = Ticker(run.settings.progress, self._rows.rows)
        for page in self._rows.pages(run.batch):
            run.raise_if_interrupted()
            await self._put(await self._chosen(page))
            ticker.tick(run.seen, run.changed)
        ticker.tick(run.seen, run.changed, end=True)

    async def _chosen(self, page: Sequence[StoredRow]) -> list[ClassifiedRow]:
        """Those of the rows that are to be put back."""
        run, most = self._run, self._run.settings.max_row_bytes
        chosen = []
        small = [row for row in page if row.size <= most]
        for row in page:
            if row.size > most:
                run.count("too_large")
                run.leave("too_large", ClassifiedRow(row, "too_large"))
        self._keys.begin_page(small)
        for start in range(0, len(small), GROUP):
            group = small[start : start + GROUP]
            for row, found in zip(group, await self._classifier.classify(group), strict=True):
                outcome = "not_opened" if found.outcome in NOT_OPENED else found.outcome
                kid = None if found.envelope is None else found.envelope.kid
                classified = ClassifiedRow(row, outcome, kid)
                run.count(outcome)
                if outcome in AUTHENTIC or self._unverified:
                    chosen.append(classified)
                else:
                    run.leave("unverified", classified)
        return chosen

    async def _put(self, chosen: Sequence[ClassifiedRow]) -> None:
        if not chosen:
            return
        run, rows = self._run, [classified.row for classified in chosen]
        places = await run.call(partial(run.store.put_back, rows, dry_run=run.settings.dry_run))
        for classified, place in zip(chosen, places, strict=True):
            if place == "free":
                run.changed_of[classified.outcome] += 1
            elif place == "already":
                self.already += 1
            else:
                run.leave(f"place_{place}", classified)


@redact_frames
@told("put-back")
async def put_back(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing],
    *,
    export: str | PathLike[str],
    unverified: bool = False,
    incomplete: bool = False,
    dry_run: bool = False,
    realm: GivenRealms = "",
    upstream_key: str | None = None,
    upstream_until: datetime | None = None,
    batch: int = 500,
    max_row_bytes: int = 64 * 2**20,
    allow_triggers: Sequence[str] = (),
    replica_wait_s: float = 60.0,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> PutBackReport:
    """Put back the rows of a file that `discard`, `purge` or `erase` wrote, each under its primary key, with its time.

    A row is put back if it opens and its primary key is free. It then has its former position in the session's
    history. The whole file is checked before the first row is put back. If a run was stopped or killed, the next run
    continues.

    Nothing proves what a file says beside its rows: keep it where only its owner can write.

    Args:
        store: A store from `open_store`, entered with `async with`: SQLite or PostgreSQL. Redis lists have no free
            positions, and files of `AdvancedSQLiteSession` contain more than rows.
        keys: The keys that rows are opened with, a ring or several.
        export: The path of the file.
        unverified: Also put back rows that do not open, as unreadable as they were.
        incomplete: Accept a file without its last line, which has the count and the SHA-256, as a killed run leaves
            it.
        dry_run: Only count what would be put back.
        realm: The realm of rows of suite 2, several realms, each of which is tried, or a function that returns either
            for a session id. It has no effect in suite 1.
        upstream_key: The string that the SDK's own class was given as its key, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: later rows of the
            SDK's class are `unauthentic`. None for no end.
        batch: Rows put back at once, at most.
        max_row_bytes: A row with more bytes is `too_large`: the report names it, and it stays in the file.
        allow_triggers: Names of triggers, generated columns and virtual tables of the store to allow. There is then
            no guarantee for what they do to rows. Any other one ends the run before it changes anything.
        replica_wait_s: How many seconds to wait, at most, until every replica of the store is up to date; 0 to check
            once.
        progress: Called from time to time with the progress of the run.
        stop: Called between batches; the run ends when it returns True.

    Returns:
        What was put back, what was there `already` with the same bytes, what was left, and why. An outage ends the
            run and is reported as `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed; or the file is not an export, was cut or changed, or
            comes from another kind of store.
        StoreError: Rows cannot be put back into this store, it has triggers or the like that were not allowed, or
            cannot be worked on.
        ProviderConfigError: A provider cannot work with its settings.
        OSError: The file cannot be read.
    """
    settings = arguments.settings(
        realm=realm,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        dry_run=dry_run,
        allow_triggers=allow_triggers,
        replica_wait_s=replica_wait_s,
        progress=progress,
        stop=stop,
    )
    path = arguments.file(export, "export")
    arguments.flag(unverified, "unverified")
    arguments.flag(incomplete, "incomplete")
    run = Run(arguments.store(store), arguments.keys(keys), settings)
    replicas, already = ReplicaWatch(run), 0
    with ExportedRows(path, max_row_bytes) as rows:
        operation = _PutBack(run, rows, unverified=unverified)
        try:
            await run.call(partial(run.store.put_back, ()))  # a store that cannot says so before anything else
            rows.check(run.store.kind, incomplete=incomplete)
            await replicas.begin()
            await run.refuse_side_effects()
            await operation.go_through_file()
        except InterruptedRunError:
            run.end("interrupted", f"it was asked to stop; {_GOES_ON}")
        except (KeyProviderError, RealmError, StoreUnavailableError) as error:
            run.end_by(error, _GOES_ON)
        already = operation.already
    if rows.repeated:
        run.notice(
            f"{rows.repeated:,} lines of the file belong to rows that changed while they were removed; the"
            " last line of each such row was put back"
        )
    await replicas.wait()
    return PutBackReport(**run.report_fields(), export=path, already=already)

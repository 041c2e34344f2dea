"""Remove every trace of named sessions. It needs no key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from os import PathLike
from typing import Any

from keyproviders import redact_frames

from ..errors import StoreUnavailableError
from ..stores.whole import WholeStore
from . import arguments
from .erasure import Erasure
from .erasure_record import ErasureRecord
from .export import Exporting
from .interruption import InterruptedRunError
from .replicas import ReplicaWatch
from .reports import EraseReport
from .run import STAYS_DONE, Run
from .session_filter import SessionFilter
from .session_ids import SessionIds
from .store_calls import checkpoint_store
from .telling import told

__all__ = ["erase"]


@redact_frames
@told("erase")
async def erase(
    store: WholeStore,
    sessions: Iterable[str] | None = None,
    *,
    session_prefix: str | None = None,
    expect: int | None = None,
    missing_ok: bool = False,
    report: str | PathLike[str] | None = None,
    export: str | PathLike[str] | None = None,
    dry_run: bool = False,
    allow_triggers: Sequence[str] = (),
    replica_wait_s: float = 60.0,
    stop: Callable[[], bool] | None = None,
) -> EraseReport:
    """Remove every trace of these sessions: messages, the session's own row, and everything else that the SDK noted.

    It needs no key. Nobody should write to these sessions meanwhile: rows that were added are counted as left. So are
    sessions that the store refuses to erase, and sessions that do not exist; the others are erased.

    Args:
        store: A store from `open_store`, entered with `async with`.
        sessions: The ids of sessions, at least one; or None, with `session_prefix`.
        session_prefix: The beginning of the ids of the sessions, compared byte for byte. It needs `expect`, except in
            a dry run.
        expect: How many sessions to erase: if the number differs from `named` in the report, nothing is erased.
        missing_ok: Whether to accept a session that does not exist, or a prefix that no id begins with.
        report: The path of a file for one line of JSON per erased session, with who erased it, when, and what could
            not be reached. A run with the same file continues after a run that was killed: sessions in the file do
            not count as missing.
        export: The path of a file that does not exist yet, to which rows are written before they are erased, as
            `discard` does; None for none. It is a copy that remains, and contains only the rows.
        dry_run: Only count what would be erased. The report file is then read, but not created or changed.
        allow_triggers: Names of triggers, generated columns and virtual tables of the store to allow. There is then
            no guarantee for what they do to rows. Any other one ends the run before it changes anything.
        replica_wait_s: How many seconds to wait, at most, until every replica of the store has erased it too; 0 to
            check once.
        stop: Called between sessions; the run ends when it returns True.

    Returns:
        What was erased, which sessions had no trace, and which `replicas` have erased it too. `stopped` is "store" if
            the store no longer answered, "interrupted" if `stop` returned True, "expect" if the number was different.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: No session is named, or a prefix is given without `expect`.
        StoreError: The store refuses to erase any of them, or has triggers or the like that were not allowed.
        FileExistsError: There is a file at `export` already; or the file `report` is not a report of erasure in this
            store, or is in use by another run.
        OSError: A file cannot be created, read or written.
    """
    whole = arguments.store(store)
    expect, missing_ok = arguments.expected(expect), arguments.flag(missing_ok, "missing_ok")
    settings = arguments.settings(
        dry_run=dry_run,
        allow_triggers=allow_triggers,
        replica_wait_s=replica_wait_s,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    only = settings.only
    if only is None:
        raise ValueError("no session is named; give sessions= or session_prefix=")
    if only.prefix is not None and expect is None and not dry_run:
        raise ValueError("session_prefix needs expect=, the number of sessions that a dry run named")
    run = Run(whole, None, settings)
    path = arguments.new_file(report, "report", needed=False)
    record = None if path is None else ErasureRecord(path, whole.location, read_only=dry_run)
    copy_to = arguments.new_file(export, "export", needed=False)
    try:
        with (
            Exporting(copy_to, whole, dry_run=dry_run) as exporting,
            closing(Erasure(run, only, record, exporting.file, missing_ok=missing_ok)) as erasure,
        ):
            await _execute(run, only, erasure, record, expect)
    finally:
        if record is not None:
            record.close()
    return EraseReport(
        **run.report_fields(),
        erased={name: count for name, count in run.changed_of.items() if count},
        sessions=erasure.sessions,
        named=erasure.named,
        missing=tuple(erasure.missing),
        not_reached=erasure.not_reached(),
        report=path,
        export=exporting.path,
    )


async def _execute(
    run: Run, only: SessionFilter, erasure: Erasure, record: ErasureRecord | None, expect: int | None
) -> None:
    replicas, dry_run, recorded = ReplicaWatch(run), run.settings.dry_run, False
    if notice := only.notice():
        run.notice(notice)
    try:
        await replicas.begin()
        await run.refuse_side_effects()
        await erasure.plan()
        if expect is not None and erasure.named != expect:
            run.end("expect", _other_number(erasure.named, expect))
        else:
            if record is not None and not dry_run:
                await record.begin_run(_what(only), expect)
                recorded = True
            await erasure.execute()
    except InterruptedRunError:
        run.end("interrupted", f"it was asked to stop; {STAYS_DONE}")
    except StoreUnavailableError as error:
        run.end("store", f"{error}; {STAYS_DONE}")
    erasure.conclude()
    if not dry_run and not run.stopped:
        run.incomplete = await checkpoint_store(run.store)
    if run.stopped != "expect":
        await replicas.wait()
    if record is not None and recorded:
        await record.end_run(erasure.result())


def _other_number(named: int, expect: int) -> str:
    there = "1 session is" if named == 1 else f"{named:,} sessions are"
    return (
        f"{there} there, or in the report file, but {expect:,} were expected: nothing was erased. A dry"
        " run and `encrypted-sessions sessions` show which they are"
    )


def _what(only: SessionFilter) -> dict[str, Any]:
    """What was named, for the record."""
    if only.prefix is not None:
        return {"session_prefix": only.prefix}
    ids = only.ids
    skipped = {"blank_lines": ids.blank_lines, "doubles": ids.doubles} if isinstance(ids, SessionIds) else {}
    return {"sessions": only.count, **skipped}

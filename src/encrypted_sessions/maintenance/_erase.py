"""Remove every trace of named sessions. It needs no key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike

from keyproviders import redact_frames

from ..core.outcomes import MAX_FINDINGS
from ..errors import StoreError, StoreUnavailableError
from ..stores.whole import WholeStore
from . import arguments
from .export import Export, Exporting, export_session
from .interruption import InterruptedRunError
from .replicas import ReplicaWatch
from .reports import EraseReport
from .run import STAYS_DONE, Run
from .store_calls import checkpoint_store

__all__ = ["erase"]


class _Erasure:
    """Erases sessions, and notes what became of each."""

    def __init__(self, run: Run, export: Export | None) -> None:
        self._run = run
        self._export = export
        self.sessions = 0
        """Sessions of which there was a trace."""
        self.missing: list[str] = []
        self.refusals: list[StoreError] = []
        self.late_rows = 0
        """Rows that somebody wrote while their session was erased."""

    async def erase(self, session_id: str) -> None:
        dry_run = self._run.settings.dry_run
        try:
            copied = None
            if self._export is not None:
                copied = await self._call(session_id, dry_run=True)
                await export_session(self._run, session_id, self._export)
            found = await self._call(session_id, dry_run=dry_run)
            if not any(found.values()):
                self.missing.append(session_id)
                return
            self.sessions += 1
            self._run.changed_of.update(found)
            if copied is not None:  # what is more than that came in meanwhile, and is in no copy
                self.late_rows += max(0, sum(found.values()) - sum(copied.values()))
            if not dry_run:
                self.late_rows += sum((await self._call(session_id, dry_run=True)).values())
        except StoreUnavailableError:
            raise
        except StoreError as error:
            self.refusals.append(error)

    async def _call(self, session_id: str, *, dry_run: bool) -> Mapping[str, int]:
        return await self._run.call(partial(self._run.store.erase, [session_id], dry_run=dry_run))


@redact_frames
async def erase(
    store: WholeStore,
    sessions: Sequence[str],
    *,
    export: str | PathLike[str] | None = None,
    dry_run: bool = False,
    allow_triggers: Sequence[str] = (),
    replica_wait_s: float = 60.0,
    stop: Callable[[], bool] | None = None,
) -> EraseReport:
    """Remove every trace of these sessions: messages, the session's own row, what else the SDK noted.

    It needs no key. Nobody should write to these sessions meanwhile: what came in is counted as left.
    So is a session that the store refuses to erase; the others go on.

    Args:
        store: A store from `open_store`, entered with `async with`.
        sessions: The ids of sessions, one at least.
        export: The path of a file that does not exist yet, to which rows are written before they are erased, as
            `discard` does; None for none. It is a copy that remains, and has no more than the rows.
        dry_run: Only count what would be erased.
        allow_triggers: Names of triggers, generated columns and virtual tables of the store that may be there.
            What they make of a row is then not promised; any other one ends the run before it changes anything.
        replica_wait_s: Seconds to wait, at most, until each replica of the store has it too; 0 to look once.
        stop: Asked between sessions; the run ends once it returns True.

    Returns:
        What was erased, which sessions had no trace, and which `replicas` have it too. `stopped` is "store" if it did
            not answer any more, "interrupted" if `stop` told it to.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: No session is named.
        StoreError: The store refuses to erase any of them, or has triggers or the like that were not allowed.
        FileExistsError: There is a file at `export` already.
        OSError: The file cannot be made, or written.
    """
    whole, ids = arguments.store(store), arguments.sessions(sessions)
    settings = arguments.settings(
        dry_run=dry_run, allow_triggers=allow_triggers, replica_wait_s=replica_wait_s, stop=stop
    )
    path = arguments.new_file(export, "export", needed=False)
    with Exporting(path, whole, dry_run=dry_run) as exporting:
        report = await _erase(Run(whole, None, settings), ids, exporting.file)
    return replace(report, export=exporting.path)


async def _erase(run: Run, ids: Sequence[str], export: Export | None) -> EraseReport:
    whole, dry_run = run.store, run.settings.dry_run
    erasure, replicas = _Erasure(run, export), ReplicaWatch(run)
    try:
        await replicas.begin()
        await run.refuse_side_effects()
        for session_id in ids:  # one by one, so that it is known which had no trace
            run.raise_if_interrupted()
            await erasure.erase(session_id)
    except InterruptedRunError:
        run.end("interrupted", f"it was told to stop; {STAYS_DONE}")
    except StoreUnavailableError as error:
        run.end("store", f"{error}; {STAYS_DONE}")
    if len(erasure.refusals) == len(ids):
        raise erasure.refusals[0]
    if erasure.late_rows:
        run.left["written_meanwhile"] = erasure.late_rows
    if erasure.refusals:
        run.left["sessions_refused"] = len(erasure.refusals)
        run.notices += [str(refusal) for refusal in erasure.refusals[:MAX_FINDINGS]]
    if not dry_run and not run.stopped:
        run.incomplete = await checkpoint_store(whole)
    await replicas.wait()
    return EraseReport(
        **run.report_fields(),
        erased={name: count for name, count in run.changed_of.items() if count},
        sessions=erasure.sessions,
        missing=tuple(erasure.missing),
    )

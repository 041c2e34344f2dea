"""How sessions are erased: first it is seen which are there, so that their number is known, then they go one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from ..core.outcomes import MAX_FINDINGS
from ..errors import StoreError, StoreUnavailableError
from .erasure_record import ErasureRecord
from .export import Export, export_session
from .run import Run
from .session_filter import SessionFilter
from .session_ids import SessionIds

__all__ = ["Erasure"]

#: How many sessions are noted in the record at once, before and after they go.
_AT_ONCE = 20

#: So many of the sessions that are missing are named in the report.
_MOST_MISSING = 1_000


class Erasure:
    """Erases the sessions that a run is limited to, and notes what became of each."""

    def __init__(
        self, run: Run, only: SessionFilter, record: ErasureRecord | None, export: Export | None, *, missing_ok: bool
    ) -> None:
        self._run = run
        self._only = only
        self._record = record
        self._export = export
        self._missing_ok = missing_ok
        self._planned = SessionIds()
        self._gone_before: list[str] = []
        self._count_missing = 0
        self.named = 0
        """The sessions that are there, and those that the record has as gone: what `expect` is compared with."""
        self.sessions = 0
        """Sessions of which there was a trace."""
        self.missing: list[str] = []
        """The first of those of which there was none."""
        self.refused = 0
        self.refusals: list[StoreError] = []
        self._late_rows = 0
        self._written_meanwhile: str | None = None

    def close(self) -> None:
        """Let go of what was put away on the disk."""
        self._planned.close()

    async def plan(self) -> None:
        """See which of the sessions are there."""
        run, record, first = self._run, self._record, True
        async with aclosing(self._only.groups(run.store, run.call)) as groups:
            async for group in groups:
                if not first:
                    run.raise_if_interrupted()
                first = False
                if self._only.prefix is None:
                    there = await run.call(partial(run.store.present, group))
                    self._planned.add(one for one in group if one in there)
                    absent = [one for one in group if one not in there]
                    standing = [] if record is None else [one for one in absent if self._stands(record, one)]
                    self.named += len(there) + len(standing)
                    self._miss([one for one in absent if one not in standing])
                else:
                    self._planned.add(group)
        if self._only.prefix is not None:
            self._plan_prefix(self._only.prefix)

    def _plan_prefix(self, prefix: str) -> None:
        self.named = len(self._planned)
        if self._record is not None:
            noted = (*self._record.in_doubt, *(one for one in self._record.gone if one not in self._record.in_doubt))
            for session_id in noted:
                if session_id.startswith(prefix) and session_id not in self._planned:
                    self.named += self._stands(self._record, session_id)
        if not self.named:
            self._count_missing = 1
            self._run.notice(f"no session id begins with {prefix!r}")

    def _stands(self, record: ErasureRecord, session_id: str) -> bool:
        """Whether the record has a session that is not there as gone, or as begun by a run that was killed."""
        if session_id in record.in_doubt:
            self._gone_before.append(session_id)
            return True
        return session_id in record.gone

    def _miss(self, session_ids: Sequence[str]) -> None:
        self._count_missing += len(session_ids)
        self.missing += session_ids[: max(0, _MOST_MISSING - len(self.missing))]

    async def execute(self) -> None:
        """Erase them, or with a dry run count what would be."""
        run, planned = self._run, iter(self._planned)
        if self._record is not None and self._gone_before and not run.settings.dry_run:
            await self._record.erased(dict.fromkeys(self._gone_before))
        while group := list(islice(planned, _AT_ONCE)):
            await self._erase_group(group)

    async def _erase_group(self, group: Sequence[str]) -> None:
        run = self._run
        record = None if run.settings.dry_run else self._record
        gone: dict[str, Mapping[str, int]] = {}
        vanished: list[str] = []
        begun = False
        try:
            for session_id in group:  # one by one, so that it is known which had no trace
                run.raise_if_interrupted()
                if record is not None and not begun:
                    await record.begin(group)
                    begun = True
                found = await self._erase(session_id)
                if found is None:
                    continue
                if any(found.values()):
                    self.sessions += 1
                    if self._written_meanwhile == session_id:
                        continue  # it is there again
                    gone[session_id] = {name: count for name, count in found.items() if count}
                else:
                    vanished.append(session_id)
        finally:
            self._miss(vanished)
            if record is not None and begun:
                await record.erased(gone)
                await record.missing(vanished)

    async def _erase(self, session_id: str) -> Mapping[str, int] | None:
        """What was found of a session, None where the store refuses to erase it."""
        dry_run = self._run.settings.dry_run
        try:
            copied = None
            if self._export is not None:
                copied = await self._call(session_id, dry_run=True)
                await export_session(self._run, session_id, self._export)
            found = await self._call(session_id, dry_run=dry_run)
            if copied is not None:  # what is more than that came in meanwhile, and is in no copy
                self._late_rows += max(0, sum(found.values()) - sum(copied.values()))
            self._run.changed_of.update(found)
            if not dry_run and any(found.values()):
                late_rows = sum((await self._call(session_id, dry_run=True)).values())
                self._late_rows += late_rows
                self._written_meanwhile = session_id if late_rows else None
        except StoreUnavailableError:
            raise
        except StoreError as error:
            self.refused += 1
            self.refusals += [error] if len(self.refusals) < MAX_FINDINGS else []
            return None
        return found

    async def _call(self, session_id: str, *, dry_run: bool) -> Mapping[str, int]:
        return await self._run.call(partial(self._run.store.erase, [session_id], dry_run=dry_run))

    def conclude(self) -> None:
        """Count what was left. Raises the store's refusal where it let none of the sessions go."""
        run = self._run
        if self.refused and not self.sessions and not self._count_missing and not run.stopped:
            raise self.refusals[0]
        if self._late_rows:
            run.left["written_meanwhile"] = self._late_rows
        if self.refused:
            run.left["sessions_refused"] = self.refused
            run.notices += [str(refusal) for refusal in self.refusals]
        if not self._missing_ok:
            run.leave_missing(self._count_missing)

    def result(self) -> dict[str, Any]:
        """What the record says at the end of a run."""
        run = self._run
        return {
            "sessions": self.named if run.stopped is None else None,
            "erased": {name: count for name, count in run.changed_of.items() if count},
            "missing": self._count_missing,
            "left": run.left,
            "stopped": run.stopped,
            "incomplete": run.incomplete,
            "replicas": [asdict(replica) for replica in run.replicas],
            "replicas_unseen": run.replicas_unseen,
            "not_reached": self.not_reached(),
        }

    def not_reached(self) -> tuple[str, ...]:
        """Where else there may be copies of what was erased, in words."""
        elsewhere = tuple(self._run.store.beyond_reach())
        if self._export is None:
            return elsewhere
        return (f"the file {self._export.path}, a copy of their rows, until you delete it", *elsewhere)

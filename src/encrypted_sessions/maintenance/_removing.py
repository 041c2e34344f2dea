"""Remove from a whole store: what expired, what nobody can read, every trace of named sessions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING

from keyproviders import redact_frames

from ..core.outcomes import MAX_FINDINGS
from ..core.suites.fernet_v1 import NotAnItem
from ..errors import StoreError, StoreUnavailableError
from . import arguments
from .engine import STAYS_DONE, Engine, Settings, checkpointed, patiently
from .export import Export
from .keys import InterruptedRunError, wait
from .operation import DEFER, REMOVE, ClassifiedRow, Defer, Operation, Remove
from .progress import Progress
from .reports import DiscardReport, EraseReport, PurgeReport, Stopped
from .tool_calls import ExpiredCalls

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..stores.whole import StoredRow, WholeStore

#: Outcomes of rows whose age is proven, and of those whose content nobody gets at any more.
_NO_CONCERN_OF_PURGE = ("ok", "not_yet_valid", "erased", "not_opened")

#: What may be discarded: nobody can read it, or nobody knows who wrote it.
DISCARDABLE = (
    "erased",
    "expired_unverified",
    "malformed",
    "plaintext",
    "unauthentic",
    "unknown_key",
    "unsupported",
)
_NOT_DISCARDABLE = {
    "ok": "it can be read; to remove whole sessions there is erase",
    "expired": "purge removes it, and needs no export",
    "not_yet_valid": "it can be read once the clocks agree; compare them (NTP)",
    "key_disabled": "its key may come back; enable the key, or destroy it for good, which makes it erased",
}


class _ByAge(Operation):
    """Removes for good what is too old, so it must not be this machine's clock that is wrong."""

    by_age = True
    _compared = False

    async def begin_page(self) -> None:
        if self.by_age and not self._compared:
            await self.run.refuse_a_fast_clock()
            self._compared = True


class _Purge(_ByAge):
    def __init__(self, store: WholeStore, settings: Settings) -> None:
        self._calls = ExpiredCalls(store, settings)
        self.kept = 0

    def take(self, classified: ClassifiedRow) -> Remove | Defer | None:
        if classified.outcome == "expired":
            return DEFER if self._is_call(classified) else REMOVE
        if classified.outcome not in _NO_CONCERN_OF_PURGE:
            self.run.leave(classified.outcome, classified)
        return None

    def _is_call(self, classified: ClassifiedRow) -> bool:
        assert classified.opener is not None  # noqa: S101 - it is authentic, so it had a key
        assert classified.envelope is not None  # noqa: S101 - likewise
        try:
            item = classified.opener.open(classified.envelope.token)
        except NotAnItem:
            return False
        return self._calls.note(classified.row, item)

    async def free(self, rows: Sequence[StoredRow]) -> list[int]:
        free = await self._calls.free(rows, self.run)
        if self.run.first_time:
            self.kept += len(rows) - len(free)
        return free


@redact_frames
async def purge(
    store: WholeStore,
    keys: KeyRing,
    *,
    ttl: int,
    dry_run: bool = False,
    upstream_key: str | None = None,
    batch: int = 500,
    limit: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> PurgeReport:
    """Remove what is authentic and older than `ttl` seconds, and nothing else.

    An expired tool call stays while an output that answers it is in time: a notice counts them.

    What cannot be opened is left, and counted: its age is only claimed. So is plaintext. With
    `dry_run` rows are only counted.

    The other arguments and errors are those of `reencrypt`.
    """
    ttl = arguments.retention(ttl)
    settings = arguments.settings(
        ttl=ttl, upstream_key=upstream_key, batch=batch, limit=limit, dry_run=dry_run, progress=progress, stop=stop
    )
    whole = arguments.store(store)
    task = _Purge(whole, settings)
    walk = Engine(whole, arguments.keys(keys), settings, task)
    await walk.go()
    if task.kept:
        walk.notice(
            f"{_calls(task.kept)} until what answers it has expired too: without its call a session would"
            " read an output alone, which a model refuses"
        )
    return PurgeReport(**walk.told(), ttl=ttl)


class _Discard(_ByAge):
    def __init__(self, outcome: str, export: Export | None) -> None:
        self._outcome = outcome
        self.by_age = outcome == "expired_unverified"
        self._export = export

    def take(self, classified: ClassifiedRow) -> Remove | None:
        return REMOVE if classified.outcome == self._outcome else None

    async def before_writing(self, rows: Sequence[StoredRow]) -> None:
        assert self._export is not None  # noqa: S101 - only a dry run has none, and writes nothing
        await self._export.write(rows)


@redact_frames
async def discard(
    store: WholeStore,
    keys: KeyRing,
    *,
    outcome: str,
    export: str | PathLike[str] | None,
    ttl: int | None = None,
    dry_run: bool = False,
    upstream_key: str | None = None,
    batch: int = 500,
    limit: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> DiscardReport:
    """Remove the rows of one `outcome` that nobody can read, after they were written to `export`.

    `export` must name a file that does not exist; only its owner may read it. One JSON object per
    line: "session_id", "id", "created_at" (seconds, or null), and the exact bytes as "data", or as
    "data_base64" where they are no UTF-8. A row is on the disk before it is removed, so the file
    may hold a row that stayed because it changed meanwhile. In a dry run `export` may be None.

    `outcome` is one of erased, expired_unverified (needs `ttl`), malformed, plaintext, unauthentic,
    unknown_key, unsupported. Whether a key is unknown is asked of this process's places only.

    The other arguments and errors are those of `reencrypt`; FileExistsError and OSError for the file.
    """
    outcome = discardable(outcome, ttl)
    settings = arguments.settings(
        ttl=ttl, upstream_key=upstream_key, batch=batch, limit=limit, dry_run=dry_run, progress=progress, stop=stop
    )
    path = arguments.new_file(export, "export", needed=not dry_run)
    ring, whole = arguments.keys(keys), arguments.store(store)
    file = None if dry_run or path is None else Export(path)
    written = None
    try:
        walk = Engine(whole, ring, settings, _Discard(outcome, file))
        await walk.go()
    finally:
        if file is not None:
            written = file.close()
    return DiscardReport(**walk.told(), outcome=outcome, export=written)


def discardable(outcome: object, ttl: int | None) -> str:
    """The name of an outcome that may be discarded. Raises TypeError or ValueError, with the reason, for another."""
    if not isinstance(outcome, str):
        raise TypeError(f"outcome must be one of {', '.join(DISCARDABLE)}, not {type(outcome).__name__}")
    if outcome in _NOT_DISCARDABLE:
        raise ValueError(f"outcome {outcome!r} is not for discarding: {_NOT_DISCARDABLE[outcome]}")
    if outcome not in DISCARDABLE:
        raise ValueError(f"outcome must be one of {', '.join(DISCARDABLE)}, not a str of {len(outcome)} characters")
    if outcome == "expired_unverified" and ttl is None:
        raise ValueError("outcome 'expired_unverified' needs ttl=: without one nothing counts as expired")
    return outcome


@redact_frames
async def erase(
    store: WholeStore, sessions: Sequence[str], *, dry_run: bool = False, stop: Callable[[], bool] | None = None
) -> EraseReport:
    """Remove every trace of these sessions: messages, the session's own row, what else the SDK noted.

    Needs no key. With `dry_run` it only counts. Nobody should write to these sessions meanwhile: what
    came in is counted as left. So is a session that the store refuses to erase; the others go on.

    Raises TypeError or ValueError for a wrong argument, StoreError if the store refuses every one.
    `stopped` is "store" if it did not answer any more, "interrupted" if `stop` told it to.
    """
    whole = arguments.store(store)
    ids = arguments.sessions(sessions)
    dry_run = arguments.flag(dry_run, "dry_run")
    stop = arguments.settings(stop=stop).stop
    began, started_at = time.monotonic(), time.time()
    erased: Counter[str] = Counter()
    missing: list[str] = []
    refusals: list[StoreError] = []
    traced = late = 0
    stopped: tuple[Stopped, str] | None = None
    try:
        for session_id in ids:  # one by one, so that it is known which had no trace
            await wait(0, stop)
            try:
                found = await patiently(partial(whole.erase, [session_id], dry_run=dry_run), stop)
                if not any(found.values()):
                    missing.append(session_id)
                    continue
                traced += 1
                erased.update(found)
                if not dry_run:
                    again = await patiently(partial(whole.erase, [session_id], dry_run=True), stop)
                    late += sum(again.values())
            except StoreUnavailableError:
                raise
            except StoreError as error:
                refusals.append(error)
    except InterruptedRunError:
        stopped = "interrupted", f"it was told to stop; {STAYS_DONE}"
    except StoreUnavailableError as error:
        stopped = "store", f"{error}; {STAYS_DONE}"
    if len(refusals) == len(ids):
        raise refusals[0]
    return EraseReport(
        store=whole.place,
        found={},
        changed=sum(erased.values()),
        left={
            reason: count
            for reason, count in (("written_meanwhile", late), ("sessions_refused", len(refusals)))
            if count
        },
        stopped=stopped[0] if stopped else None,
        stopped_because=stopped[1] if stopped else None,
        findings=(),
        notices=tuple(str(refusal) for refusal in refusals[:MAX_FINDINGS]),
        incomplete=() if dry_run or stopped else await checkpointed(whole),
        started_at=started_at,
        took_s=time.monotonic() - began,
        dry_run=dry_run,
        erased={name: count for name, count in erased.items() if count},
        sessions=traced,
        missing=tuple(missing),
    )


def _calls(count: int) -> str:
    return f"{count:,} expired tool call stays" if count == 1 else f"{count:,} expired tool calls stay, each"

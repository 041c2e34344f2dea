"""Seal again what older keys sealed: under the active key, with the age that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from keyproviders import KeyRing, redact_frames

from .._support.unset import UNSET, Unset
from ..history.classified import is_late
from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .engine import Engine
from .moving import Move, MovedFrom, MovedRows
from .progress import Progress
from .realms import GivenRealms
from .refusals import RefusedUseError
from .reports import ReencryptReport
from .resealing import AUTHENTIC, Label, Resealing
from .run import Run
from .telling import told

__all__ = ["reencrypt"]


class _Reencrypt(Resealing):
    def __init__(self, run: Run, move: Move) -> None:
        super().__init__(run, move)
        self._to = Label("")

    async def begin_page(self) -> None:
        await super().begin_page()
        assert self.active is not None  # noqa: S101 - it was just asked for
        if self._to.kid != self.active.kid:
            self._to = Label(self.active.kid, self.move.suite)

    def skips(self, row: StoredRow) -> bool:
        """Rows that name the active key, in the suite that was said: a second run costs next to nothing."""
        if self._to.is_on(row.data):
            self.already += self.run.first_pass
            return True
        return False

    def skipped_openings(self) -> tuple[str, ...]:
        """Such rows."""
        return self._to.openings

    def skipped_unread(self, rows: int) -> None:
        """Count them."""
        self.already += rows * self.run.first_pass

    def decide(self, classified: ClassifiedRow) -> str | None:
        if classified.kid == self._to.kid and self.move.leaves(classified):  # in a text of another form
            self.already += self.run.first_pass
            return None
        if classified.outcome == "too_large":  # nobody looked which key it names
            self.run.leave("too_large", classified)
            return None
        if classified.outcome == "plaintext":
            return None
        if classified.outcome in AUTHENTIC and not _is_late(classified):
            return self.reseal(classified)
        if classified.outcome not in ("erased", "not_opened"):
            self.run.leave(classified.outcome, classified)
        return None

    def counted_as(self, classified: ClassifiedRow) -> MovedFrom:
        """The key that it was under, and the suite."""
        return self.move.of(classified)


def _is_late(classified: ClassifiedRow) -> bool:
    """Whether an authentic row, from the future as it may be, is stamped after its key had stopped writing.

    Under the active key nothing would tell any more, once its time has come.
    """
    assert classified.opener is not None  # noqa: S101 - it is authentic, so it had a key
    assert classified.timestamp is not None  # noqa: S101 - likewise
    return is_late(classified.timestamp, classified.opener)


@redact_frames
@told("reencrypt")
async def reencrypt(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing],
    *,
    from_kid: str | None = None,
    all_sessions: bool = False,
    suite: int | None = None,
    ttl: int | Unset | None = UNSET,
    realm: GivenRealms = "",
    dry_run: bool = False,
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
) -> ReencryptReport:
    """Seal rows of older keys again under the active key; every item keeps its timestamp.

    Rows that already name the active key are not touched, so a second run changes nothing, and a run that was killed
    can be continued. Rows of the SDK's class are resealed if `upstream_key` is given. Rows that do not open are left
    and counted.

    Each row stays in its suite and realm, with the end that its writer set, unless `suite` is given: then all rows
    move to that suite, including those under the active key.

    Several rings may belong to several tenants, and every row gets the first ring's key. So with more than one ring,
    say which rows to seal: `kids`, or `all_sessions=True`.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys to open rows with, a ring or several; the active key of the first one seals.
        from_kid: Only rows that this key sealed; None for every key but the active one. The same as one of `kids`.
        all_sessions: With several rings: every row that any of them opens.
        suite: The suite to move rows to: 2, which needs `ttl`; or 1, which cannot store a writer's end and does not
            allow `realm`. None for each row's own suite.
        ttl: With `suite=2`: how many seconds after its timestamp a row of suite 1 expires from then on, whatever a
            reader's ttl is; None for never. Rows of suite 2 keep their end.
        realm: The realm of rows of suite 2, several realms, each of which is tried, or a function that returns either
            for a session id. Rows of suite 1 get this realm, which must be a single one.
        dry_run: Only count what would be sealed again, by its present key and suite.
        upstream_key: The string that the SDK's own class was given as its key, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: later rows of the
            SDK's class are `unauthentic`. None for no end.
        batch: Rows changed at once, at most.
        max_row_bytes: A row with more stored bytes is `too_large`: the report names it, and it stays.
        limit: Rows changed in all, at most.
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
        What was changed, what was left, and why. An outage ends the run and is reported as `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store has triggers or the like that were not allowed, or cannot be used.
        ProviderConfigError: A provider cannot work with its settings.
    """
    rings = arguments.keys(keys)
    named = [*arguments.kids(kids, "kids"), *([] if from_kid is None else [arguments.kid(from_kid, "from_kid")])]
    settings = arguments.settings(
        realm=realm,
        dry_run=dry_run,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        limit=limit,
        allow_triggers=allow_triggers,
        replica_wait_s=replica_wait_s,
        only_kids=named or None,
        progress=progress,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    moves_to, lives_s = arguments.suite(suite, ttl, settings.realms)
    if len(rings) > 1 and not (arguments.flag(all_sessions, "all_sessions") or settings.is_limited):
        raise RefusedUseError(
            "with several places of keys, every row that any of them opens would get the first one's key, including"
            " other tenants' rows; say which rows with kids= (--kid KID) or sessions= (--session ID), or give"
            " all_sessions=True (--all-sessions)"
        )
    run = Run(arguments.store(store), rings, settings)
    operation = _Reencrypt(run, Move(moves_to, lives_s, settings.realms))
    await Engine(operation).execute()
    moved = MovedRows(run.changed_of)
    if moved.lost_their_end:
        run.notice(_ends_are_lost(moved.lost_their_end, dry_run=settings.dry_run))
    if operation.active_kid in settings.kids and moves_to is None:
        run.notice(
            f"{operation.active_kid} is the active key, whose rows are not changed: give the key to move away from"
        )
    run.notice_unmet_kids(operation.active_kid)
    return ReencryptReport(
        **run.report_fields(),
        to_kid=operation.active_kid,
        from_kid=settings.kids[0] if len(settings.kids) == 1 else None,
        already=operation.already,
        moved=moved.by_kid,
        suite=moves_to,
        suites=moved.by_suite,
    )


def _ends_are_lost(rows: int, *, dry_run: bool) -> str:
    have = "have" if dry_run else "had"
    return (
        f"suite 1 cannot store the end that a writer sets: {rows:,} of these rows {have} one, and without"
        " it only a reader's ttl decides when they expire"
    )

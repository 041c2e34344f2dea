"""Seal again what older keys sealed: under the active key, with the age that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from keyproviders import KeyRing, redact_frames

from ..history.classified import is_late
from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .engine import Engine
from .progress import Progress
from .refusals import RefusedUseError
from .reports import ReencryptReport
from .resealing import AUTHENTIC, Label, Resealing
from .run import Run
from .telling import told

__all__ = ["reencrypt"]


class _Reencrypt(Resealing):
    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._to = Label("")

    async def begin_page(self) -> None:
        await super().begin_page()
        assert self.active is not None  # noqa: S101 - it was just asked for
        if self._to.kid != self.active.kid:
            self._to = Label(self.active.kid)

    def skips(self, row: StoredRow) -> bool:
        """Rows that name the active key: a second run costs next to nothing."""
        if self._to.is_on(row.data):
            self.already += self.run.first_pass
            return True
        return False

    def skipped_openings(self) -> tuple[str, ...]:
        """Rows that name the active key."""
        return self._to.openings

    def skipped_unread(self, rows: int) -> None:
        """Count them."""
        self.already += rows * self.run.first_pass

    def decide(self, classified: ClassifiedRow) -> str | None:
        if classified.kid == self._to.kid:  # in a text of another form
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

    def counted_as(self, classified: ClassifiedRow) -> str:
        """The key that it was under: rows that open name one."""
        return str(classified.kid)


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
    """Seal again under the active key what older keys sealed; every item keeps its timestamp.

    Rows that name the active key already are not touched, so a second run changes nothing, and a
    run that was killed goes on. Rows of the SDK's class are resealed when `upstream_key` is given.
    What does not open is left, and counted.

    Several rings may belong to several tenants, and every row that is met comes under the first one's key. So with
    more than one it wants to be told which rows: `kids`, or `all_sessions=True`.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys that rows are opened with, a ring or several: the first one's active key is the one to seal with.
        from_kid: Only what this key sealed; None for every key but the active one. The same as one of `kids`.
        all_sessions: With several rings: whatever any of them opens.
        dry_run: Only count what would be sealed again, and under which key it is.
        upstream_key: The string that the SDK's own class was given, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: rows of the SDK's
            class stamped later are `unauthentic`. None for no end.
        batch: Rows changed at once, at most.
        max_row_bytes: A row with more stored bytes is `too_large`: it is named in the report, and stays.
        limit: Rows changed in all, at most.
        allow_triggers: Names of triggers, generated columns and virtual tables of the store that may be there.
            What they make of a row is then not promised; any other one ends the run before it changes anything.
        replica_wait_s: Seconds to wait, at most, until each replica of the store has the same; 0 to look once.
        sessions: The ids of the sessions to work on; None for all. One that is not there is counted as left.
        session_prefix: How the ids begin of the sessions to work on, compared byte for byte; None for all.
        kids: Only rows that name one of these keys, as `inventory` shows them; rows of others are counted as
            `other_keys`, and so are left in peace. None for all.
        progress: Called now and then with how far the run is.
        stop: Asked between batches; the run ends once it returns True.

    Returns:
        What was changed, what was left, and why. An outage ends the run, and is reported as `stopped`.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store has triggers or the like that were not allowed, or cannot be worked on.
        ProviderConfigError: A provider cannot be worked with as it is set up.
    """
    rings = arguments.keys(keys)
    named = [*arguments.kids(kids, "kids"), *([] if from_kid is None else [arguments.kid(from_kid, "from_kid")])]
    settings = arguments.settings(
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
    if len(rings) > 1 and not (arguments.flag(all_sessions, "all_sessions") or settings.is_limited):
        raise RefusedUseError(
            "with several places of keys every row that any of them opens would come under the first one's key, another"
            " tenant's too; say which with kids= (--kid KID) or sessions= (--session ID), or all_sessions=True"
            " (--all-sessions)"
        )
    run = Run(arguments.store(store), rings, settings)
    operation = _Reencrypt(run)
    await Engine(operation).execute()
    if operation.active_kid in settings.kids:
        run.notice(f"{operation.active_kid} is the active key, under which rows stay: give the key to move away from")
    run.notice_unmet_kids(operation.active_kid)
    return ReencryptReport(
        **run.report_fields(),
        to_kid=operation.active_kid,
        from_kid=settings.kids[0] if len(settings.kids) == 1 else None,
        already=operation.already,
        moved=dict(run.changed_of),
    )

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
from .reports import ReencryptReport
from .resealing import ANY_LABEL, AUTHENTIC, Label, Resealing
from .run import Run

__all__ = ["reencrypt"]


class _Reencrypt(Resealing):
    def __init__(self, run: Run, from_kid: str | None) -> None:
        super().__init__(run)
        self._from = None if from_kid is None else Label(from_kid)
        self._to = Label("")
        self.met = False

    async def begin_page(self) -> None:
        await super().begin_page()
        assert self.active is not None  # noqa: S101 - it was just asked for
        if self._to.kid != self.active.kid:
            self._to = Label(self.active.kid)

    def skips(self, row: StoredRow) -> bool:
        """Rows that name the active key, or not the one to move from: a second run costs next to nothing."""
        if self._to.is_on(row.data):
            self.already += self.run.first_pass
            return True
        return self._from is not None and ANY_LABEL.is_on(row.data) and not self._from.is_on(row.data)

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
        if classified.outcome == "plaintext" or (self._from is not None and classified.kid != self._from.kid):
            return None
        self.met = True
        if classified.outcome in AUTHENTIC and not _is_late(classified):
            return self.reseal(classified)
        if classified.outcome not in ("erased", "not_opened"):
            self.run.leave(classified.outcome, classified)
        return None


def _is_late(classified: ClassifiedRow) -> bool:
    """Whether an authentic row, from the future as it may be, is stamped after its key had stopped writing.

    Under the active key nothing would tell any more, once its time has come.
    """
    assert classified.opener is not None  # noqa: S101 - it is authentic, so it had a key
    assert classified.timestamp is not None  # noqa: S101 - likewise
    return is_late(classified.timestamp, classified.opener)


@redact_frames
async def reencrypt(
    store: WholeStore,
    keys: KeyRing,
    *,
    from_kid: str | None = None,
    upstream_key: str | None = None,
    upstream_until: datetime | None = None,
    batch: int = 500,
    max_row_bytes: int = 64 * 2**20,
    limit: int | None = None,
    allow_triggers: Sequence[str] = (),
    replica_wait_s: float = 60.0,
    sessions: Iterable[str] | None = None,
    session_prefix: str | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ReencryptReport:
    """Seal again under the active key what older keys sealed; every item keeps its timestamp.

    Rows that name the active key already are not touched, so a second run changes nothing, and a
    run that was killed goes on. Rows of the SDK's class are resealed when `upstream_key` is given.
    What does not open is left, and counted.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys that rows are opened with; its active key is the one to seal with.
        from_kid: Only what this key sealed; None for every key but the active one.
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
    from_kid = arguments.kid(from_kid, "from_kid")
    settings = arguments.settings(
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        limit=limit,
        allow_triggers=allow_triggers,
        replica_wait_s=replica_wait_s,
        progress=progress,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    run = Run(arguments.store(store), arguments.keys(keys), settings)
    operation = _Reencrypt(run, from_kid)
    await Engine(operation).execute()
    if from_kid is not None and from_kid == operation.active_kid:
        run.notice(f"{from_kid} is the active key, under which rows stay: give the key to move away from")
    elif from_kid is not None and not operation.met and run.stopped is None:
        run.notice(f"no row names {from_kid}; inventory shows which keys rows name")
    return ReencryptReport(
        **run.report_fields(), to_kid=operation.active_kid, from_kid=from_kid, already=operation.already
    )

"""Seal what lies in a store unsealed, or sealed by the SDK's own class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from keyproviders import KeyRing, redact_frames

from ..core.envelope import UPSTREAM_KID
from ..history.sealing import FIRST_SUITE
from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .classified_row import ClassifiedRow
from .engine import Engine
from .progress import Progress
from .realms import GivenRealms
from .reports import EncryptReport
from .resealing import ANY_LABEL, AUTHENTIC, UPSTREAM_LABEL, Resealing
from .run import Run
from .telling import told

__all__ = ["encrypt_plaintext"]


class _Encrypt(Resealing):
    def __init__(self, run: Run, *, upstream: bool) -> None:
        super().__init__(run)
        self._upstream = upstream

    def skips(self, row: StoredRow) -> bool:
        """Rows that are sealed already, by their label; their keys need not be asked for."""
        return ANY_LABEL.is_on(row.data) and not (self._upstream and UPSTREAM_LABEL.is_on(row.data))

    def skipped_openings(self) -> tuple[str, ...]:
        """Rows that are sealed already."""
        return () if self._upstream else ANY_LABEL.openings

    def decide(self, classified: ClassifiedRow) -> str | None:
        if classified.outcome == "plaintext":
            return self._seal(classified)
        if classified.kid == UPSTREAM_KID and self._upstream:
            if classified.outcome in AUTHENTIC:
                return self.reseal(classified)
            self.run.leave(classified.outcome, classified)
        elif classified.outcome in ("malformed", "too_large"):
            self.run.leave(classified.outcome, classified)
        return None

    def _seal(self, classified: ClassifiedRow) -> str | None:
        assert self.active is not None  # noqa: S101 - `begin_page` came first
        row, now = classified.row, self.run.now
        if row.created_at is None:
            self.run.notice(
                "the store does not keep times, so plaintext rows count as written now: they expire one ttl from now"
            )
        stamp = now if row.created_at is None else max(0, min(int(row.created_at), now))
        try:
            return self.active.cipher(row.session_id, FIRST_SUITE).seal_row(classified.item, stamp)
        except (TypeError, UnicodeEncodeError):
            self.run.leave("not_exact", classified)
            return None


@redact_frames
@told("encrypt")
async def encrypt_plaintext(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing],
    *,
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
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> EncryptReport:
    """Seal plaintext rows under the active key and, with `upstream_key`, rows that the SDK's class wrote.

    Plaintext is a JSON object that is not an envelope. It gets its row's own creation time, but never a later time
    than now. If the store does not keep times, it gets the present time, and a notice says so. Rows of the SDK's
    class keep their token's timestamp. Every row keeps its position.

    From then on such a row is authentic, whoever wrote it: run this once, and only if you trust everything that could
    write to the store.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys to open rows with, a ring or several; the active key of the first one seals.
        dry_run: Only count what would be sealed.
        realm: The realm of rows of suite 2, several realms, each of which is tried, or a function that returns either
            for a session id. Rows are sealed here in suite 1, where it has no effect: see `reencrypt`.
        upstream_key: The string that the SDK's own class was given, to seal its rows too (kid "hkdf-v1").
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
        progress: Called from time to time with the progress of the run.
        stop: Called between batches; the run ends when it returns True.

    Returns:
        What was changed, and how much of it was `plaintext`. A dry run that found something to seal is not `ok`. An
            outage ends the run and is reported as `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store has triggers or the like that were not allowed, or cannot be used.
        ProviderConfigError: A provider cannot work with its settings.
    """
    settings = arguments.settings(
        realm=realm,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        limit=limit,
        dry_run=dry_run,
        allow_triggers=allow_triggers,
        replica_wait_s=replica_wait_s,
        progress=progress,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    run = Run(arguments.store(store), arguments.keys(keys), settings)
    operation = _Encrypt(run, upstream=upstream_key is not None)
    await Engine(operation).execute()
    plaintext = run.changed_of["plaintext"]
    return EncryptReport(
        **run.report_fields(), to_kid=operation.active_kid, plaintext=plaintext, upstream=run.changed - plaintext
    )

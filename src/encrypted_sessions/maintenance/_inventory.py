"""Tell what is in a whole store, and what each key is needed for. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from keyproviders import KeyRing, redact_frames

from ..stores.whole import StoredRow, WholeStore
from . import arguments
from .aggregation import MOST_GROUPS, Aggregation, rows_by_suite
from .classified_row import ClassifiedRow
from .conclusion import ENDED_EARLY, LABELS_ONLY, NOT_COMPLETE, conclude
from .engine import Engine
from .free_kids import WantedKids, free_kids, why_not_free
from .key_uses import key_uses
from .mislabelled import UNOPENED, MislabelledRows
from .operation import DEFER, Action, ReadOnlyOperation
from .progress import Progress
from .realms import GivenRealms
from .reports import InventoryReport
from .run import Run
from .telling import told

__all__ = ["inventory"]


class _Inventory(ReadOnlyOperation):
    def __init__(self, run: Run, wanted: WantedKids) -> None:
        super().__init__(run)
        self._wanted = wanted
        self.rows = Aggregation(run.settings.ttl)
        self.mislabelled = MislabelledRows(run)
        self.concerns_replicas = run.keys is not None  # without keys no key is called free

    async def begin_page(self) -> None:
        await super().begin_page()
        await self._wanted.ask()

    def decide(self, classified: ClassifiedRow) -> Action | None:
        self.rows.add(classified)
        if classified.outcome in ("late_key", "too_large"):
            self.run.leave(classified.outcome, classified)
        if classified.outcome not in UNOPENED:
            return None
        self.mislabelled.note(classified)
        return DEFER  # other keys are tried on several at once

    async def release_deferred(self, rows: Sequence[StoredRow]) -> Sequence[int]:  # noqa: ARG002 - they are noted
        await self.mislabelled.try_other_keys()
        return ()


@redact_frames
@told("inventory")
async def inventory(
    store: WholeStore,
    keys: KeyRing | Sequence[KeyRing] | None = None,
    *,
    ttl: int | None = None,
    require_free: Sequence[str] = (),
    realm: GivenRealms = "",
    upstream_key: str | None = None,
    upstream_until: datetime | None = None,
    batch: int = 500,
    max_row_bytes: int = 64 * 2**20,
    replica_wait_s: float = 60.0,
    sessions: Iterable[str] | None = None,
    session_prefix: str | None = None,
    kids: Sequence[str] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> InventoryReport:
    """Count sessions and items by kid, version and outcome, with age and size, and say what each key is needed for.

    With `keys`, every row is opened, and the report's `conclusion` says which keys are no longer needed, and when
    expiry frees the others. If a row does not open with the key that it names, the other held keys are tried, and
    then those that their place lists: whoever can write to the store can write any label. Without keys, labels are
    counted, and the report says that they are not proof.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys to open rows with, a ring or several; None to count only labels.
        ttl: Seconds after which an item expires. Without it, a row expires only at an end that its writer set, and
            the conclusion gives the age of the youngest row per key.
        require_free: Kids on which nothing may depend: unless each of them is known to a place of keys, and neither
            the whole store nor its replicas need it, the report is not `ok` and lists them in `not_free`. It needs
            `keys`.
        realm: The realm of rows of suite 2, several realms, each of which is tried, or a function that returns either
            for a session id. It has no effect in suite 1.
        upstream_key: The string that the SDK's own class was given as its key, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: later rows of the
            SDK's class are `unauthentic`. None for no end.
        batch: Rows read at once, at most.
        max_row_bytes: A row with more stored bytes is `too_large`: the report names it, and it stays.
        replica_wait_s: How many seconds to wait, at most, until every replica of the store has what was counted; 0 to
            check once.
        sessions: The ids of the sessions to work on; None for all. An id that does not exist is counted as left.
        session_prefix: The beginning of the ids of the sessions to work on, compared byte for byte; None for all.
        kids: Only rows that name one of these keys, as `inventory` shows them; rows of other keys are counted as
            `other_keys` and are not touched. None for all.
        progress: Called from time to time with the progress of the run.
        stop: Called between batches; the run ends when it returns True.

    Returns:
        The counts, the keys, and the conclusion. An outage ends the run and is reported as `stopped`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store cannot be used.
        ProviderConfigError: A provider cannot work with its settings.
    """
    settings = arguments.settings(
        ttl=ttl,
        realm=realm,
        upstream_key=upstream_key,
        upstream_until=upstream_until,
        batch=batch,
        max_row_bytes=max_row_bytes,
        replica_wait_s=replica_wait_s,
        only_kids=kids,
        progress=progress,
        stop=stop,
        sessions=sessions,
        session_prefix=session_prefix,
    )
    rings = None if keys is None else arguments.keys(keys)
    run = Run(arguments.store(store), rings, settings)
    wanted = WantedKids(arguments.kids(require_free or None, "require_free"), run.keys)
    if wanted.kids and rings is None:
        raise ValueError("require_free needs keys, since labels alone prove nothing")
    operation = _Inventory(run, wanted)
    await Engine(operation).execute()
    run.notice_unmet_kids()
    if operation.rows.too_many_groups:
        run.notice(
            f"more than {MOST_GROUPS} groups of rows: the rows of further kids are counted together, without a kid"
        )
    groups = operation.rows.groups()
    held = () if run.keys is None else run.keys.held_kids
    active_kid = operation.active_kid
    if settings.kids:  # of other keys nothing was counted
        held, active_kid = (), active_kid if active_kid in settings.kids else None
    uses = key_uses(groups, active_kid, held, operation.mislabelled.by_kid, has_opened=run.keys is not None)
    if run.keys is None:
        sentences = [LABELS_ONLY]
    elif run.stopped is not None:
        sentences = [ENDED_EARLY if run.was_through else NOT_COMPLETE]
    else:
        sentences = conclude(
            groups,
            uses,
            unauthentic=run.left.get("unauthentic", 0),
            active_kid=operation.active_kid,
            ttl=ttl,
            is_limited=settings.is_limited,
            started_at=run.started_at,
            replicas=run.replicas,
            has_seen_all=run.replicas_unseen is None,
        )
    return InventoryReport(
        **run.report_fields(),
        groups=groups,
        keys=tuple(uses),
        active_kid=operation.active_kid,
        ttl=ttl,
        proven=run.keys is not None,
        conclusion=". ".join(sentences) + ".",
        required_free=tuple(wanted.kids),
        not_free=await why_not_free(run, wanted, groups, uses),
        free=free_kids(run, groups, uses),
        ages=operation.rows.ages(),
        sentences=tuple(f"{sentence}." for sentence in sentences),
        suites=rows_by_suite(groups),
    )

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
    """Sessions and items by kid, version and outcome, how old and how large, and what each key is needed for.

    With `keys` every row is opened, and the report's `conclusion` says which keys nothing depends on
    any more, and from when on expiry frees the others. A row that does not open under the key that it
    names is tried with the others that are at hand, and with those that their place lists: whoever can
    write to the store can write any label.
    Without keys labels are counted, and it says that they are not proof.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys that rows are opened with, a ring or several; None to count labels only.
        ttl: Seconds after which an item expires. Without it a row expires only at an end that its writer
            set, and the conclusion gives the age of the youngest row per key.
        require_free: Kids on which nothing may depend: the report is not `ok`, and has them in `not_free`, unless each
            is known to a place, and the whole store and its replicas need none of them. It takes `keys`.
        realm: The realm that rows of suite 2 are of, several of which each is tried, or a function that gives either
            for a session id. In suite 1 it binds nothing.
        upstream_key: The string that the SDK's own class was given, to open its rows (kid "hkdf-v1").
        upstream_until: When the last process that writes with `upstream_key` was switched over: rows of the SDK's
            class stamped later are `unauthentic`. None for no end.
        batch: Rows read at once, at most.
        max_row_bytes: A row with more stored bytes is `too_large`: it is named in the report, and stays.
        replica_wait_s: Seconds to wait, at most, until each replica of the store has what was counted; 0 to look once.
        sessions: The ids of the sessions to work on; None for all. One that is not there is counted as left.
        session_prefix: How the ids begin of the sessions to work on, compared byte for byte; None for all.
        kids: Only rows that name one of these keys, as `inventory` shows them; rows of others are counted as
            `other_keys`, and so are left in peace. None for all.
        progress: Called now and then with how far the run is.
        stop: Asked between batches; the run ends once it returns True.

    Returns:
        The counts, the keys, and the conclusion. An outage ends the run, and is reported as `stopped`.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument has a value that is not allowed.
        StoreError: The store cannot be worked on.
        ProviderConfigError: A provider cannot be worked with as it is set up.
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

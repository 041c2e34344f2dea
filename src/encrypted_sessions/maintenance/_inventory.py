"""Tell what is in a whole store, and what each key is needed for. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

from keyproviders import KeyRing, redact_frames

from ..stores.whole import WholeStore
from . import arguments
from .aggregation import MOST_GROUPS, Aggregation
from .classified_row import ClassifiedRow
from .conclusion import LABELS_ONLY, NOT_COMPLETE, conclude
from .engine import Engine
from .key_uses import key_uses
from .operation import ReadOnlyOperation
from .progress import Progress
from .reports import InventoryReport
from .run import Run

__all__ = ["inventory"]


class _Inventory(ReadOnlyOperation):
    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.rows = Aggregation()

    def decide(self, classified: ClassifiedRow) -> None:
        self.rows.add(classified)


@redact_frames
async def inventory(
    store: WholeStore,
    keys: KeyRing | None = None,
    *,
    ttl: int | None = None,
    upstream_key: str | None = None,
    batch: int = 500,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> InventoryReport:
    """Sessions and items by kid, version and outcome, how old and how large, and what each key is needed for.

    With `keys` every row is opened, and the report's `conclusion` says which keys nothing depends on
    any more, and from when on expiry frees the others. Without them labels are counted, and it says
    that they are not proof.

    Args:
        store: A store from `open_store`, entered with `async with`.
        keys: The keys that rows are opened with; None to count labels only.
        ttl: Seconds after which an item expires. Without it nothing counts as expired, and the
            conclusion gives the age of the youngest row per key.
        upstream_key: The string that the SDK's own class was given, to open its rows (kid "hkdf-v1").
        batch: Rows read at once, at most.
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
    settings = arguments.settings(ttl=ttl, upstream_key=upstream_key, batch=batch, progress=progress, stop=stop)
    ring = None if keys is None else arguments.keys(keys)
    run = Run(arguments.store(store), ring, settings)
    operation = _Inventory(run)
    await Engine(operation).execute()
    if operation.rows.too_many_groups:
        run.notice(f"more than {MOST_GROUPS} groups of rows: those of further kids are counted together, under none")
    groups = operation.rows.groups()
    uses = key_uses(groups, operation.active_kid, () if ring is None else ring.health().held, ttl)
    if ring is None:
        conclusion = LABELS_ONLY + "."
    elif run.stopped is not None:
        conclusion = NOT_COMPLETE + "."
    else:
        conclusion = conclude(groups, uses, active_kid=operation.active_kid, ttl=ttl, started_at=run.started_at)
    return InventoryReport(
        **run.report_fields(),
        groups=groups,
        keys=tuple(uses),
        active_kid=operation.active_kid,
        ttl=ttl,
        proven=ring is not None,
        conclusion=conclusion,
    )

"""What is in a whole store: `inventory` tells, `verify` proves. Neither changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keyproviders import redact_frames

from . import arguments
from .aggregation import MOST_GROUPS, Groups, key_uses
from .conclusion import LABELS_ONLY, NOT_COMPLETE, conclude
from .engine import Engine
from .operation import ClassifiedRow, Operation
from .progress import Progress
from .reports import InventoryReport, VerifyReport

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..stores.whole import WholeStore


class _Looking(Operation):
    """Changes nothing, and knows which key is active."""

    changes = False
    active_kid: str | None = None

    async def begin_page(self) -> None:
        if self.run.keys is not None:
            self.active_kid = (await self.run.keys.active()).kid


class _Inventory(_Looking):
    def __init__(self) -> None:
        self.groups = Groups()

    def take(self, classified: ClassifiedRow) -> None:
        self.groups.add(classified)


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

    With `keys` every row is opened, and `conclusion` says which keys nothing depends on any more, and
    from when on expiry frees the others: with a `ttl` in seconds; without one nothing counts as
    expired, and it gives the age of the youngest row per key. Without `keys` labels are counted, and
    it says that they are not proof.

    The other arguments and errors are those of `reencrypt`.
    """
    settings = arguments.settings(ttl=ttl, upstream_key=upstream_key, batch=batch, progress=progress, stop=stop)
    ring = None if keys is None else arguments.keys(keys)
    task = _Inventory()
    walk = Engine(arguments.store(store), ring, settings, task)
    await walk.go()
    if task.groups.too_many:
        walk.notice(f"more than {MOST_GROUPS} groups of rows: those of further kids are counted together, under none")
    groups = task.groups.told()
    uses = key_uses(groups, task.active_kid, () if ring is None else ring.health().held, ttl)
    told = walk.told()
    if ring is None:
        conclusion = LABELS_ONLY + "."
    elif walk.stopped is not None:
        conclusion = NOT_COMPLETE + "."
    else:
        conclusion = conclude(groups, uses, active_kid=task.active_kid, ttl=ttl, started_at=told["started_at"])
    return InventoryReport(
        **told,
        groups=groups,
        keys=tuple(uses),
        active_kid=task.active_kid,
        ttl=ttl,
        proven=ring is not None,
        conclusion=conclusion,
    )


class _Verify(_Looking):
    def take(self, classified: ClassifiedRow) -> None:
        if classified.outcome not in ("ok", "expired", "erased", "not_opened"):
            self.run.leave(classified.outcome, classified)


@redact_frames
async def verify(
    store: WholeStore,
    keys: KeyRing,
    *,
    ttl: int | None = None,
    upstream_key: str | None = None,
    batch: int = 500,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> VerifyReport:
    """Open every row. In order is what opens, in time or expired by `ttl`, and what was erased with its key.

    Everything else is in the report's `left`, and up to 20 of such rows are named in `findings`.

    The other arguments and errors are those of `reencrypt`.
    """
    settings = arguments.settings(ttl=ttl, upstream_key=upstream_key, batch=batch, progress=progress, stop=stop)
    task = _Verify()
    walk = Engine(arguments.store(store), arguments.keys(keys), settings, task)
    await walk.go()
    return VerifyReport(**walk.told(), active_kid=task.active_kid)

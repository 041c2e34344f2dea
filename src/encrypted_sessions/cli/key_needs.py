"""Whether a store still needs a retired key of a keyset: what is asked before that key is destroyed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyproviders import parse_kid, redact_frames

from .common_options import CommonOptions
from .errors import failed, wrong_use
from .exit_codes import FAILED
from .failures import exit_code_of_report
from .running import complete

if TYPE_CHECKING:
    from keyproviders import KeyRing

    from ..maintenance import InventoryReport

__all__ = ["needs_of_store"]


@redact_frames
def needs_of_store(options: CommonOptions, url: str, key_name: str) -> str | None:
    """Why a store may need the key of that name, in words; None where every row was opened and none does.

    The others of the keyset open the rows. The retired one is not handed out, so any row that names it counts.
    """
    store, ring, opening = options.open_store(), _ring(url), options.for_opening()

    async def look() -> InventoryReport:
        from .. import maintenance  # noqa: PLC0415 - the other commands of a keyset need none

        async with ring, store:
            return await maintenance.inventory(store, ring, **opening, replica_wait_s=options.replica_wait_s())

    report = complete(look())
    needed = sum(use.needed_by + use.unproven for use in report.keys if (parse_kid(use.kid) or (None,))[0] == key_name)
    if needed:
        rows = "row names" if needed == 1 else "rows name"
        return (
            f"{needed:,} {rows} the key {key_name} in {report.store}; restore it (keys restore), move the rows to"
            " the active key (reencrypt) or remove them (purge), and retire it again"
        )
    if (exit_code := exit_code_of_report(report)) not in (0, FAILED):
        why = report.stopped_because or "; ".join(report.notices)
        raise failed(f"nothing was destroyed: not every row of {report.store} was seen: {why}", exit_code)
    if report.replicas_behind:
        names = ", ".join(replica.name for replica in report.replicas_behind)
        return f"an older state of {report.store} may need the key {key_name}, and is at {names}"
    if not report.ok:
        left = ", ".join(f"{count:,} {outcome}" for outcome, count in report.left.items() if count)
        return f"{report.store} has rows for which it is not known which key they need ({left}); run verify to find out"
    return None


def _ring(url: str) -> KeyRing:
    from keyproviders import CachePolicy, KeyRing, ProviderConfigError  # noqa: PLC0415 - `--help` needs no keys

    try:
        # It writes nothing, so that it fits any activation delay.
        return KeyRing.from_url(url, cache=CachePolicy(fresh_s=1, stale_write_s=1))
    except ProviderConfigError as error:
        problem = str(error)
    raise wrong_use(problem, kind="ProviderConfigError")

"""What each key is still needed for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from .mislabelled import NeededAllTheSame
from .reports import Group, KeyUse

__all__ = ["IN_DOUBT", "key_uses", "of_further_keys"]

#: Outcomes of rows that have been opened, so that their timestamps are proven.
_PROVEN = ("ok", "expired", "not_yet_valid")
#: ... of rows that only their key opens.
_NEEDING = ("ok", "not_yet_valid", "key_disabled")
#: ... of rows that may need the key that they name.
IN_DOUBT = ("unknown_key", "expired_unverified", "not_opened")


def key_uses(
    groups: Iterable[Group],
    active_kid: str | None,
    held: Iterable[str],
    mislabelled: Mapping[str, NeededAllTheSame],
    *,
    has_opened: bool,
) -> list[KeyUse]:
    """What needs each key: the active one first, then by kid those that rows name and those that the ring holds.

    `mislabelled` are rows that name another key than the one that opens them, by the latter. `has_opened` says that
    rows were opened, and not their labels counted.
    """
    by_kid: dict[str, list[Group]] = {kid: [] for kid in (active_kid, *held, *mislabelled) if kid is not None}
    for group in groups:
        if group.kid is not None:
            by_kid.setdefault(group.kid, []).append(group)
    uses = []
    for kid in sorted(by_kid, key=lambda kid: (kid != active_kid, kid)):
        named = by_kid[kid]
        needing = [group for group in named if group.outcome in _NEEDING]
        others = mislabelled.get(kid)
        stamps = [group.newest for group in needing if group.newest is not None]
        newest = max([*stamps, others.newest] if others else stamps, default=None)
        ends = [math.inf if group.end is None else group.end for group in needing] + ([others.end] if others else [])
        end = max(ends, default=math.inf)
        proven = all(group.outcome in _PROVEN for group in needing)
        unproven = sum(group.items for group in named if group.outcome in IN_DOUBT)
        uses.append(
            KeyUse(
                kid=kid,
                active=kid == active_kid,
                needed_by=sum(group.items for group in needing) + (others.items if others else 0),
                mislabelled=others.items if others else 0,
                unproven=unproven,
                newest=newest if proven else None,
                free_from=None if math.isinf(end) or newest is None or not proven else int(end) + 1,
                proven=has_opened and proven and not unproven,
                expired=sum(group.items for group in named if group.outcome == "expired"),
            )
        )
    return uses


def of_further_keys(groups: Iterable[Group]) -> int:
    """Rows that need a key, and of which it is not known any more which one: there were too many kids."""
    return sum(group.items for group in groups if group.kid is None and group.outcome in _NEEDING)

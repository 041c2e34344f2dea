"""All rings of the process at one moment, for those who watch them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from .engine import Engine
from .forks import survivors
from .health import RingHealth, health_of

__all__ = ["RingSnapshot", "snapshot_rings"]


class RingSnapshot(NamedTuple):
    """One ring at one moment.

    Attributes:
        ring: Its `name`, or its place of keys.
        place: Where the active key comes from.
        health: What it could do, as `KeyRing.health()` says.
        created_at: When each held key was made, by public id; None if the place of keys does not say.
        is_resting: It was never used, or not for so long that it no longer asks by itself: its times run out although
            nothing is wrong.
    """

    ring: str
    place: str
    health: RingHealth
    created_at: dict[str, datetime | None]
    is_resting: bool


def snapshot_rings() -> tuple[RingSnapshot, ...]:
    """Every ring of this process that exists and is not closed.

    Without I/O or waiting. It does not count as a use of the rings.

    Returns:
        The rings, in no particular order.
    """
    return tuple(_snapshot_of(one) for one in survivors() if isinstance(one, Engine) and not one.closed)


def _snapshot_of(engine: Engine) -> RingSnapshot:
    with engine.lock:
        return RingSnapshot(
            engine.name,
            engine.label,
            health_of(engine),
            engine.cache.created_at(),
            engine.cache.is_resting(engine.clock()),
        )

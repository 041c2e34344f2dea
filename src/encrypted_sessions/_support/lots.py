"""A pause by lot, for those who hinder each other: of those who try again at once, each would go on hindering all."""

from __future__ import annotations

import asyncio
import secrets

__all__ = ["pause_by_lot"]

_BETWEEN_S = (0.001, 0.008)

_uniform = secrets.SystemRandom().uniform  # not seeded: processes that were forked draw different lots


async def pause_by_lot(times: int = 1, between_s: tuple[float, float] = _BETWEEN_S) -> None:
    """Wait so many times as long as the lot says, which is 1 to 8 ms unless told otherwise."""
    await asyncio.sleep(_uniform(*between_s) * times)

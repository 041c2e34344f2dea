"""What somebody may have meant whose key or session is not there. What is asked for it may fail, and not take long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, TypeVar

from keyproviders import KeyProviderError, redact_frames

from .._support.similar import did_you_mean
from ..errors import StoreError
from .errors import silence_loggers

if TYPE_CHECKING:
    from ..stores.whole import WholeStore

__all__ = ["kid_of_places", "kid_of_store", "session_of_store"]

#: So long somebody waits for a hint.
_WAIT_S = 2.0

#: So much of a store is looked at for one.
_SESSIONS, _ROWS = 100, 500

#: As much of a session's id is taken for right.
_SURE = 3

_T = TypeVar("_T")


@redact_frames
def kid_of_places(given: str, places: Sequence[str]) -> str:
    """The kid that may have been meant, in words, of the keys that these places have."""

    async def kids() -> list[str]:
        from keyproviders import KeyRing  # noqa: PLC0415 - `--help` needs no ring

        found: list[str] = []
        async with AsyncExitStack() as stack:
            for place in dict.fromkeys(places):
                with suppress(KeyProviderError, asyncio.TimeoutError):
                    ring = KeyRing.from_url(place)
                    stack.push_async_callback(ring.aclose)
                    found += await asyncio.wait_for(ring.kids(), _WAIT_S)
                    found.append((await asyncio.wait_for(ring.active(), _WAIT_S)).kid)
        return found

    silence_loggers("keyproviders")
    return did_you_mean(given, asyncio.run(kids()))


@redact_frames
def kid_of_store(given: str, store: WholeStore) -> str:
    """The same, of the keys that the first rows of a store name."""

    async def kids() -> set[str]:
        from ..core.envelope import Envelope, parse_row  # noqa: PLC0415 - as in `kid_of_places`
        from ..core.kids import shown_kid  # noqa: PLC0415 - likewise

        async with store:
            ids = await store.session_ids("", None, _SESSIONS)
            rows = await store.rows_of_sessions(ids, None, _ROWS)
        labels = [parse_row(row.data) for row in rows if row.unread is None]
        named = {shown_kid(label.kid) for label in labels if isinstance(label, Envelope)}
        return {kid for kid in named if kid is not None}

    silence_loggers("encrypted_sessions")
    return did_you_mean(given, asyncio.run(_soon(kids(), set())))


async def session_of_store(given: str, store: WholeStore) -> str:
    """The session that may have been meant, in words, of those of an open store that begin in the same way."""
    return did_you_mean(given, await _soon(store.session_ids(given[:_SURE], None, 1_000), []))


async def _soon(answer: Awaitable[_T], otherwise: _T) -> _T:
    with suppress(StoreError, OSError, asyncio.TimeoutError):
        return await asyncio.wait_for(answer, _WAIT_S)
    return otherwise

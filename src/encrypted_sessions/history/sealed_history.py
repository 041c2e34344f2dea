"""A store with sealed rows, and the keys to them: what reading, popping and compaction work on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ..core.envelope import pack
from ..errors import HistoryChangedError
from ..stores import Cursor, HistoryMovedError, PlainStore, RowStore
from .keychain import Keychain
from .reading import Classifier, ReadPolicy, Scan, TimeSlice, scan

#: How often an operation starts again because other writers changed the history under it.
_ATTEMPTS = 1000

_T = TypeVar("_T")


class SealedStore:
    """One session's rows and keys, and the policy by which they are read."""

    def __init__(
        self,
        session: Any,
        rows: RowStore | PlainStore,
        keychain: Keychain,
        policy: Callable[[], ReadPolicy],
    ) -> None:
        self.session = session
        self.rows = rows
        self.keychain = keychain
        self.policy = policy

    def cursor(self, keywords: dict[str, Any]) -> Cursor:
        """A walk from the newest row. `keywords` go to a session's own methods."""
        if isinstance(self.rows, PlainStore):
            return self.rows.cursor(keywords)
        return self.rows.cursor()

    def classifier(self) -> Classifier:
        """What tells rows apart, by the policy of this moment."""
        return Classifier(self.keychain, self.policy())

    async def scan(
        self,
        limit: int | None,
        keywords: dict[str, Any],
        *,
        budget: int | None = None,
    ) -> Scan:
        """The latest items and what else was met (`reading.scan`), from one state of the store."""

        async def attempt() -> Scan:
            return await scan(self.cursor(keywords), self.keychain, self.policy(), limit=limit, budget=budget)

        return await start_again_while_it_moves(attempt)

    async def seal(self, items: Sequence[Any], timestamp: int | None = None) -> list[dict[str, Any]]:
        """Envelopes of items under the active key, all with one timestamp (default: now)."""
        kid, cipher = await self.keychain.active()
        stamp = self.policy().now if timestamp is None else timestamp
        time_slice = TimeSlice()
        sealed: list[dict[str, Any]] = []
        for item in items:
            sealed.append(pack(kid, cipher.seal(item, stamp)))
            if time_slice.is_used_up():
                await time_slice.checkpoint()
        return sealed


async def start_again_while_it_moves(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """What `attempt` gives, begun again whenever it raises HistoryMovedError.

    Raises HistoryChangedError when other writers never left it time to finish.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await attempt()
        except HistoryMovedError:
            await asyncio.sleep(0)
    raise HistoryChangedError(
        f"other writers changed the history under each of {_ATTEMPTS} attempts. Nothing was lost;"
        " try again when they are done"
    )

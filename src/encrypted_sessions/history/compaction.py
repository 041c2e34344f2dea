"""What the SDK's compaction does to a history, without plaintext at rest and without loss.

`OpenAIResponsesCompactionSession(session_id, EncryptedSession(...))` looks for three methods on
its underlying session. Automatic compaction takes a snapshot of the newest rows and replaces a
suffix of it; on demand, everything is replaced. Rows that are neither "ok" nor "expired" are never
replaced. What is written carries the times of the newest row that it replaces, so that nothing lives
longer for being summarised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple
from weakref import ref

from keyproviders import redact_frames

from ..core.envelope import Envelope
from ..core.outcomes import Outcome, describe
from ..errors import HistoryChangedError
from ..stores.plain import PlainStore
from ..stores.rows import Row
from .guarded import StoreCalls
from .pairing import unpaired
from .results import Classification, OutcomeCounts
from .sealed_history import SealedHistory, start_again_while_it_moves
from .session_log import SessionLog

__all__ = ["Compaction", "Snapshot"]

logger = logging.getLogger("encrypted_sessions")

#: What compaction may replace.
_REPLACEABLE: tuple[Outcome, ...] = ("ok", "expired")

#: The SDK asks for as many rows as the model saw items; so many expired ones more may lie between.
_EXPIRED_BETWEEN = 1024


# The newest row that a compaction of a session has read. The SDK reads and replaces in one task, and its copies:
# so two compactions of one history do not take each other's word. A session that shows another branch by then
# has another newest row.
_seen: ContextVar[tuple[ref[StoreCalls], Row | None] | None] = ContextVar("_seen", default=None)


class Snapshot(NamedTuple):
    """The newest rows of a history, in the form that the SDK's compaction expects.

    `items` oldest first; `complete` if they are the whole history; `replace_suffix(start, items)`
    puts items in place of `items[start:]`, and answers False when the rows have changed.
    """

    items: list[Any]
    complete: bool
    replace_suffix: Callable[[int, list[Any]], Awaitable[bool]]

    def __repr__(self) -> str:
        return f"Snapshot({len(self.items)} items, complete={self.complete})"


class _ClassifiedRows(NamedTuple):
    """The newest rows with their classifications, oldest first."""

    rows: list[Row]
    classifications: list[Classification]
    complete: bool

    def kept(self) -> int:
        """The number of leading rows that may not be replaced: up to the last unreplaceable one."""
        return max(
            (
                place + 1
                for place, classification in enumerate(self.classifications)
                if classification.outcome not in _REPLACEABLE
            ),
            default=0,
        )

    def visible(self) -> list[int]:
        """Places of the items after the kept rows, as `get_items` returns them.

        Of a part of a history it is not known whether an output's call was left out or lies further
        back: then such an output is shown, and the SDK leaves compaction out.
        """
        places = [place for place, classification in enumerate(self.classifications) if classification.item is not None]
        lost: set[int] = set()
        if self.complete:
            oldest_gap = next(
                (n for n, classification in enumerate(self.classifications) if classification.item is None),
                len(self.rows),
            )
            since = sum(place < oldest_gap for place in places)
            lost = unpaired(self.items(places), since=since)
        kept = self.kept()
        return [place for index, place in enumerate(places) if index not in lost and place >= kept]

    def _item(self, place: int) -> dict[str, object]:
        item = self.classifications[place].item
        assert item is not None  # noqa: S101 - visible() asks for items alone
        return item

    def items(self, places: Sequence[int]) -> list[dict[str, object]]:
        """The items at `places`."""
        return [self._item(place) for place in places]

    def newest(self, start: int = 0) -> Envelope | None:
        """The newest envelope from a place on by its time, the last one of several; None if there is none.

        One that has expired counts only where all have: with its end a summary of the others would be dead at birth.
        """
        found = self.classifications[start:][::-1]
        sealed = [one for one in found if one.envelope is not None]
        in_time = [one for one in sealed if one.outcome == "ok"] or sealed
        return max((one.envelope for one in in_time if one.envelope), key=lambda one: one.timestamp, default=None)

    def counts(self) -> OutcomeCounts:
        """What was met, newest row first."""
        counts = OutcomeCounts()
        for classification in reversed(self.classifications):
            counts.add(classification)
        return counts

    def refuse_unreplaceable(self, log: SessionLog) -> None:
        """Raise UnreadableItemsError if any row may not be replaced."""
        counts = self.counts()
        refused = {name: count for name, count in counts.outcomes().items() if name not in (*_REPLACEABLE, "unpaired")}
        if refused:
            raise log.refusal(
                counts,
                refused,
                consequence="The history was not compacted: nothing was replaced or deleted.",
                ways_out="Compaction replaces only items that it can read, whatever on_unreadable is.",
            )


class Compaction:
    """One session's answers to the SDK's compaction."""

    def __init__(self, history: SealedHistory) -> None:
        self.history = history
        self._adding: asyncio.Task[Any] | None = None

    async def read(
        self, limit: int | None, default_limit: int | None, keywords: dict[str, Any]
    ) -> tuple[list[Any], bool]:
        """Items for the SDK's decision, and whether they are proven to be the whole history.

        Nothing unreadable raises here: automatic compaction is left out then, and the turn goes
        on. Without a limit, `default_limit` counts, as in `get_items`.
        """
        if limit is None:
            seen = await self.history.read(default_limit, keywords)
            _seen.set((ref(self.history.calls), seen.newest))
            return seen.items, False
        classified = await self._classify(limit, keywords)
        if not classified.complete or classified.kept():
            return [], False
        return classified.items(classified.visible()), True

    async def snapshot(self, limit: int) -> Snapshot | None:
        """The newest `limit` items and how to replace a suffix of them; None without row access."""
        rows = self.history.rows
        if isinstance(rows, PlainStore):
            return None
        classified = await self._classify(limit, {})
        places = classified.visible()
        whole = classified.complete and classified.kept() == 0
        if classified.kept():
            logger.warning(
                "compaction keeps rows that cannot be read, and everything older: it replaces only items after"
                " the last such row, starting at a user message (%s)",
                describe(classified.counts().outcomes()),
            )

        @redact_frames
        async def replace_suffix(start: int, output: list[Any]) -> bool:
            if start >= len(places):
                return False
            # Of a whole history nothing stays, not even what expired before its first item.
            first = 0 if start == 0 and whole else places[start]
            expected = classified.rows[first:]
            sealed = await self.history.seal(output, classified.newest(first))
            return await self.history.changes.finish("compaction", rows.replace_tail(expected, sealed))

        return Snapshot(classified.items(places), whole, replace_suffix)

    async def replace_all(self, output: list[Any]) -> bool:
        """Put `output` in place of the whole history. True, or an error and nothing replaced.

        Never False: the SDK would clear the store then.

        Raises UnreadableItemsError for a history with rows that are neither ok nor expired, and
        HistoryChangedError when rows came that the compaction has not seen.
        """
        classified = await self._classify(None, {})
        classified.refuse_unreplaceable(self.history.log)
        newest = classified.rows[-1] if classified.rows else None
        reader, newest_seen = _seen.get() or (None, None)
        if reader is not None and reader() is self.history.calls and newest != newest_seen:
            raise _changed()
        sealed = await self.history.seal(output, classified.newest())
        rows, changes = self.history.rows, self.history.changes
        if isinstance(rows, PlainStore):
            await changes.finish("compaction", self._replace_whole(classified.rows, sealed))
        elif not await changes.finish("compaction", rows.replace_tail(classified.rows, sealed)):
            raise _changed()
        return True

    async def _replace_whole(self, old: list[Row], sealed: list[dict[str, Any]]) -> None:
        """Clear and add, and put the old rows back if adding fails."""
        store = self.history.store
        if await store.replace_items(sealed):
            return
        await store.clear_session()
        try:
            if sealed:
                self._adding = asyncio.current_task()
                try:
                    await store.add_items(sealed)
                finally:
                    self._adding = None
        except BaseException:
            if old:
                await store.clear_session()
                await store.add_items([row.data for row in old])
            raise

    def break_off(self) -> None:
        """Cancel the writing of a summary to a store without addressable rows: the old ones are put back."""
        if self._adding is not None:
            self._adding.cancel()

    async def _classify(self, limit: int | None, keywords: dict[str, Any]) -> _ClassifiedRows:
        """Rows from the newest on, until `limit` of them are items or there are no more."""
        return await start_again_while_it_moves(lambda: self._classify_once(limit, keywords))

    async def _classify_once(self, limit: int | None, keywords: dict[str, Any]) -> _ClassifiedRows:
        walk = self.history.walk(keywords)
        rows: list[Row] = []
        classifications: list[Classification] = []
        found = 0
        while not walk.is_complete() and (limit is None or (found < limit and len(rows) < limit + _EXPIRED_BETWEEN)):
            for row, classification in await walk.advance(None if limit is None else limit - found):
                rows.append(row)
                classifications.append(classification)
                found += classification.item is not None
        complete = await walk.ends_here()
        return _ClassifiedRows(rows[::-1], classifications[::-1], complete)


def _changed() -> HistoryChangedError:
    return HistoryChangedError(
        "the history changed while it was being compacted; nothing was replaced. Run the compaction again"
    )
